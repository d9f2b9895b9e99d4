"""Tests of solo_jax/inference/predictor.py: images read in tiles."""

import numpy as np

from tests.inference.predictor_test import make_predictor


def tiled_predictor(**overrides):
  options = dict(short_side=32, max_side=32, tile_size=32, tile_overlap=8)
  return make_predictor(**options | overrides)


def test_tiles_of_a_16_bit_image_share_its_contrast():
  """Stretched by itself, the dark tile would turn noise into objects."""
  rng = np.random.default_rng(0)
  grey = rng.integers(0, 60, (32, 80)).astype(np.uint16)
  grey[8:20, 4:20] = 4000
  predictor = tiled_predictor()
  found = predictor(grey)
  assert len(found) == 3  # one of each colour, all of the bright square
  for mask in found.masks:
    np.testing.assert_array_equal(mask, grey == 4000)
  alone = predictor(grey[:, 48:])
  assert alone.masks.to_dense().any()  # so the test can fail


def test_image_smaller_than_a_tile_is_not_enlarged():
  image = np.zeros((16, 20, 3), np.uint8)
  image[4:12, 4:12, 0] = 255
  predictor = tiled_predictor()
  assert predictor.padded_size((16, 20)) == (16, 32)
  found = predictor(image)
  assert found.masks.shape == (1, 16, 20)
  np.testing.assert_array_equal(found.masks[0], image[..., 0] > 0)
  np.testing.assert_array_equal(found.boxes_xyxy, [[4, 4, 12, 12]])


def test_small_image_is_scaled_like_a_tile():
  """Tiles are doubled, so an object has the same size in either."""
  small = np.zeros((20, 24, 3), np.uint8)
  small[6:14, 8:16, 0] = 255
  large = np.zeros((90, 100, 3), np.uint8)
  large[:20, :24] = small
  predictor = tiled_predictor(short_side=64, max_side=64)
  first, second = predictor(small), predictor(large)
  assert len(first) == len(second) == 1
  np.testing.assert_array_equal(first.boxes_xyxy, [[8, 6, 16, 14]])
  np.testing.assert_array_equal(second.boxes_xyxy, [[8, 6, 16, 14]])


def test_tiled_equals_whole_where_objects_fit_the_overlap():
  image = np.zeros((104, 128, 3), np.uint8)  # tiles at 0, 24, 48, 72, 96
  image[22:30, 22:30, 0] = 255  # cut by the second tiles, whole in the first
  found = tiled_predictor()(image)
  assert len(found) == 1
  np.testing.assert_array_equal(found.masks[0], image[..., 0] > 0)
