"""Tests of solo_jax/data/ssd.py."""

import colorsys
import dataclasses

import numpy as np

from solo_jax.data import batching, ssd, transforms
from solo_jax.data.ssd import Distort, Window
from tests.data.transforms_test import make_sample

SIZE = (60, 60)


def with_box(sample, box):
  mask = np.zeros((1, *sample.original_size), bool)
  left, top, right, bottom = box
  mask[0, top:bottom, left:right] = True
  return dataclasses.replace(
    sample,
    masks=mask,
    labels=np.zeros(1, np.int32),
    areas=np.ones(1),
    boxes_xyxy=np.array([box], float),
    is_crowd=np.zeros(1, bool),
    annotation_ids=np.arange(1),
  )


class Fixed:
  """A generator whose draws are given."""

  def __init__(self, *draws):
    self._draws = list(draws)

  def random(self, size=None):
    return self._next(size)

  def uniform(self, low, high, size=None):
    return low + (high - low) * self._next(size)

  def integers(self, number):
    return self._draws.pop(0) % number

  def _next(self, size):
    value = self._draws.pop(0)
    return value if size is None else np.full(size, value)


def test_a_canvas_twice_as_large_has_the_mean_colour():
  """48 x 64 in the middle of a canvas, stretched to 60 x 60: 30 x 30 of it."""
  sample = with_box(make_sample(), (0, 0, 64, 48))
  out = Window(image_size=SIZE, largest=3.0)(sample, Fixed(0.0, 0.5, 0.5, 0))
  assert out.image_size == SIZE
  image = batching.render_image(out, image_size=SIZE, interpolation="bilinear")
  assert (image[:15] == batching.OUTSIDE).all()
  assert (image[:, 45:] == batching.OUTSIDE).all()
  small = transforms.resized(sample, (30, 30))
  inner = batching.render_image(
    small, image_size=(30, 30), interpolation="bilinear"
  )
  np.testing.assert_array_equal(image[15:45, 15:45], inner)
  rendered = batching.render_sample(out, interpolation="bilinear")
  mask = np.zeros(SIZE, bool)
  mask[15:45, 15:45] = True
  np.testing.assert_array_equal(np.asarray(rendered.masks[0]), mask)
  np.testing.assert_allclose(rendered.boxes_xyxy, [[15, 15, 45, 45]])


def test_mirrored_canvas():
  sample = make_sample()
  mirrored = transforms.flipped(sample, horizontal=True, vertical=False)
  images = [
    batching.render_image(
      Window(image_size=SIZE, largest=3.0)(x, Fixed(0.0, 0.5, 0.5, 0)),
      image_size=SIZE,
      interpolation="bilinear",
    )
    for x in (sample, mirrored)
  ]
  np.testing.assert_array_equal(images[0][:, ::-1], images[1])


def test_windows_overlap_the_object():
  """Whatever is drawn can be rendered; some windows cut the object."""
  sample = with_box(make_sample(), (20, 10, 50, 40))
  window, rng = Window(image_size=SIZE, largest=2.0), np.random.default_rng(0)
  shares = []
  for _ in range(200):
    out = window(sample, rng)
    (left, top, right, bottom) = transforms.boxes_in_frame(out)[0]
    batching.render_image(out, image_size=SIZE, interpolation="bilinear")
    shown = max(0, min(right, 60) - max(left, 0)) * max(
      0, min(bottom, 60) - max(top, 0)
    )
    shares.append(shown / (right - left) / (bottom - top))
  assert np.mean(np.array(shares) == 1) > 0.3
  assert np.mean(np.array(shares) < 1) > 0.1


def test_a_wanted_overlap_is_met():
  """Index 3 of OVERLAPS is 0.7: windows have at least that IoU."""
  sample = with_box(make_sample(), (2, 2, 60, 46))
  rng = np.random.default_rng(0)
  boxes = sample.boxes_xyxy
  size = np.array(sample.image_size, float)
  fixed = type(
    "Third", (), dict(integers=lambda self, n: 3, uniform=rng.uniform)
  )()
  for _ in range(20):
    start, sides = ssd._draw_window(np.zeros(2), size, boxes, fixed)
    low, high = (
      np.maximum(start[::-1], boxes[0, :2]),
      np.minimum((start + sides)[::-1], boxes[0, 2:]),
    )
    shared = np.prod(high - low)
    union = np.prod(sides) + 58 * 44 - shared
    assert shared / union >= 0.7 or tuple(sides) == tuple(size)
    assert (start >= 0).all() and (start + sides <= size + 1e-9).all()


def test_colours_by_hand():
  """All draws 0.75 in [0, 1]: 16 brighter, 1.25 x, hue 9 degrees on."""
  sample = make_sample()
  rng = Fixed(*[0.4] * 1, 0.75, 0.75, 0.75, 0.75)
  image = Distort()(sample, rng).image
  for row, column in ((0, 0), (20, 30), (47, 63)):
    r, g, b = np.clip((sample.image[row, column] + 16.0) * 1.25, 0, 255)
    h, s, v = colorsys.rgb_to_hsv(r / 255, g / 255, b / 255)
    wanted = colorsys.hsv_to_rgb((h + 9 / 360) % 1, min(1.25 * s, 1), v)
    np.testing.assert_allclose(
      image[row, column], 255 * np.array(wanted), atol=1
    )


def test_no_distortion_drawn_leaves_the_image_unchanged():
  sample = make_sample()
  image = Distort()(sample, Fixed(0.9, 0.5)).image
  np.testing.assert_array_equal(image, sample.image)
