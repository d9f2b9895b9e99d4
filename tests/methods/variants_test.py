"""Tests of solo_jax/methods/variants.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.methods.variants import (
  Variant,
  axis_weights,
  box_masks_to_frame,
  boxes_to_frame,
  to_frame,
)


def compute(function, *args, **kwargs):
  """Compiled whole: one by one, each operation costs more than its sums."""
  return jax.jit(functools.partial(function, *args, **kwargs))()


def variant(image_size, padded_size, is_mirrored=False):
  return Variant(
    outputs=None,
    image_size=jnp.array(image_size),
    padded_size=padded_size,
    is_mirrored=is_mirrored,
  )


def test_the_same_axis_is_left_as_it_is():
  weights = compute(axis_weights, 6, 5.0, 6, 5.0, is_reversed=False)
  np.testing.assert_allclose(weights[:5], np.eye(6)[:5], atol=1e-6)
  np.testing.assert_array_equal(weights[5], np.zeros(6))  # padding


def test_mirrored_weights_stay_within_the_valid_cells():
  weights = compute(axis_weights, 6, 4.0, 6, 4.0, is_reversed=True)
  np.testing.assert_allclose(weights[:4], np.eye(6)[[3, 2, 1, 0]], atol=1e-6)
  # 3.5 cells: cell 0, [0, 1], is mirrored to [2.5, 3.5], half of cells 2 and 3.
  weights = compute(axis_weights, 6, 3.5, 6, 3.5, is_reversed=True)
  np.testing.assert_allclose(weights[0], [0, 0, 0.5, 0.5, 0, 0], atol=1e-6)


def test_enlarging_interpolates():
  values = np.random.default_rng(0).normal(size=7)
  weights = compute(axis_weights, 7, 7.0, 15, 15.0, is_reversed=False)
  expected = np.interp((np.arange(15) + 0.5) * 7 / 15 - 0.5, range(7), values)
  np.testing.assert_allclose(weights @ values, expected, atol=1e-5)


def test_shrinking_averages():
  """Each cell counts alike, so nothing small is lost."""
  weights = compute(axis_weights, 12, 12.0, 4, 4.0, is_reversed=False)
  np.testing.assert_allclose(weights.sum(0)[3:-3], 1 / 3, atol=0.02)
  assert (np.asarray(weights).sum(0) > 0.1).all()


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_a_place_of_the_image_stays_where_it_is(scale, is_mirrored):
  """Maps of coordinates, in shares of the image, come out as such."""
  frame = variant((50, 70), (64, 96))
  size = round(50 * scale), round(70 * scale)
  padded = tuple(-(-side // 32) * 32 for side in size)
  other = variant(size, padded, is_mirrored)
  y = (np.arange(padded[0] // 4) + 0.5) * 4 / size[0]
  x = (np.arange(padded[1] // 4) + 0.5) * 4 / size[1]
  if is_mirrored:
    x = 1 - x
  maps = np.stack(np.meshgrid(y, x, indexing="ij"))  # rows, columns
  rows, columns = compute(to_frame, jnp.asarray(maps), other, frame, (16, 24))
  expected_rows = (np.arange(16) + 0.5) * 4 / 50
  expected_columns = (np.arange(24) + 0.5) * 4 / 70
  cell = np.array([4 / 50, 4 / 70])
  inner = slice(2, 11), slice(2, 15)  # away from the edges of the maps
  errors = (
    rows[inner] - expected_rows[inner[0], None],
    columns[inner] - expected_columns[None, inner[1]],
  )
  for error, length in zip(errors, cell, strict=True):
    assert np.abs(error).max() < 0.1 * length
  assert not rows[13:].any() and not rows[:, 18:].any()


def test_boxes_by_hand():
  """Twice as high and three times as wide, then mirrored in 70 columns."""
  boxes = jnp.array([[2.0, 3.0, 10.0, 20.0]])
  frame = variant((50, 60), (64, 64))
  other = variant((100, 180), (128, 192))
  np.testing.assert_allclose(
    compute(boxes_to_frame, boxes, frame, other), [[6, 6, 30, 40]]
  )
  np.testing.assert_allclose(
    compute(boxes_to_frame, boxes, frame, variant((50, 60), (64, 64), True)),
    [[50, 3, 58, 20]],
  )
  np.testing.assert_allclose(
    compute(
      boxes_to_frame, boxes, frame, variant((100, 180), (128, 192), True)
    ),
    [[150, 6, 174, 40]],
  )


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_box_masks_there_and_back(is_mirrored):
  rng = np.random.default_rng(0)
  masks = types.BoxMasks(
    probs=jnp.asarray(rng.random((5, 7, 7), np.float32)),
    boxes_xyxy=jnp.asarray(rng.uniform(0, 60, (5, 4)), jnp.float32),
    paste="torchvision",
  )
  frame = variant((50, 70), (64, 96), is_mirrored)
  other = variant((81, 133), (96, 160))
  there = compute(box_masks_to_frame, masks, frame, other)
  is_same = (np.asarray(there.probs) == np.asarray(masks.probs)).all()
  assert is_same != is_mirrored and there.paste == "torchvision"
  if is_mirrored:  # cells run the other way within their box
    np.testing.assert_array_equal(there.probs[:, :, 0], masks.probs[:, :, 6])
  back = compute(box_masks_to_frame, there, other, frame)
  np.testing.assert_array_equal(back.probs, masks.probs)
  np.testing.assert_allclose(back.boxes_xyxy, masks.boxes_xyxy, atol=1e-4)
