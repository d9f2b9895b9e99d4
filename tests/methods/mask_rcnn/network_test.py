"""Tests of solo_jax/methods/mask_rcnn/network.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.nn.layers import normalize_image
from tests.methods.region_checks import (
  check_detections,
  check_features,
  check_proposals,
  check_stages,
  run,
)
from tests.methods.region_scene import make_scene
from tests.methods.small_regions import make_network


def check_everything(golden, scene, found):
  check_features(golden, scene, found.features, found.raw)
  check_proposals(golden, found.chosen)
  check_stages(golden, found.chosen, found.stages)
  check_detections(golden, scene, found.outputs)


@pytest.mark.golden("model_mask_rcnn_*.npz")
def test_fixture(golden):
  scene = make_scene(golden)
  check_everything(golden, scene, run(scene))


@pytest.mark.golden("model_cascade_*.npz")
def test_fixture_of_a_cascade(golden, pool_by_products):
  scene = make_scene(golden)
  check_everything(golden, scene, run(scene))


@pytest.mark.golden("model_htc_*.npz")
def test_fixture_of_htc(golden, pool_by_products):
  scene = make_scene(golden)
  found = run(scene)
  check_everything(golden, scene, found)  # of the last stage, as mmdet 3.3
  features = found.features
  if features.semantic is not None:
    for name, values in (
      ("semantic_logits", features.semantic_logits),
      ("semantic_feature", features.semantic),
    ):
      np.testing.assert_allclose(
        np.asarray(values).transpose(0, 3, 1, 2), golden[name], atol=1e-4
      )
  # As published: the mean of the stages.
  outputs = mean_of_stages(scene, found)
  stages = [golden[f"stage{i}_mask_logits"] for i in range(3)]
  expected = np.mean([1 / (1 + np.exp(-x)) for x in stages], axis=0)
  valid = np.asarray(outputs.detections.valid)
  np.testing.assert_allclose(outputs.mask_probs[valid], expected, atol=1e-4)


def mean_of_stages(scene, found):
  """The outputs of a pass if the masks of all stages count."""
  known = dict(detect=found.outputs.detections, mask_stages=found.masks)

  def call(network):
    return network.outputs(found.features, scene.image_size, train=False)

  def keep(method, args, kwargs, context):
    return known.get(context.method_name) or method(*args, **kwargs)

  with nn.intercept_methods(keep):
    network = scene.network.clone(mask_scores="mean")
    return nn.apply(call, network)(scene.variables)


@pytest.mark.golden("model_*_mmdet_*.npz")
def test_normalised_input_of_fixture(golden):
  if golden.config["framework"] != "mmdet":
    pytest.skip("holds images at network size for mmdet only")
  preprocess = golden.config["merged"]["data_preprocessor"]
  expected = golden["network_input"].transpose(0, 2, 3, 1)
  images = np.zeros(expected.shape, np.uint8)
  sizes = golden.config["image_sizes"]
  for i, (height, width) in enumerate(sizes):
    # Stored as cv2 reads it, BGR.
    rgb = golden[f"image_{i}"].transpose(1, 2, 0)[..., ::-1]
    images[i, :height, :width] = rgb
  found = normalize_image(
    jnp.asarray(images),
    jnp.asarray(sizes, jnp.int32),
    mean=preprocess["mean"],
    std=preprocess["std"],
    channel_order="rgb" if preprocess["bgr_to_rgb"] else "bgr",
  )
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_unknown_settings_are_refused():
  image, size = jnp.zeros((1, 32, 32, 3), jnp.uint8), jnp.full((1, 2), 32)
  for name in ("mask_heads", "mask_scores", "stage_scores"):
    network = make_network(**{name: "all"})
    with pytest.raises(ValueError, match=f"{name} must be in .*'all'"):
      jax.eval_shape(
        lambda network=network: network.init(
          jax.random.key(0), image, size, train=False
        )
      )
