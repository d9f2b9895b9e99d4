"""Tests of solo_jax/data/transforms.py."""

import dataclasses

import cv2
import numpy as np
import pytest

from solo_jax.data import transforms
from solo_jax.types import Sample


def make_sample(height=48, width=64, dtype=np.uint8, seed=0):
  rng = np.random.default_rng(seed)
  image = rng.integers(0, np.iinfo(dtype).max, (height, width, 3), dtype)
  return Sample(
    image=image,
    masks=np.zeros((0, height, width), bool),
    labels=np.zeros(0, np.int32),
    areas=np.zeros(0),
    boxes_xyxy=np.zeros((0, 4)),
    is_crowd=np.zeros(0, bool),
    annotation_ids=np.zeros(0, np.int64),
    image_id=7,
    file_name="7.jpg",
    original_size=(height, width),
    affine=np.eye(2, 3),
    image_size=(height, width),
  )


def to_network(sample, x, y):
  return tuple(sample.affine @ [x, y, 1])


def test_flips_and_transposition_by_hand():
  # 64 wide, 48 high. The corner (0, 0) goes to the far side of a mirror, and
  # the point (3, 5) to (64 - 3, 5).
  sample = make_sample()
  mirrored = transforms.flipped(sample, horizontal=True, vertical=False)
  assert to_network(mirrored, 3, 5) == (61, 5)
  mirrored = transforms.flipped(sample, horizontal=False, vertical=True)
  assert to_network(mirrored, 3, 5) == (3, 43)
  swapped = transforms.transposed(sample)
  assert to_network(swapped, 3, 5) == (5, 3)
  assert swapped.image_size == (64, 48)
  # Transposed first, the frame is 48 wide: x' = 48 - y.
  swapped = transforms.flipped(swapped, horizontal=True, vertical=False)
  assert to_network(swapped, 3, 5) == (43, 3)


def test_flip_and_transposition_undo_themselves():
  sample = make_sample()
  for change in (
    transforms.transposed,
    lambda s: transforms.flipped(s, horizontal=True, vertical=True),
  ):
    back = change(change(sample))
    np.testing.assert_array_equal(back.affine, np.eye(2, 3))
    assert back.image_size == sample.image_size


def test_resize_then_crop_by_hand():
  # x2, then the window from (10, 20): (3, 5) -> (6, 10) -> (-14, 0).
  sample = transforms.resized(make_sample(), (96, 128))
  sample = transforms.cropped(sample, top=10, left=20, size=(32, 40))
  assert to_network(sample, 3, 5) == (-14, 0)
  assert sample.image_size == (32, 40)


@pytest.mark.golden("preprocess*.npz")
def test_resize_to_fit_has_the_published_size(golden):
  height, width = golden["image_bgr_uint8"].shape[:2]
  names = [name for name in golden.arrays if name.startswith("resized_")]
  assert names
  for i in (int(name.removeprefix("resized_")) for name in names):
    long_side, short_side = golden[f"scale_arg_{i}"]
    sample = transforms.resize_to_fit(
      make_sample(height, width), short_side=short_side, max_side=long_side
    )
    assert sample.image_size == golden[f"resized_{i}"].shape[:2]


def test_resize_to_fit_limits_the_long_side():
  # 800 / 480 would make 640 x 1333.3; 1000 / 640 binds: 750 x 1000.
  sample = make_sample(480, 640)
  sample = transforms.resize_to_fit(sample, short_side=800, max_side=1000)
  assert sample.image_size == (750, 1000)


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (5, 200), (1, 1)])
def test_jitter_stays_in_the_input_and_in_the_image(size):
  rng = np.random.default_rng(0)
  sample = make_sample(*size)
  corners = np.array([[0, 0, 1], [size[1], size[0], 1]])
  for _ in range(50):
    out = transforms.jitter_scale(
      sample, rng, image_size=(64, 64), factor=(0.1, 2.0)
    )
    assert 1 <= min(out.image_size) and max(out.image_size) <= 64
    start, stop = corners @ out.affine.T
    assert (start <= 0).all()
    assert (stop >= np.array(out.image_size[::-1]) - 1e-9).all()


def test_jitter_rounds_sizes_as_told():
  # 480 x 640 fits 1024 with 1.6: 0.7 of it is 537.6 x 716.8.
  sample, rng = make_sample(480, 640), np.random.default_rng(0)
  options = dict(image_size=(1024, 1024), factor=(0.7, 0.7))
  out = transforms.jitter_scale(sample, rng, **options)
  assert out.image_size == (538, 717)
  out = transforms.jitter_scale(sample, rng, size_rounding="down", **options)
  assert out.image_size == (537, 716)  # as torchvision's ScaleJitter


def test_scale_jitter_draws_every_crop_position():
  rng = np.random.default_rng(0)
  lefts = set()
  for _ in range(300):
    out = transforms.jitter_scale(
      make_sample(10, 10), rng, image_size=(8, 8), factor=(1.5, 1.5)
    )
    lefts.add(-out.affine[0, 2])
  assert lefts == {0, 1, 2, 3, 4}  # 12 - 8 = 4 pixels of slack, both ends in


def test_color_jitter_matches_the_three_steps():
  sample, strength = make_sample(), 0.4
  out = transforms.jitter_color(
    sample, np.random.default_rng(5), strength=strength
  )
  brightness, contrast, saturation = np.random.default_rng(5).uniform(
    1 - strength, 1 + strength, 3
  )
  image = sample.image.astype(np.float64)
  luma = image @ [0.299, 0.587, 0.114]
  expected = saturation * image + (1 - saturation) * luma[..., None]
  expected = contrast * expected + (1 - contrast) * luma.mean()
  expected = np.clip(brightness * expected, 0, 255)
  # Rounding to integers, 0.5, plus OpenCV's 10-bit fixed-point weights.
  np.testing.assert_allclose(out.image, expected, atol=0.9)
  np.testing.assert_array_equal(out.affine, sample.affine)


def test_to_uint8_keeps_8_bit_images():
  image = make_sample().image
  assert transforms.to_uint8(image) is image


def test_to_uint8_stretches_percentiles():
  image = make_sample(100, 100, np.uint16).image
  values = image.astype(np.float64)
  low, high = np.percentile(values, (0.1, 99.9), method="inverted_cdf")
  expected = np.clip((values - low) / (high - low) * 255, 0, 255)
  np.testing.assert_allclose(transforms.to_uint8(image), expected, atol=0.51)


def test_to_uint8_of_a_12_bit_image_uses_all_levels():
  image = cv2.transpose(np.arange(4096, dtype=np.uint16).reshape(64, 64, 1))
  out = transforms.to_uint8(np.repeat(image[..., None], 3, axis=-1))
  assert out.min() == 0 and out.max() == 255


def test_to_uint8_of_a_flat_image_is_black():
  out = transforms.to_uint8(np.full((4, 4, 3), 900, np.uint16))
  np.testing.assert_array_equal(out, np.zeros((4, 4, 3)))


def test_to_uint8_refuses_floats():
  with pytest.raises(ValueError, match="uint8 or uint16 image, got float32"):
    transforms.to_uint8(np.zeros((2, 2, 3), np.float32))


def test_split_axes_of_a_transposition():
  sample = transforms.transposed(make_sample())  # x shows the original y
  is_transposed, y, x = transforms.split_axes(sample)
  assert is_transposed
  assert (x.length, x.extent, x.scale) == (48, 48, 1)
  assert (y.length, y.extent, y.scale) == (64, 64, 1)


def test_visible_pixels_of_a_mirrored_crop():
  # Mirrored at x2 (128 wide), window from 20 to 51: original 38.5 to 54.
  sample = transforms.flipped(make_sample(), horizontal=True, vertical=False)
  sample = transforms.resized(sample, (96, 128))
  sample = transforms.cropped(sample, top=0, left=20, size=(96, 31))
  _, _, x = transforms.split_axes(sample)
  assert x.visible == slice(38, 54)
  assert dataclasses.replace(x, extent=32).visible == slice(38, 54)
