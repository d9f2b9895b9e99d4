"""Tests of solo_jax/methods/mask2former/decode.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from solo_jax.methods.mask2former.decode import decode, mask_quality
from solo_jax.methods.mask2former.network import Outputs
from solo_jax.nn.resize import interpolation_matrix


@pytest.mark.golden("m2f_postprocess*.npz")
def test_fixture(golden):
  config = golden.config
  things = config["num_things" if config["panoptic_on"] else "num_classes"]
  outputs = Outputs(
    *(
      (jnp.asarray(golden[name], jnp.float32)[None],)
      for name in ("class_logits", "mask_logits")
    )
  )
  found = jax.jit(
    functools.partial(
      decode, things=range(things), max_detections=config["top_k"]
    )
  )(outputs, jnp.asarray([config["valid_hw"]]))
  count = int(found.valid.sum())
  # Of the input's size, scores are near those of the image's own.
  order = golden["order_by_score"]
  expected = golden["instance_scores"][order]
  assert count == np.count_nonzero(expected)
  np.testing.assert_allclose(
    found.scores[0, :count], expected[:count], atol=0.02
  )
  # The masks are those of the fixture, resized in the published two steps.
  rows, columns = (
    interpolation_matrix(valid, original)
    @ interpolation_matrix(padded // 4, padded)[:valid]
    for padded, valid, original in zip(
      config["padded_hw"],
      config["valid_hw"],
      config["original_hw"],
      strict=True,
    )
  )
  masks = np.einsum("yh,mhw,xw->myx", rows, found.masks.probs[0], columns) > 0.5
  expected = golden.masks("instance_masks_packed", config["original_hw"])
  labels = golden["instance_labels"]
  # Scores that are close may change places: each mask must be among those of
  # its label.
  for mask, label in zip(masks[:count], found.labels[0], strict=False):
    errors = [np.mean(mask != other) for other in expected[labels == label]]
    assert min(errors) <= 1e-3


def test_mask_quality_is_the_mean_inside_mask_and_image():
  rng = np.random.default_rng(0)
  logits = 3 * rng.standard_normal((2, 3, 4, 6)).astype("f")
  logits[0, 1] = -1
  sizes = np.asarray([[16, 24], [10, 17]])
  quality = mask_quality(jnp.asarray(logits), jnp.asarray(sizes))
  rows, columns = interpolation_matrix(4, 16), interpolation_matrix(6, 24)
  for b, (height, width) in enumerate(sizes):
    pixels = np.einsum("yh,qhw,xw->qyx", rows, logits[b], columns)
    pixels = pixels[:, :height, :width]
    for q, x in enumerate(pixels):
      expected = expit(x[x > 0]).mean() if (x > 0).any() else 0
      np.testing.assert_allclose(quality[b, q], expected, atol=1e-5)


def test_stuff_is_dropped_after_the_best_were_chosen():
  # Stuff (class 1) takes one of the two places.
  outputs = Outputs(
    class_logits=(jnp.asarray([[[1.0, 5.0, 0.0], [0.0, -9.0, 0.0]]]),),
    mask_logits=(jnp.full((1, 2, 2, 2), 3.0),),
  )
  found = decode(
    outputs, jnp.asarray([[8, 8]]), things=range(1), max_detections=2
  )
  np.testing.assert_array_equal(found.valid, [[True, False]])
  np.testing.assert_array_equal(found.labels, 0)
  np.testing.assert_allclose(found.scores[0, 0], 0.5 * expit(3), rtol=1e-4)
