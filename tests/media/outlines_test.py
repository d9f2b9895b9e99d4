"""Tests of solo_jax/media/outlines.py."""

import re

import cv2
import numpy as np
import pytest

from solo_jax.evaluation import rle
from solo_jax.media import outlines


def encode(mask):
  (encoded,) = rle.encode(mask[None])
  return encoded


def fill(path, size):
  """Fills an outline of `trace` as a browser does, by the even-odd rule."""
  drawn = np.zeros(size, np.uint8)
  for part in re.findall("M[^z]*z", path):
    start, _, steps = part[1:-1].partition("l")
    points = np.array([start.split(), *np.array(steps.split()).reshape(-1, 2)])
    line = np.cumsum(points.astype(int), axis=0)
    layer = np.zeros(size, np.uint8)
    cv2.fillPoly(layer, [line.astype(np.int32)], 1)
    drawn ^= layer
  return drawn.astype(bool)


@pytest.mark.parametrize("unit", [1, 4])
def test_an_outline_encloses_the_mask_and_its_hole(unit):
  rows, columns = np.mgrid[:100, :120]
  radius = np.hypot(rows - 45, columns - 70)
  ring = (radius < 40) & (radius > 15)
  (traced,) = outlines.trace([encode(ring)], (100, 120), unit)
  inside = fill(traced.path, (100 * unit, 120 * unit))
  large = ring.repeat(unit, 0).repeat(unit, 1)
  assert (inside & large).sum() / (inside | large).sum() > 0.95
  assert not inside[45 * unit, 70 * unit]
  left, top, width, height = traced.box
  assert (left, top) == (31 * unit, 6 * unit)
  assert (width, height) == (79 * unit, 79 * unit)
  x, y = traced.deepest
  assert large[y, x]
  depth = np.hypot(y / unit - 45, x / unit - 70)
  assert depth == pytest.approx(27.5, abs=1.5)


def test_the_edge_of_the_image_and_small_masks():
  mask = np.zeros((10, 12), bool)
  assert outlines.trace([encode(mask)], (10, 12), 4)[0].path == ""
  mask[9, 11] = True
  assert outlines.trace([encode(mask)], (10, 12), 1)[0].path == "M11 9z"
  mask[:] = True
  (traced,) = outlines.trace([encode(mask)], (10, 12), 1)
  assert fill(traced.path, (10, 12)).all()


def test_the_deepest_point_is_not_covered_by_another_mask():
  """The middle of a table is below the plate on it."""
  table = np.ones((60, 80), bool)
  plate = np.zeros((60, 80), bool)
  plate[5:55, 10:60] = True
  below, above = outlines.trace([encode(table), encode(plate)], (60, 80), 1)
  x, y = below.deepest
  assert not plate[y, x]
  x, y = above.deepest
  assert plate[y, x]
  twins = outlines.trace([encode(plate)] * 2, (60, 80), 1)
  assert twins[0].deepest == twins[1].deepest
  assert outlines.trace([], (60, 80), 1) == []
