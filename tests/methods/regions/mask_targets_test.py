"""Tests of solo_jax/methods/regions/mask_targets.py."""

import numpy as np
import pytest

from solo_jax.methods.regions.mask_targets import (
  MaskTargets,
  mask_targets,
  point_targets,
)

BITS = MaskTargets(is_aligned=True, threshold=0.5)
SHARES = MaskTargets(is_aligned=True, threshold=None)


def ellipse(x, y, box):
  x1, y1, x2, y2 = box
  u, v = (x - x1) / (x2 - x1), (y - y1) / (y2 - y1)
  return ((u - 0.5) ** 2 + (v - 0.5) ** 2 <= 0.25).astype(np.float32)


def drawn(frame, box, shape, fine=8):
  """Share of each cell of a grid over `frame` that an ellipse covers."""
  height, width = shape
  at_y = frame[1] + (np.arange(height * fine) + 0.5) * (
    (frame[3] - frame[1]) / (height * fine)
  )
  at_x = frame[0] + (np.arange(width * fine) + 0.5) * (
    (frame[2] - frame[0]) / (width * fine)
  )
  mask = ellipse(at_x[None], at_y[:, None], box)
  return mask.reshape(height, fine, width, fine).mean((1, 3))


def test_left_half_by_hand():
  mask = np.zeros((1, 112, 112), np.float32)
  mask[:, :, :56] = 1
  frame = np.array([[10, 10, 30, 50]], np.float32)
  # The box covers the frame and as much again to the right.
  box = np.array([[10, 10, 50, 50]], np.float32)
  target = mask_targets(mask, frame, box, size=4, rule=BITS)
  np.testing.assert_array_equal(
    target[0], np.repeat([[1.0, 0, 0, 0]], 4, axis=0)
  )


def test_a_grid_over_the_box_gives_what_the_frame_gives():
  rng = np.random.default_rng(0)
  instance = np.array([22.0, 14, 78, 50])
  full = drawn((0, 0, 96, 64), instance, (64, 96))
  own = drawn(instance, instance, (112, 112))
  boxes = (instance + rng.uniform(-6, 6, (5, 4))).astype(np.float32)
  targets = [
    mask_targets(
      np.repeat(grid[None], 5, 0),
      np.repeat(np.asarray(frame, np.float32)[None], 5, 0),
      boxes,
      size=28,
      rule=SHARES,
    )
    for grid, frame in ((full, (0, 0, 96, 64)), (own, instance))
  ]
  # The interpolation between pixels blurs the frame's by up to a pixel.
  difference = np.abs(np.asarray(targets[0]) - np.asarray(targets[1]))
  assert difference.mean() < 0.02
  bits = [np.asarray(x) >= 0.5 for x in targets]
  assert (bits[0] != bits[1]).mean() < 0.02


def test_a_box_next_to_its_instance_and_one_without_area():
  mask = np.ones((2, 8, 8), np.float32)
  frame = np.array([[0, 0, 8, 8]] * 2, np.float32)
  boxes = np.array([[20, 20, 30, 30], [4, 4, 4, 4]], np.float32)
  for rule in (BITS, SHARES):
    target = mask_targets(mask, frame, boxes, size=2, rule=rule)
    assert not np.asarray(target).any()
  # Frames of padding have no area: nothing, at once.
  for rule in (BITS, MaskTargets(is_aligned=False, threshold=None)):
    target = mask_targets(mask, frame * 0, boxes, size=2, rule=rule)
    assert not np.asarray(target).any()
  found = point_targets(mask, frame * 0, boxes[:, None, :2])
  assert np.isfinite(found).all()


def test_points_are_read_between_the_cells():
  mask = np.zeros((1, 2, 2), np.float32)
  mask[0, 0, 1] = 1
  frame = np.array([[10, 10, 14, 14]], np.float32)
  points = np.array([[[13, 11], [12, 11], [13, 12], [14, 11], [16, 11]]])
  found = point_targets(mask, frame, points.astype(np.float32))
  np.testing.assert_allclose(found[0], [1, 0.5, 0.5, 0.5, 0])


@pytest.mark.golden("rcnn_losses*.npz")
def test_fixture(golden):
  config = golden.config
  height, width = config["mask_image_hw"]
  index = golden["mask_gt_index"]
  masks = golden.masks("mask_gt_packed", (height, width))[index]
  frames = np.tile(np.array([0, 0, width, height], np.float32), (len(index), 1))
  for name, rule, atol in (
    ("tv", MaskTargets(is_aligned=False, threshold=None), 1e-5),
    ("mmdet", BITS, 0),
  ):
    found = mask_targets(
      masks.astype(np.float32),
      frames,
      golden["mask_rois"],
      size=config["mask_size"],
      rule=rule,
    )
    np.testing.assert_allclose(found, golden[f"mask_target_{name}"], atol=atol)
