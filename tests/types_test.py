"""Tests of solo_jax/types.py: mask targets as one type."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from tests.target_masks import pack_bits, pack_coverage

BITS = np.zeros((2, 3, 4, 16), bool)
BITS[0, 1, 2, 5:9] = True  # across two bytes
BITS[1, 2] = True


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
def test_bits_and_coverage_unpack_to_weights(convert):
  for masks, expected in (
    (pack_bits(BITS, stride=4), BITS),
    (pack_coverage(51 * BITS, stride=4), 0.2 * BITS),
  ):
    masks = jax.tree.map(convert, masks)
    assert masks.size == (4, 16) and masks.stride == 4
    weights = masks.unpack()
    assert weights.dtype == np.float32
    assert isinstance(weights, type(masks.data))
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_rows_pick_instances_of_one_image():
  for masks in (pack_bits(BITS), pack_coverage(255 * BITS)):
    image = jax.tree.map(lambda x: x[0], masks)
    rows = np.array([1, 1, 0])
    np.testing.assert_array_equal(image.unpack(rows), BITS[0, rows])


def test_what_maps_over_a_batch_maps_over_masks():
  """Encoding and stride are static: they survive a compiled function."""
  masks = pack_bits(BITS, stride=2)
  assert [leaf.shape for leaf in jax.tree.leaves(masks)] == [(2, 3, 4, 2)]
  first = jax.jit(lambda m: jax.tree.map(lambda x: x[:1], m))(masks)
  assert (first.encoding, first.stride, first.size) == ("bits", 2, (4, 16))
  np.testing.assert_array_equal(first.unpack(), BITS[:1])
  summed = jax.lax.map(lambda m: m.unpack().sum(), masks)
  np.testing.assert_array_equal(summed, BITS.sum((1, 2, 3)))


def test_flat_weights_are_the_weights_in_one_row():
  for masks in (pack_bits(BITS), pack_coverage(255 * BITS)):
    np.testing.assert_array_equal(
      masks.unpack_flat(), masks.unpack().reshape(2, 3, -1)
    )


def test_single_cells_are_those_of_the_unpacked_masks():
  row, column = np.indices((4, 16)).reshape(2, 1, 1, -1)
  for masks in (pack_bits(BITS), pack_coverage(51 * BITS)):
    found = jax.tree.map(jnp.asarray, masks).read(row, column)
    assert found.shape == (2, 3, 64) and found.dtype == np.float32
    np.testing.assert_allclose(found, masks.unpack_flat(), rtol=1e-6)
  found = jax.tree.map(jnp.asarray, masks).read(np.ones((2, 3, 1), int), 5)
  np.testing.assert_allclose(found[..., 0], 0.2 * BITS[:, :, 1, 5], rtol=1e-6)


def test_rectangles_that_grids_are_laid_over():
  boxes = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
  frame = pack_bits(BITS, stride=4).rectangles(boxes)
  assert frame.shape == boxes.shape
  np.testing.assert_array_equal(frame[1, 2], [0, 0, 64, 16])
  own = types.BoxMaskTargets(data=np.zeros((2, 3, 8, 8), np.uint8))
  np.testing.assert_array_equal(own.rectangles(boxes), boxes)
