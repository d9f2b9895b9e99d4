"""Tests of solo_jax/nn/kernel_maps.py."""

import numpy as np

from solo_jax.nn.kernel_maps import apply_kernels


def test_sums_by_hand():
  maps = np.array([[[1.0, 2], [3, 4]]], np.float32)  # 1 x 2, two maps
  kernels = np.array([[1.0, 0], [0.5, -1]], np.float32)
  found = apply_kernels(kernels, maps)
  np.testing.assert_allclose(found, [[[1, 3]], [[-1.5, -2.5]]])
  assert apply_kernels(kernels[:0], maps).shape == (0, 1, 2)
