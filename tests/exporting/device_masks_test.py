"""Tests of solo_jax/exporting/device_masks.py against the host."""

import functools

import cv2
import jax
import numpy as np
import pytest

from solo_jax import types
from solo_jax.exporting import device_masks
from solo_jax.inference import box_masks
from solo_jax.inference.instances import masks_to_original
from solo_jax.inference.masks import direct_axis_weights

CANVAS, PADDED = (150, 160), (72, 100)


@functools.cache
def compiled_masks():
  return jax.jit(
    functools.partial(
      device_masks.masks_to_canvas,
      canvas_size=CANVAS,
      padded_size=PADDED,
      threshold=0.5,
    )
  )


@pytest.mark.parametrize(
  ("original", "resized", "cells", "resize"),
  [
    ((150, 160), (64, 68), (18, 25), "padded"),
    ((40, 50), (58, 72), (18, 25), "padded"),
    ((33, 97), (33, 97), (18, 25), "padded"),
    ((150, 160), (64, 68), (17, 31), "direct"),
    ((33, 97), (72, 100), (17, 31), "direct"),
  ],
)
def test_masks_equal_those_of_the_host(original, resized, cells, resize):
  rng = np.random.default_rng(0)
  probs = rng.random((5, *cells), dtype=np.float32)
  probs = cv2.GaussianBlur(probs.transpose(1, 2, 0), (0, 0), 1.5)
  probs = np.ascontiguousarray(probs.transpose(2, 0, 1))
  probs[3] = 0.4  # an empty mask
  valid = np.array([True, True, True, True, False])
  packed, boxes = compiled_masks()(
    types.FrameMasks(probs=probs, resize=resize),
    valid,
    np.array(resized),
    np.array(original),
  )
  masks = np.unpackbits(np.asarray(packed), axis=2).astype(bool)
  expected, expected_boxes = masks_to_original(
    types.FrameMasks(probs=probs[:4], resize=resize),
    padded_size=PADDED,
    image_size=resized,
    original_size=original,
    threshold=0.5,
  )
  assert expected[:3].any((1, 2)).all() and not expected[3].any()
  height, width = original
  np.testing.assert_array_equal(masks[:4, :height, :width], expected)
  np.testing.assert_array_equal(boxes[:4], expected_boxes)
  assert masks.sum() == expected.sum()  # nothing beyond, nothing not valid
  assert not np.asarray(boxes[4]).any()


def test_taps_of_long_images_equal_those_of_the_host():
  """Products of all four lengths exceed 32 bits."""
  num_pixels, num_cells, padded = 400_000, 138, 550
  cells, weights = jax.jit(
    device_masks.FRAME_TAPS["direct"], static_argnums=(0, 1, 2)
  )(num_pixels, num_cells, padded, 550, num_pixels)
  expected = direct_axis_weights(
    num_cells,
    padded_length=padded,
    image_length=550,
    original_length=num_pixels,
  )
  position = np.sum(np.float64(cells) * weights, axis=0)
  host = expected.first * expected.taps[:, 0]
  host = host + expected.last * expected.taps[:, 1]
  np.testing.assert_allclose(position, host, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", box_masks.RULES)
@pytest.mark.parametrize(
  ("original", "resized"),
  [((150, 160), (64, 68)), ((40, 50), (58, 72)), ((33, 97), (33, 97))],
)
def test_box_masks_equal_those_of_the_host(rule, original, resized):
  """Boxes inside, across the edges, outside, and below a pixel."""
  rng = np.random.default_rng(0)
  height, width = resized
  boxes = rng.uniform(-0.2, 0.8, (40, 4)) * [width, height, width, height]
  boxes[:, 2:] = boxes[:, :2] + rng.uniform(0.3, 60, (40, 2))
  boxes[-1] = (width + 30, 2, width + 40, 12)
  masks = types.BoxMasks(
    probs=rng.random((40, 9, 9), np.float32),
    boxes_xyxy=boxes.astype(np.float32),
    paste=rule,
  )
  packed, tight = compiled_masks()(
    masks, np.ones(40, bool), np.array(resized), np.array(original)
  )
  found = np.unpackbits(np.asarray(packed), axis=2).astype(bool)
  expected, expected_tight = masks_to_original(
    masks,
    padded_size=PADDED,
    image_size=resized,
    original_size=original,
    threshold=0.5,
  )
  assert expected.any((1, 2)).sum() > 20 and not expected[-1].any()
  inside = found[:, : original[0], : original[1]]
  assert found.sum() == inside.sum()  # nothing beyond the image
  # A pixel may be within rounding of the threshold.
  assert (inside != expected).sum() <= 3
  is_same = (inside == expected).all((1, 2))
  np.testing.assert_array_equal(tight[is_same], expected_tight[is_same])


def test_boxes_to_original():
  boxes = np.float32([[4, 6, 20, 30], [0, 0, 30, 40]])
  found = device_masks.boxes_to_original(
    boxes, np.array([40, 30]), np.array([80, 90])
  )
  np.testing.assert_array_equal(found, [[12, 12, 60, 60], [0, 0, 90, 80]])
  np.testing.assert_array_equal(
    box_masks.boxes_to_original(boxes, (40, 30), (80, 90)), found
  )
