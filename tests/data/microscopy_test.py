"""Tests of solo_jax/data/microscopy.py."""

import dataclasses

import numpy as np

from solo_jax.data.microscopy import STAINS, Invert, StainJitter
from tests.data.transforms_test import make_sample


def test_stains_change_as_in_the_paper():
  sample, k = make_sample(), 0.3
  out = StainJitter(strength=k)(sample, np.random.default_rng(3))
  rng = np.random.default_rng(3)
  factors, shifts = rng.uniform(1 - k, 1 + k, 3), rng.uniform(-k, k, 3)
  for before, after in zip(
    sample.image.reshape(-1, 3), out.image.reshape(-1, 3), strict=True
  ):
    density = -np.log((before + 1.0) / 256)
    amounts = np.linalg.solve(STAINS.T, density)
    density = STAINS.T @ (factors * amounts + shifts)
    expected = np.clip(256 * np.exp(-density) - 1, 0, 255)
    np.testing.assert_allclose(after, expected, atol=0.51)
  np.testing.assert_array_equal(out.affine, sample.affine)


def test_no_strength_changes_nothing():
  sample = make_sample()
  out = StainJitter(strength=0.0)(sample, np.random.default_rng(0))
  np.testing.assert_array_equal(out.image, sample.image)


def test_one_stain_alone_keeps_its_colour():
  """Amounts of haematoxylin lie on one line of densities."""
  amounts = np.linspace(0.1, 1, 12).reshape(3, 4, 1)
  image = np.rint(256 * np.exp(-amounts * STAINS[0]) - 1).astype(np.uint8)
  sample = dataclasses.replace(make_sample(3, 4), image=image)
  rng = np.random.default_rng(1)
  out = StainJitter(strength=0.2)(sample, rng).image
  rng = np.random.default_rng(1)
  factors, shifts = rng.uniform(0.8, 1.2, 3), rng.uniform(-0.2, 0.2, 3)
  density = factors[0] * amounts * STAINS[0] + shifts @ STAINS
  expected = np.clip(256 * np.exp(-density) - 1, 0, 255)
  np.testing.assert_allclose(out, expected, atol=2.5)  # rounded twice


def test_share_of_inverted_images():
  sample, rng = make_sample(), np.random.default_rng(0)
  invert = Invert(probability=0.25)
  images = [invert(sample, rng).image for _ in range(400)]
  inverted = [not np.array_equal(image, sample.image) for image in images]
  assert 70 <= sum(inverted) <= 130
  for image, is_inverted in zip(images, inverted, strict=True):
    expected = 255 - sample.image if is_inverted else sample.image
    np.testing.assert_array_equal(image, expected)
