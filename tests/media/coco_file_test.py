"""Tests of solo_jax/media/coco_file.py; prediction_test.py has the rest."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from solo_jax.media.coco_file import area_of, to_polygons


@pytest.mark.parametrize("width", [0.0, 1.5, 4.0])
def test_polygons_are_the_masks_without_their_holes(width):
  """By pycocotools' rasterisation; width 0: single pixels and corners."""
  noise = np.random.default_rng(0).normal(size=(60, 50))
  noise = ndimage.gaussian_filter(noise, width)
  image = noise > noise.std()
  parts, number = ndimage.label(image)
  assert number > 5
  for value, (rows, columns) in enumerate(ndimage.find_objects(parts), 1):
    mask = parts == value
    polygons = to_polygons(rows, columns, mask[rows, columns])
    drawn = coco_mask.decode(
      coco_mask.merge(coco_mask.frPyObjects(polygons, 60, 50))
    )
    filled = ndimage.binary_fill_holes(mask)
    np.testing.assert_array_equal(drawn, filled)
    assert area_of(polygons) == filled.sum()


def test_a_mask_of_two_parts_has_two_polygons():
  mask = np.zeros((3, 7), bool)
  mask[:2, :2] = mask[1:, 5:] = True
  polygons = to_polygons(slice(10, 13), slice(20, 27), mask)
  assert area_of(polygons) == 8
  corners = [
    sorted(zip(x[::2], x[1::2], strict=True)) for x in sorted(polygons)
  ]
  assert corners == [
    [(20, 10), (20, 12), (22, 10), (22, 12)],
    [(25, 11), (25, 13), (27, 11), (27, 13)],
  ]
