"""Mask targets for tests, packed from plain arrays."""

import numpy as np

from solo_jax.types import PackedMasks


def pack_bits(bits, stride=1):
  """Packs masks [..., h, w], zero or not, as bits."""
  data = np.packbits(np.asarray(bits) != 0, axis=-1)
  return PackedMasks(data=data, encoding="bits", stride=stride)


def pack_coverage(coverage, stride=1):
  """Takes bytes [..., h, w] for coverage."""
  data = np.asarray(coverage, np.uint8)
  return PackedMasks(data=data, encoding="coverage", stride=stride)


def pack_rows(masks):
  """Packs masks [..., Q] of one row of pixels: bytes as coverage, else bits."""
  masks = np.asarray(masks)[..., None, :]
  return (pack_coverage if masks.dtype == np.uint8 else pack_bits)(masks)
