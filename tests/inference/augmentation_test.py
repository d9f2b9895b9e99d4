"""Tests of solo_jax/inference/augmentation.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.inference.augmentation import detect_variants, mirrored
from solo_jax.methods.interface import Method


def test_mirrors_the_valid_part_only():
  image = np.arange(2 * 2 * 5 * 3).reshape(2, 2, 5, 3)
  found = mirrored(jnp.asarray(image), jnp.array([[2, 5], [1, 3]]))
  np.testing.assert_array_equal(found[0], image[0, :, ::-1])
  np.testing.assert_array_equal(found[1, :, :3], image[1, :, 2::-1])
  np.testing.assert_array_equal(found[1, :, 3:], image[1, :, 3:])


class Pixels(nn.Module):
  """Returns what it sees."""

  @nn.compact
  def __call__(self, image, image_size, *, train):
    assert not train
    return dict(pixels=image * self.param("gain", nn.initializers.ones, ()))


def test_every_size_is_seen_as_it_is_and_mirrored():
  rng = np.random.default_rng(0)
  images = [
    rng.integers(0, 256, (2, *size, 3), np.uint8) for size in ((4, 8), (8, 16))
  ]
  sizes = [jnp.array([[4, 6], [3, 8]]), jnp.array([[8, 12], [6, 16]])]
  method = Method(network=Pixels(), loss=None, decode=None, merge=tuple)
  variables = {"params": {"gain": jnp.float32(2)}}
  for flip in (False, True):
    variants = detect_variants(
      method, variables, tuple(map(jnp.asarray, images)), sizes, flip=flip
    )
    seen = [
      (v.padded_size, v.is_mirrored, v.image_size, v.outputs["pixels"])
      for v in variants
    ]
    expected = []
    for image, size in zip(images, sizes, strict=True):
      expected.append((image.shape[1:3], False, size, 2.0 * image))
      if flip:
        turned = mirrored(jnp.asarray(image), size)
        expected.append((image.shape[1:3], True, size, 2.0 * turned))
    assert [x[:2] for x in seen] == [x[:2] for x in expected]
    jax.tree.map(
      np.testing.assert_array_equal,
      [x[2:] for x in seen],
      [x[2:] for x in expected],
    )
