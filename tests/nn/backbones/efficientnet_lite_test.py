"""Tests of solo_jax/nn/backbones/efficientnet_lite.py.

The published weights are checked in conversion/efficientnet_lite_test.py.
"""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from solo_jax.nn.backbones.efficientnet_lite import (
  EfficientNetLite0,
  is_frozen,
)


def make_variables(network, x):
  """Random variables, drawn by NumPy: compiles nothing."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    name = path[-1].key
    if name == "kernel":
      fan_in = np.prod(leaf.shape[:-1])
      values = rng.standard_normal(leaf.shape) / np.sqrt(fan_in / 2)
    else:
      values = np.full(leaf.shape, name in ("scale", "var"))
    return values.astype(np.float32)

  init = functools.partial(network.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), x)
  return jax.tree_util.tree_map_with_path(draw, shapes)


def make_image():
  x = np.random.default_rng(1).standard_normal((2, 32, 32, 3))
  return x.astype(np.float32)


def test_published_size():
  shapes = jax.eval_shape(
    functools.partial(EfficientNetLite0().init, train=False),
    jax.random.key(0),
    jnp.zeros((1, 224, 224, 3)),
  )
  # https://github.com/tensorflow/tpu, efficientnet/lite: 4.7 M parameters;
  # 4,652,008 in all PyTorch ports, with a head of 1,280 channels and its norm
  # and of 1,000 classes.
  head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
  expected = 4_652_008 - head
  assert sum(a.size for a in jax.tree.leaves(shapes["params"])) == expected


def test_strides_and_channels():
  shapes = jax.eval_shape(
    lambda x: EfficientNetLite0().init_with_output(
      jax.random.key(0), x, train=False
    )[0],
    jnp.zeros((1, 64, 96, 3)),
  )
  assert [c.shape for c in shapes] == [
    (1, 16, 24, 24),
    (1, 8, 12, 40),
    (1, 4, 6, 112),
    (1, 2, 3, 320),
  ]


def test_stem_pads_right_and_bottom_only():
  network, x = EfficientNetLite0(), make_image()
  variables = make_variables(network, x)

  @jax.jit
  def run_stem(variables, x):
    _, state = network.apply(
      variables,
      x,
      train=False,
      capture_intermediates=lambda module, _: module.name == "stem_conv",
      mutable=["intermediates"],
    )
    return jax.tree.leaves(state)[0]

  kernel = variables["params"]["stem_conv"]["kernel"]
  expected = sum(
    scipy.signal.correlate2d(
      np.pad(x[0, :, :, c], (0, 1)), kernel[:, :, c, 5], mode="valid"
    )[::2, ::2]
    for c in range(3)
  )
  actual = run_stem(variables, x)[0, :, :, 5]
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_frozen_stages_get_no_gradient_and_keep_statistics():
  network, x = EfficientNetLite0(norm="batch", frozen_stages=1), make_image()
  variables = make_variables(network, x)

  def loss(params):
    (c2, c3, _, _), update = network.apply(
      variables | {"params": params}, x, train=True, mutable=["batch_stats"]
    )
    return jnp.sum(c2**2) + jnp.sum(c3**2), update["batch_stats"]

  def run(params):
    gradient, stats = jax.grad(loss, has_aux=True)(params)
    # C2 ends with block 2, C3 with block 4. What is beyond would take most
    # of the compilation and say nothing new.
    names = ["stem_conv", "stem_bn", *(f"block_{i}" for i in range(5))]
    return tuple(
      {name: tree[name] for name in names if name in tree}
      for tree in (gradient, stats)
    )

  gradient, stats = jax.jit(run)(variables["params"])
  frozen = {"stem_conv", "stem_bn", "block_0", "block_1", "block_2"}
  assert {name for name in gradient if is_frozen(name, 1)} == frozen
  for name, leaves in gradient.items():
    norm = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(leaves))
    assert (norm == 0) == (name in frozen), name
  for name, leaves in stats.items():
    same = jax.tree.map(np.array_equal, leaves, variables["batch_stats"][name])
    assert all(jax.tree.leaves(same)) == (name in frozen), name


def test_nothing_is_frozen_at_zero():
  assert not any(is_frozen(name, 0) for name in ("stem_conv", "block_0"))


def test_remat_keeps_less_and_changes_no_gradient():
  x = make_image()
  variables = make_variables(EfficientNetLite0(), x)

  def make_loss(remat):
    def loss(params):
      # C2 alone: what is beyond would take most of the compilation.
      return jnp.sum(
        EfficientNetLite0(norm="batch", remat=remat).apply(
          variables | {"params": params},
          x,
          train=True,
          mutable=["batch_stats"],
        )[0][0]
        ** 2
      )

    return loss

  kept = []

  def run(remat):
    @jax.jit
    def gradient(params):
      value, backward = jax.vjp(make_loss(remat), params)
      kept.append(sum(leaf.size for leaf in jax.tree.leaves(backward)))
      return backward(jnp.ones_like(value))[0]

    return jax.flatten_util.ravel_pytree(gradient(variables["params"]))[0]

  # Of all: what comes before a normalisation has gradients of rounding only.
  actual, expected = run((1,)), run(())
  assert kept[0] < kept[1]
  atol = 1e-6 * np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(frozen_stages=7), "0 to 4, got 7"),
    (dict(remat=(5,)), r"1 to 4, got \(5,\)"),
  ],
)
def test_bad_attributes(change, message):
  with pytest.raises(ValueError, match=message):
    EfficientNetLite0(**change).init(
      jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False
    )
