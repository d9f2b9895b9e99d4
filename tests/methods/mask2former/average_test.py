"""Tests of solo_jax/methods/mask2former/average.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.mask2former.average import average_queries
from solo_jax.methods.mask2former.network import Outputs
from solo_jax.methods.variants import Variant

SIZE = (32, 32)
# Of four cells of a side of 8, each query has its own.
MASKS = np.full((1, 3, 8, 8), -8.0, np.float32)
MASKS[0, 0, :4, :4] = MASKS[0, 1, 4:, :4] = MASKS[0, 2, :4, 4:] = 8
CLASSES = np.array([[[4, 0, 0], [0, 3, 0], [0, 0, 2]]], np.float32)


def make_variant(classes, masks, is_mirrored=False, image_size=SIZE):
  return Variant(
    outputs=Outputs((None, jnp.asarray(classes)), (None, jnp.asarray(masks))),
    image_size=jnp.asarray([image_size]),
    padded_size=SIZE,
    is_mirrored=is_mirrored,
  )


def test_a_mirror_image_with_other_queries_changes_nothing():
  order = [2, 0, 1]
  variants = [
    make_variant(CLASSES, MASKS),
    make_variant(CLASSES[:, order], MASKS[:, order, :, ::-1], True),
  ]
  found = jax.jit(average_queries)(variants)
  (probs,) = map(jax.nn.softmax, found.class_logits)
  np.testing.assert_allclose(probs, jax.nn.softmax(CLASSES), atol=1e-5)
  np.testing.assert_allclose(found.mask_logits[0], MASKS, atol=1e-4)


def test_partners_are_averaged_and_others_count_alone():
  masks = MASKS.copy()
  masks[0, 1] = -8  # found by the first variant only
  classes = np.array([[[0, 4, 0], [9, 0, 0], [0, 0, 2]]], np.float32)
  found = jax.jit(average_queries)(
    [make_variant(CLASSES, MASKS), make_variant(classes, masks)]
  )
  probs = np.asarray(jax.nn.softmax(found.class_logits[0]))[0]
  expected = np.asarray(jax.nn.softmax(jnp.asarray([CLASSES[0], classes[0]])))
  np.testing.assert_allclose(probs[0], expected[:, 0].mean(0), atol=1e-5)
  np.testing.assert_allclose(probs[1], expected[0, 1], atol=1e-5)
  np.testing.assert_allclose(found.mask_logits[0], MASKS, atol=1e-4)


def test_a_small_mask_finds_its_partner_despite_padding():
  """A mask of two cells has its partner, next to padding of 32 cells."""
  masks = np.full((1, 1, 8, 8), -8.0, np.float32)
  masks[0, 0, 2, 1:3] = 8
  classes = np.array([[[4, 0, 0]], [[0, 4, 0]]], np.float32)
  variants = [
    make_variant(x[None], masks, image_size=(16, 32)) for x in classes
  ]
  (found,) = jax.jit(average_queries)(variants).class_logits
  probs = jax.nn.softmax(found[0, 0])
  np.testing.assert_allclose(probs[0], probs[1], rtol=1e-5)
