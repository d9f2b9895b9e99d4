"""Tests of solo_jax/data/mosaic.py."""

import dataclasses

import numpy as np

from solo_jax.data.mosaic import Mosaic, join_four
from tests.drawn_samples import make_drawn


def test_four_windows_by_hand():
  """Quarters meet at (12, 16) of 32 x 40; the second part is too small."""
  parts = [
    make_drawn(10, [(0, 0, 4, 4), (14, 10, 30, 30), (34, 20, 38, 24)]),
    make_drawn(20, [(0, 0, 6, 8)], size=(8, 10), first_id=10),
    make_drawn(30, [(5, 5, 9, 9)], first_id=20, crowds=[0]),
    make_drawn(40, [(39, 31, 40, 32)], first_id=30),
  ]
  out = join_four(parts, (32, 40), (12, 16), [(8, 2), (0, 0), (0, 4), (12, 16)])
  assert out.image_id == 0 and out.image_size == out.masks.size == (32, 40)
  expected = np.zeros((32, 40), int)
  expected[:12, :16], expected[12:, :16], expected[12:, 16:] = 10, 30, 40
  expected[4:12, 16:26] = 20  # next to the centre, black around it
  np.testing.assert_array_equal(out.image[..., 1], expected)
  # Part 0 shows rows 8 to 19, columns 2 to 17: its first and last are outside,
  # 4 x 10 of its second are left.
  np.testing.assert_array_equal(out.labels, [1, 10, 20, 30])
  np.testing.assert_array_equal(out.annotation_ids, [1, 10, 20, 30])
  np.testing.assert_array_equal(out.is_crowd, [False, False, True, False])
  boxes = [(12, 2, 16, 12), (16, 4, 22, 12), (1, 17, 5, 21), (39, 31, 40, 32)]
  np.testing.assert_array_equal(out.boxes_xyxy, boxes)
  np.testing.assert_array_equal(out.areas, [40, 48, 16, 1])
  for mask, (left, top, right, bottom) in zip(
    out.masks.to_dense(), boxes, strict=True
  ):
    drawn = np.zeros((32, 40), bool)
    drawn[top:bottom, left:right] = True
    np.testing.assert_array_equal(mask, drawn)


def test_maps_of_stuff_are_cut_like_the_images():
  parts = [
    dataclasses.replace(
      make_drawn(grey, []), stuff=np.full((32, 40), grey, np.uint8)
    )
    for grey in (1, 2, 3, 4)
  ]
  out = join_four(parts, (32, 40), (8, 30), [(0, 0)] * 4)
  np.testing.assert_array_equal(out.stuff, out.image[..., 0])
  assert not len(out.labels) and out.boxes_xyxy.shape == (0, 4)


def test_every_pixel_is_of_the_right_object():
  """A mask and the pixels below it come from the same image."""
  rng = np.random.default_rng(0)

  def draw():
    grey = int(rng.integers(10, 250))
    left, top = rng.integers(0, 24, 2)
    box = (left, top, left + 12, top + 8)
    drawn = make_drawn(5, [box], first_id=grey)
    drawn.image[top : top + 8, left : left + 12] = grey
    return drawn

  mosaic = Mosaic(image_size=(32, 40), probability=1.0)
  numbers = []
  for _ in range(30):
    out = mosaic(draw(), rng, draw)
    numbers.append(len(out.labels))
    masks = out.masks.to_dense()
    for mask, label, area in zip(masks, out.labels, out.areas, strict=True):
      assert mask.sum() == area
      np.testing.assert_array_equal(out.image[mask], label)
    assert (out.image[~masks.any(0)] <= 5).all()
  assert 1 < np.mean(numbers) < 4


def test_probability_zero_keeps_the_sample():
  sample = make_drawn(10, [(0, 0, 4, 4)])
  mosaic = Mosaic(image_size=(32, 40), probability=0.0)
  assert mosaic(sample, np.random.default_rng(0), None) is sample
