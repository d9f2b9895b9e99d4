"""Tests of solo_jax/methods/regions/initial_values.py.

Expected spreads are those that the papers' code bases state; torchvision's
also those of its network when it is built (0.29.1: 0.00516 for 12,544 inputs,
0.0180 for 1,024, 0.0442 for the transposed convolution, 0.149 for 91 classes).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from solo_jax.methods.mask_rcnn.heads import MaskHead
from solo_jax.methods.regions.heads import BoxHead
from solo_jax.methods.regions.initial_values import KERNELS, dense_start
from solo_jax.nn.fpn import FPN

CLASSES, CHANNELS = 91, 64


def spreads(module, *args, **kwargs):
  """Standard deviation of each parameter, and all values."""
  init = jax.jit(functools.partial(module.init, **kwargs))
  params = jax.tree.map(np.asarray, init(jax.random.key(0), *args)["params"])
  params = flatten_dict(params, sep="/")
  return {name: float(x.std()) for name, x in params.items()}, params


@pytest.mark.parametrize(
  ("kind", "hidden", "logits", "codes", "bias"),
  [
    ("fan_in", (49 * CHANNELS) ** -0.5, 0.01, 0.001, 0),
    ("xavier", (2 / (49 * CHANNELS + 256)) ** 0.5, 0.01, 0.001, 0),
    ("pytorch", (3 * 49 * CHANNELS) ** -0.5, 768**-0.5, 768**-0.5, 768**-0.5),
  ],
)
def test_box_head(kind, hidden, logits, codes, bias):
  head = BoxHead(
    num_classes=CLASSES,
    box_classes="each",
    num_convs=0,
    conv_channels=CHANNELS,
    num_dense=1,
    dense_channels=256,
    dense_init=kind,
    norm=None,
    axis_name=None,
    dtype=jnp.float32,
  )
  found, params = spreads(head, jnp.ones((1, 1, 7, 7, CHANNELS)), train=False)
  np.testing.assert_allclose(found["dense_0/kernel"], hidden, rtol=0.05)
  np.testing.assert_allclose(found["logits/kernel"], logits, rtol=0.05)
  np.testing.assert_allclose(found["codes/kernel"], codes, rtol=0.05)
  np.testing.assert_allclose(found["codes/bias"], bias, rtol=0.1)
  largest = np.abs(params["logits/kernel"]).max()
  is_uniform = largest < 1.74 * found["logits/kernel"]
  assert is_uniform == (kind == "pytorch")  # else normal


def test_unknown_kinds_are_refused():
  with pytest.raises(ValueError, match="dense_init must be in .*'zeros'"):
    dense_start("zeros", 4)


@pytest.mark.parametrize(
  ("kind", "expected"), [("small", 0.001), ("fan_out", (2 / CLASSES) ** 0.5)]
)
def test_mask_head(kind, expected):
  head = MaskHead(
    num_classes=CLASSES,
    num_convs=1,
    channels=CHANNELS,
    norm=None,
    logits_init=kind,
    is_fed=False,
    axis_name=None,
    dtype=jnp.float32,
  )
  found, _ = spreads(head, jnp.ones((1, 2, 2, CHANNELS)), None, train=False)
  conv = (2 / (9 * CHANNELS)) ** 0.5  # fan out
  np.testing.assert_allclose(found["conv_0/conv/kernel"], conv, rtol=0.05)
  np.testing.assert_allclose(
    found["upsample/kernel"], (2 / (4 * CHANNELS)) ** 0.5, rtol=0.05
  )
  np.testing.assert_allclose(found["logits/kernel"], expected, rtol=0.05)


@pytest.mark.parametrize(
  ("kind", "expected"), [("fan_in", 1 / 256), ("xavier", 2 / (256 + CHANNELS))]
)
def test_initial_spread_of_the_pyramid_s_kernels(kind, expected):
  levels = [jnp.ones((1, 2**i, 2**i, 256)) for i in (3, 2, 1, 0)]
  found, _ = spreads(FPN(CHANNELS, kernel_init=KERNELS[kind]), levels)
  np.testing.assert_allclose(
    found["lateral_2/kernel"], expected**0.5, rtol=0.05
  )
