"""Tests of solo_jax/data/batching.py: rendering of images."""

import cv2
import numpy as np
import PIL.Image
import pytest

from solo_jax.data import batching, transforms
from tests.data.samples import make_sample, noise


def render(sample, image_size=(64, 64), interpolation="bilinear"):
  return batching.render_image(
    sample, image_size=image_size, interpolation=interpolation
  )


@pytest.mark.golden("preprocess*.npz")
def test_resized_image_equals_the_fixture(golden):
  names = [name for name in golden.arrays if name.startswith("resized_")]
  assert names
  for i in (int(name.removeprefix("resized_")) for name in names):
    expected = golden[f"resized_{i}"]
    height, width = expected.shape[:2]
    long_side, short_side = golden[f"scale_arg_{i}"]
    sample = transforms.resize_to_fit(
      make_sample(golden["image_bgr_uint8"]),
      short_side=short_side,
      max_side=long_side,
    )
    out = render(sample, (height + 3, width + 5))
    np.testing.assert_array_equal(out[:height, :width], expected)
    assert not out[height:].any() and not out[:, width:].any()


@pytest.mark.parametrize("seed", range(8))
def test_rendering_equals_resize_flip_crop_in_turn(seed):
  rng = np.random.default_rng(seed)
  swap, mirror, upend = rng.random(3) < 0.5
  size = tuple(int(side) for side in rng.integers(30, 120, 2))
  sample = make_sample(noise())
  image = sample.image
  if swap:
    sample, image = transforms.transposed(sample), image.transpose(1, 0, 2)
  sample = transforms.flipped(sample, horizontal=mirror, vertical=upend)
  sample = transforms.resized(sample, size)
  # Resized before it is mirrored, as published.
  image = cv2.resize(np.ascontiguousarray(image), size[::-1])
  image = image[:: -1 if upend else 1, :: -1 if mirror else 1]
  window = tuple(min(side, 50) for side in size)
  top, left = size[0] - window[0], (size[1] - window[1]) // 2
  sample = transforms.cropped(sample, top=top, left=left, size=window)
  image = image[top : top + window[0], left : left + window[1]]
  out = render(sample)
  np.testing.assert_array_equal(out[: window[0], : window[1]], image)
  assert out.sum() == image.sum()


def test_small_scale_averages_with_area():
  # Columns of 0 and 255 in turn: their mean at a fifth, something else where
  # two taps are read of five pixels.
  image = np.zeros((40, 60, 3), np.uint8)
  image[:, ::2] = 255
  sample = transforms.resized(make_sample(image), (8, 12))
  averaged = render(sample, (8, 12), "area").astype(int)
  assert np.abs(averaged - 127).max() <= 26  # 2 or 3 of 5 columns are white
  assert np.abs(render(sample, (8, 12)).astype(int) - 127).max() > 26


@pytest.mark.parametrize("size", [(8, 12), (31, 50), (64, 40), (63, 64)])
def test_antialias_is_the_bilinear_of_pillow(size):
  image = noise()
  sample = transforms.resized(make_sample(image), size)
  expected = np.asarray(
    PIL.Image.fromarray(image).resize(size[::-1], PIL.Image.BILINEAR)
  )
  found = render(sample, interpolation="antialias")
  np.testing.assert_array_equal(found[: size[0], : size[1]], expected)
  assert not found[size[0] :].any() and not found[:, size[1] :].any()
  # Flipped and cropped images are drawn from the same pixels.
  out = transforms.flipped(sample, horizontal=True, vertical=False)
  out = transforms.cropped(out, top=2, left=3, size=(5, 6))
  np.testing.assert_array_equal(
    render(out, (5, 6), "antialias"), expected[2:7, ::-1][:, 3:9]
  )
  # OpenCV's two taps are another thing when the image shrinks.
  if size == (8, 12):
    assert (found != render(sample))[:8, :12].mean() > 0.9


def test_antialias_by_hand():
  """Half the size: a triangle over four pixels, 1 3 3 1 eighths."""
  image = np.repeat(
    np.uint8([[0, 0, 0, 80, 160, 80, 0, 0]] * 8)[..., None], 3, 2
  )
  sample = transforms.resized(make_sample(image), (4, 4))
  found = render(sample, (4, 4), "antialias")
  np.testing.assert_array_equal(found[0, :, 0], [0, 50, 100, 11])


def test_16_bit_image_is_stretched():
  sample = make_sample(noise(dtype=np.uint16))
  expected = transforms.to_uint8(sample.image)
  np.testing.assert_array_equal(render(sample, (40, 64)), expected)


def test_render_refuses_what_does_not_fit():
  with pytest.raises(ValueError, match=r"image 7: content of \(40, 64\) exc"):
    render(make_sample(noise()), (32, 64))
  with pytest.raises(ValueError, match="interpolation must be one of"):
    render(make_sample(noise()), interpolation="cubic")
  shifted = make_sample(noise(), affine=np.array([[1, 0, 0.3], [0, 1, 0]]))
  with pytest.raises(ValueError, match="image 7: .* whole pixels"):
    render(shifted)


def test_pixels_outside_of_the_image_get_the_mean_colour():
  shifted = make_sample(noise(), affine=np.array([[1.0, 0, 2], [0, 1, -3]]))
  image = render(shifted)
  np.testing.assert_array_equal(image[:37, 2:], noise()[3:, :-2])
  assert (image[37:40] == batching.OUTSIDE).all()
  assert (image[:40, :2] == batching.OUTSIDE).all()
