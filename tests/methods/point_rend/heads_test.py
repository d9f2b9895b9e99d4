"""Tests of solo_jax/methods/point_rend/heads.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.point_rend.heads import CoarseHead, PointHead


def test_coarse_masks_of_all_classes():
  head = CoarseHead(
    num_classes=3,
    conv_channels=4,
    dense_channels=5,
    num_dense=2,
    dtype=jnp.float32,
  )
  x = jnp.ones((2, 14, 14, 4))
  found, variables = jax.eval_shape(head.init_with_output, jax.random.key(0), x)
  assert found.shape == (2, 7, 7, 3)
  # 2x2 cells of stride 2, and no overlap: 7 x 7 x 4 numbers.
  assert variables["params"]["dense_0"]["kernel"].shape == (196, 5)
  assert variables["params"]["reduce"]["kernel"].shape == (2, 2, 4, 4)


def test_every_layer_reads_the_coarse_mask_again():
  head = PointHead(num_classes=2, channels=3, num_dense=2, dtype=jnp.float32)
  rng = np.random.default_rng(0)
  fine = rng.normal(size=(5, 7, 4)).astype(np.float32)
  coarse = rng.normal(size=(5, 7, 2)).astype(np.float32)
  variables = jax.jit(head.init)(jax.random.key(0), fine, coarse)
  params = variables["params"]
  x = np.concatenate([fine, coarse], -1)
  for name in ("dense_0", "dense_1"):
    x = x @ params[name]["kernel"] + params[name]["bias"]
    x = np.concatenate([np.maximum(x, 0), coarse], -1)
  expected = x @ params["logits"]["kernel"] + params["logits"]["bias"]
  np.testing.assert_allclose(
    jax.jit(head.apply)(variables, fine, coarse), expected, atol=1e-6
  )
