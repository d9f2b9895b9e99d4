"""Tests of solo_jax/exporting/device_resize.py against OpenCV and Pillow."""

import functools

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from solo_jax import types
from solo_jax.data import transforms
from solo_jax.exporting import device_resize

CANVAS, PADDED = (150, 160), (128, 144)
# (height, width) before and after.
SIZES = [
  ((40, 50), (40, 50)),
  ((40, 50), (102, 128)),
  ((61, 43), (128, 90)),
  ((150, 160), (120, 128)),
  ((139, 80), (75, 43)),
  ((97, 33), (24, 8)),
  ((48, 110), (24, 55)),
  ((1, 7), (18, 126)),
  ((64, 1), (128, 2)),
]


@functools.cache
def compiled(interpolation):
  return jax.jit(
    functools.partial(
      device_resize.resize_image,
      padded_size=PADDED,
      interpolation=interpolation,
    )
  )


def resize(image, size, interpolation):
  """Resizes on a canvas of noise; what is beyond the image must be zero."""
  rng = np.random.default_rng(1)
  canvas = rng.integers(0, 256, (*CANVAS, 3), np.uint8)
  canvas[: image.shape[0], : image.shape[1]] = image
  resized = np.asarray(
    compiled(interpolation)(
      canvas, np.array(image.shape[:2], np.int32), np.array(size, np.int32)
    )
  )
  assert resized.shape == (*PADDED, 3) and resized.dtype == np.uint8
  assert not resized[size[0] :].any() and not resized[:, size[1] :].any()
  return resized[: size[0], : size[1]]


def noise(size):
  return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_bilinear_equals_opencv(before, after):
  image = noise(before)
  np.testing.assert_array_equal(
    resize(image, after, "bilinear"), cv2.resize(image, after[::-1])
  )


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_area_equals_opencv(before, after):
  image = noise(before)
  scale = min(np.divide(after, before))
  method = cv2.INTER_AREA if scale < 0.6 else cv2.INTER_LINEAR
  expected = cv2.resize(image, after[::-1], interpolation=method)
  difference = resize(image, after, "area").astype(int) - expected
  assert np.abs(difference).max() <= 1
  assert (difference != 0).mean() < 0.005  # sums in another order


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_antialias_equals_pillow_columns_first(before, after):
  """Which axis Pillow starts with depends on its version and the sizes."""
  image = noise(before)
  expected = Image.fromarray(image)
  for size in ((after[1], before[0]), after[::-1]):
    expected = expected.resize(size, Image.Resampling.BILINEAR)
  resized = resize(image, after, "antialias")
  np.testing.assert_array_equal(resized, expected)
  whole = Image.fromarray(image).resize(after[::-1], Image.Resampling.BILINEAR)
  assert np.abs(resized.astype(int) - np.asarray(whole)).max() <= 1


@pytest.mark.parametrize(("before", "after"), [(12_000, 512), (30_000, 960)])
def test_antialias_of_a_long_side_equals_pillow(before, after):
  """Where 2 before^2 / after does not fit into 19 bits."""
  image = noise((before, 4))
  expected = Image.fromarray(image).resize(
    (4, after), Image.Resampling.BILINEAR
  )
  resize = functools.partial(
    device_resize.resize_image,
    padded_size=(after, 4),
    interpolation="antialias",
  )
  resized = jax.jit(resize)(
    image, np.array([before, 4], np.int32), np.array([after, 4], np.int32)
  )
  np.testing.assert_array_equal(resized, expected)


def test_unknown_interpolation_is_refused():
  with pytest.raises(ValueError, match="'area' or 'antialias', got 'cubic'"):
    device_resize.resize_image(
      noise((8, 8)),
      np.array([8, 8]),
      np.array([8, 8]),
      (8, 8),
      interpolation="cubic",
    )


def resize_to_fit(size, **rule):
  sample = types.Sample(
    image=np.zeros((1, 1, 3), np.uint8),
    masks=np.zeros((0, 1, 1), bool),
    labels=np.zeros(0, np.int32),
    areas=np.zeros(0),
    boxes_xyxy=np.zeros((0, 4)),
    is_crowd=np.zeros(0, bool),
    annotation_ids=np.zeros(0, np.int64),
    image_id=0,
    file_name="",
    original_size=size,
    affine=np.eye(2, 3),
    image_size=size,
  )
  return transforms.resize_to_fit(sample, **rule).image_size


def test_fitted_size_is_that_of_the_transforms():
  rng = np.random.default_rng(0)
  sizes = np.exp(rng.uniform(0, np.log(3000), (3000, 2))).astype(np.int32)
  for short_side, max_side in ((800, 1333), (128, 128), (256, 512)):
    rule = functools.partial(
      device_resize.fitted_size,
      short_side=short_side,
      max_side=max_side,
      tile_size=None,
    )
    fitted = np.asarray(jax.jit(jax.vmap(rule))(sizes))
    expected = [
      resize_to_fit(tuple(s), short_side=short_side, max_side=max_side)
      for s in sizes.tolist()
    ]
    np.testing.assert_array_equal(fitted, expected)


def test_fitted_size_of_images_smaller_than_a_tile():
  """Such an image is scaled like a whole tile."""
  rule = functools.partial(
    device_resize.fitted_size, short_side=256, max_side=500, tile_size=256
  )
  sizes = np.array([(s, 300 - s) for s in range(1, 300)], np.int32)
  fitted = np.asarray(jax.jit(jax.vmap(rule))(sizes))
  np.testing.assert_array_equal(fitted, np.minimum(sizes, fitted))
  is_small = sizes.min(1) <= 256
  np.testing.assert_array_equal(fitted[is_small], sizes[is_small])
  doubled = jax.jit(
    functools.partial(
      device_resize.fitted_size, short_side=512, max_side=512, tile_size=256
    )
  )(np.array([100, 120]))
  np.testing.assert_array_equal(doubled, [200, 240])
