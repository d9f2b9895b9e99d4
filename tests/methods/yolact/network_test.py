"""Tests of solo_jax/methods/yolact/network.py."""

import functools

import jax
import numpy as np
import pytest
from scene import (
  assert_close,
  kind,
  make_network,
  make_variables,
  side,
)

from solo_jax import types
from solo_jax.inference.instances import masks_to_original
from solo_jax.inference.preparation import Preparation
from solo_jax.methods.regions.box_coding import decode
from solo_jax.methods.yolact.detections import CODE_WEIGHTS


def run(golden):
  """Returns predictions and detections for the fixture's own input."""
  network = make_network(golden)
  variables = make_variables(golden, network)
  size = side(golden)

  def everything(x):
    def forward(module, x):
      features = module.backbone(x, train=False)
      pyramid = module.pyramid(features[1:])
      predictions = module.head(features, (size, size))
      image_size = np.full((1, 2), size)
      return (
        pyramid,
        predictions,
        module.detect(predictions, image_size, (size, size)),
      )

    return network.apply(variables, x, method=forward)

  x = golden["net_input"].transpose(0, 2, 3, 1).astype(np.float32)
  return jax.jit(everything)(x)


@pytest.mark.golden("yolact_*_model.npz")
def test_fixture(golden):
  """From the network input to detections and masks."""
  pyramid, predictions, outputs = run(golden)
  for level, actual in enumerate(pyramid):
    expected = golden[f"fpn_{level}"].transpose(0, 2, 3, 1)
    # Rounding of 50 layers reaches 6e-5, 1.1e-4 with JAX 0.12.
    assert_close(actual, expected, 1e-4, f"fpn_{level}")
  check = check_mmdet if kind(golden) == "mmdet" else check_original
  check(golden, predictions, outputs)
  check_masks(golden, outputs)


def check_original(golden, predictions, outputs):
  size = side(golden)
  assert_close(predictions.class_logits, golden["conf"], 5e-5, "conf")
  assert_close(predictions.box_codes, golden["loc"], 5e-5, "loc")
  assert_close(predictions.coefficients, golden["mask"], 5e-5, "mask")
  assert_close(predictions.prototypes[0], golden["proto"], 1e-4, "proto")
  x, y, w, h = (golden["priors"] * size).T
  corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
  np.testing.assert_allclose(predictions.priors, corners, atol=1e-4)

  found = jax.tree.map(lambda x: np.asarray(x[0]), outputs.detections)
  assert found.valid.all()
  np.testing.assert_array_equal(found.labels, golden["det_labels"])
  boxes = golden["det_boxes"] * size
  np.testing.assert_allclose(found.boxes_xyxy, boxes, atol=1e-3 * size)
  assert_close(found.coefficients, golden["det_coeffs"], 1e-4)
  scores = golden.arrays.get("out_mask_scores", golden["det_scores"])
  assert_close(found.scores, scores, 1e-4, "scores")


def check_mmdet(golden, predictions, outputs):
  for name, actual in (
    ("cls", np.roll(predictions.class_logits, -1, axis=-1)),
    ("reg", predictions.box_codes),
    ("coeff", predictions.coefficients),
  ):
    maps = [golden[f"{name}_{i}"].transpose(0, 2, 3, 1) for i in range(5)]
    expected = [x.reshape(1, -1, actual.shape[-1]) for x in maps]
    assert_close(actual, np.concatenate(expected, axis=1), 2e-4, name)
  expected = golden["proto"].transpose(0, 2, 3, 1)
  assert_close(predictions.prototypes, expected, 1e-4, "proto")
  expected = golden["segm"].transpose(0, 2, 3, 1)
  assert_close(predictions.semantic_logits, expected, 1e-4, "segm")
  priors = np.concatenate([golden[f"anchors_{i}"] for i in range(5)])
  np.testing.assert_allclose(predictions.priors, priors, atol=1e-3)
  found = jax.tree.map(lambda x: np.asarray(x[0]), outputs.detections)
  count = len(golden["out_scores"])
  assert found.valid.sum() == count
  np.testing.assert_array_equal(found.labels[:count], golden["out_labels"])
  assert_close(found.scores[:count], golden["out_scores"], 1e-4, "scores")
  assert_close(found.coefficients[:count], golden["out_coeffs"], 1e-4)
  height, width = golden.config["original_hw"]
  scale = np.array([width, height, width, height]) / side(golden)
  np.testing.assert_allclose(
    found.boxes_xyxy[:count] * scale, golden["out_boxes"], atol=1e-2
  )


def check_masks(golden, outputs):
  """At the original size, by one resize: 138 / 36 px per cell."""
  packed, size = golden["out_masks_packed"], golden.config["original_hw"]
  bits = np.unpackbits(packed, axis=1)[:, : size[0] * size[1]]
  expected = bits.reshape(-1, *size).astype(bool)
  padded_size = (side(golden),) * 2
  found, _ = masks_to_original(
    types.FrameMasks(
      probs=np.asarray(outputs.mask_probs[0, : len(packed)]), resize="direct"
    ),
    padded_size=padded_size,
    image_size=padded_size,
    original_size=tuple(size),
    threshold=0.5,
  )
  assert (found != expected).mean() < 0.002


@pytest.mark.golden("yolact_original_*_model.npz")
def test_input_is_stretched_as_published(golden):
  """Within a grey level: OpenCV's bytes in place of torch's floats."""
  size = side(golden)
  rule = dict(short_side=size, max_side=size, keep_aspect=False)
  rule |= dict(pad_multiple=1, interpolation="bilinear", tile_size=None)
  image = Preparation(rule, (1.0,))(0, golden["image_rgb"]).images[0]
  network = make_network(golden)
  x = (image - np.array(network.mean)) / np.array(network.std)
  expected = golden["net_input"][0].transpose(1, 2, 0)
  assert np.abs(x - expected).max() < 1.01 / min(network.std)


def test_code_weights_are_the_published_variances():
  prior = np.array([10.0, 20, 30, 60], "f")
  code = np.array([1.0, -2, 3, 0.5], "f")
  decoded = functools.partial(decode, log_clamp="both")(
    code, prior, CODE_WEIGHTS
  )
  x, y = 20 + 1 * 0.1 * 20, 40 - 2 * 0.1 * 40
  w, h = 20 * np.exp(3 * 0.2), 40 * np.exp(0.5 * 0.2)
  np.testing.assert_allclose(
    decoded, [x - w / 2, y - h / 2, x + w / 2, y + h / 2], rtol=1e-5
  )
