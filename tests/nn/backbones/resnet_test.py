"""Tests of solo_jax/nn/backbones/resnet.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from solo_jax.conversion.mapping import Rule, convert
from solo_jax.conversion.torchvision import backbone_rules
from solo_jax.nn.backbones.resnet import DEPTHS, ResNet, is_frozen

TINY = dict(stage_sizes=(1, 1, 1, 1), widths=(4, 6, 8, 8), block="basic")


def init(network, shape=(2, 32, 32, 3)):
  """Random variables and image, drawn by NumPy: compiles nothing."""
  rng = np.random.default_rng(0)
  x = rng.standard_normal(shape).astype(np.float32)

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
  return jax.tree_util.tree_map_with_path(draw, shapes), x


def run(network, variables, x, **kwargs):
  return compiled(network, tuple(kwargs.items()))(variables, x)


@functools.cache
def compiled(network, kwargs):
  return jax.jit(functools.partial(network.apply, **dict(kwargs)))


@pytest.mark.golden("model_solov2_*.npz")
def test_fixture_features(golden):
  network = ResNet(**golden.resnet)
  x = golden["net_input"].transpose(0, 2, 3, 1)
  target = jax.eval_shape(
    functools.partial(network.init, train=False), jax.random.key(0), x
  )
  variables = convert(
    golden.state_dict(),
    (
      *backbone_rules(r"backbone\.", "backbone/"),
      Rule(r"(neck|mask_head)\..*", None),
    ),
    {name: {"backbone": tree} for name, tree in target.items()},
  )
  variables = {name: tree["backbone"] for name, tree in variables.items()}
  _, _, c4, c5 = run(network, variables, x, train=False)
  for actual, name in ((c4, "c4"), (c5, "c5")):
    expected = golden[name].transpose(0, 2, 3, 1)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale)


# Parameters of torchvision's models without their classifier.
@pytest.mark.parametrize(
  ("depth", "groups", "group_width", "count"),
  [
    (18, 1, 64, 11_176_512),
    (34, 1, 64, 21_284_672),
    (50, 1, 64, 23_508_032),
    (101, 1, 64, 42_500_160),
    (152, 1, 64, 58_143_808),
    (50, 32, 4, 22_979_904),
    (101, 64, 4, 81_406_272),
  ],
)
def test_published_sizes(depth, groups, group_width, count):
  network = ResNet(**DEPTHS[depth], groups=groups, group_width=group_width)
  shapes = jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    jnp.zeros((1, 64, 64, 3)),
  )
  assert sum(a.size for a in jax.tree.leaves(shapes["params"])) == count


def capture(network, variables, x, module_name):
  """Output of the first module of that name."""

  @jax.jit
  def apply(variables, x):
    _, state = network.apply(
      variables,
      x,
      train=False,
      capture_intermediates=lambda module, _: module.name == module_name,
      mutable=["intermediates"],
    )
    return jax.tree.leaves(state)[0]

  return apply(variables, x)


def test_strided_stem_pads_three_on_each_side():
  network = ResNet(**TINY)
  variables, x = init(network)
  kernel = variables["params"]["conv1"]["kernel"]
  expected = sum(
    scipy.signal.correlate2d(
      np.pad(x[0, :, :, c], 3), kernel[:, :, c, 1], mode="valid"
    )[::2, ::2]
    for c in range(3)
  )
  stem = capture(network, variables, x, "conv1")
  np.testing.assert_allclose(stem[0, :, :, 1], expected, atol=1e-5)


def test_space_to_depth_stem_sees_each_pixel():
  network = ResNet(**TINY, stem="space_to_depth")
  variables, x = init(network)
  # A kernel that reads row 1, column 2, channel 0 of each 4 x 4 patch.
  kernel = np.zeros((3, 3, 48, 4), np.float32)
  kernel[1, 1, (1 * 4 + 2) * 3 + 0, 0] = 1
  variables["params"]["conv1"]["kernel"] = kernel
  stem = capture(network, variables, x, "conv1")
  np.testing.assert_allclose(stem[..., 0], x[:, 1::4, 2::4, 0], atol=1e-6)


@pytest.mark.parametrize("stem", ["conv7", "space_to_depth"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_strides_and_channels(block, stem):
  network = ResNet(**(TINY | dict(block=block)), stem=stem)
  shapes = jax.eval_shape(
    lambda x: network.init_with_output(jax.random.key(0), x, train=False)[0],
    jnp.zeros((1, 64, 96, 3)),
  )
  expansion = 4 if block == "bottleneck" else 1
  assert [c.shape for c in shapes] == [
    (1, 64 // stride, 96 // stride, width * expansion)
    for stride, width in zip((4, 8, 16, 32), TINY["widths"], strict=True)
  ]


@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_stride_placement(stride_in_1x1):
  network = ResNet(
    **(TINY | dict(block="bottleneck")), stride_in_1x1=stride_in_1x1
  )
  _, state = jax.eval_shape(
    lambda x: network.init_with_output(
      jax.random.key(0),
      x,
      train=False,
      capture_intermediates=True,
      mutable=True,
    ),
    jnp.zeros((1, 32, 32, 3)),
  )
  (first,) = state["intermediates"]["layer2_0"]["conv1"]["__call__"]
  assert first.shape[1] == (4 if stride_in_1x1 else 8)


@pytest.mark.parametrize(("deformable", "channels"), [("v1", 18), ("v2", 27)])
def test_deformable_layers_are_the_3x3_of_c3_to_c5(deformable, channels):
  network = ResNet(**(TINY | dict(block="bottleneck")), deformable=deformable)
  shapes = jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    jnp.zeros((1, 32, 32, 3)),
  )
  layers = {
    f"{block}/{layer}": tree["offset"]["kernel"].shape[-1]
    for block, layers in shapes["params"].items()
    if block.startswith("layer")
    for layer, tree in layers.items()
    if "offset" in tree
  }
  assert layers == {f"layer{i}_0/conv2": channels for i in (2, 3, 4)}


def test_zero_offsets_leave_a_resnext_as_it_is():
  tiny = TINY | dict(block="bottleneck", groups=2, group_width=32)
  plain, deformable = ResNet(**tiny), ResNet(**tiny, deformable="v1")
  variables, x = init(plain)
  kernel = variables["params"]["layer1_0"]["conv2"]["kernel"]
  assert kernel.shape == (3, 3, 2, 4)  # width 4: 2 channels in each group
  expected = run(plain, variables, x, train=False)
  for stage in (2, 3, 4):
    conv = variables["params"][f"layer{stage}_0"]["conv2"]
    channels = conv["kernel"].shape[-1]
    conv["offset"] = {
      "kernel": np.zeros((3, 3, channels, 18), np.float32),
      "bias": np.zeros(18, np.float32),
    }
  for actual, feature in zip(
    run(deformable, variables, x, train=False), expected, strict=True
  ):
    np.testing.assert_allclose(actual, feature, rtol=1e-4, atol=1e-4)


def test_frozen_stages_get_no_gradient_and_keep_statistics():
  network = ResNet(**TINY, norm="batch", frozen_stages=2)
  variables, x = init(network)

  def loss(params):
    features, update = network.apply(
      variables | {"params": params}, x, train=True, mutable=["batch_stats"]
    )
    return sum(jnp.sum(c**2) for c in features), update["batch_stats"]

  gradient, stats = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
  frozen = {"conv1", "bn1", "layer1_0", "layer2_0"}
  assert {name for name in gradient if is_frozen(name, 2)} == frozen
  for name, leaves in gradient.items():
    norm = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(leaves))
    assert (norm == 0) == (name in frozen), name
  for name, leaves in stats.items():
    same = jax.tree.map(np.array_equal, leaves, variables["batch_stats"][name])
    assert all(jax.tree.leaves(same)) == (name in frozen), name


def test_remat_changes_no_gradient_and_no_statistics():
  variables, x = init(ResNet(**TINY, norm="sync", axis_name="devices"))

  def run(remat):
    network = ResNet(**TINY, norm="sync", axis_name="devices", remat=remat)

    def loss(params, x):
      features, update = network.apply(
        variables | {"params": params}, x, train=True, mutable=["batch_stats"]
      )
      return sum(jnp.sum(c**2) for c in features), update["batch_stats"]

    # Two devices, for the collectives of the statistics.
    over_devices = jax.vmap(
      jax.grad(loss, has_aux=True), in_axes=(None, 0), axis_name="devices"
    )
    return jax.jit(over_devices)(variables["params"], x[:, None])

  expected, found = run(()), run((2, 4))
  assert jax.tree.structure(expected) == jax.tree.structure(found)
  for actual, leaf in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(actual, leaf, atol=1e-5 * np.abs(leaf).max())


def test_remat_keeps_less_for_the_backward_pass():
  variables, x = init(ResNet(**TINY, norm="batch"))

  def count_kept(remat):
    network = ResNet(**TINY, norm="batch", remat=remat)

    def loss(params):
      features, _ = network.apply(
        variables | {"params": params}, x, train=True, mutable=["batch_stats"]
      )
      return sum(jnp.sum(c**2) for c in features)

    # What a vjp closes over is what it keeps.
    backward = jax.eval_shape(
      lambda params: jax.vjp(loss, params)[1], variables["params"]
    )
    return sum(leaf.size for leaf in jax.tree.leaves(backward))

  kept = [count_kept((1, 2, 3, 4)[:number]) for number in range(5)]
  assert all(np.diff(kept) < 0)


def test_remat_draws_the_same_parameters():
  def draw(remat):
    network = ResNet(**TINY, remat=remat)
    x = jnp.zeros((1, 32, 32, 3))
    return jax.jit(functools.partial(network.init, train=False))(
      jax.random.key(0), x
    )

  jax.tree.map(np.testing.assert_array_equal, draw(()), draw((1, 2, 3, 4)))


def test_nothing_is_frozen_at_zero():
  assert not any(is_frozen(name, 0) for name in ("conv1", "bn1", "layer1_0"))


def test_frozen_norm_is_the_same_in_training():
  network = ResNet(**TINY, norm="frozen")
  variables, x = init(network)
  trained, update = run(
    network, variables, x, train=True, mutable="batch_stats"
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    (trained, update["batch_stats"]),
    (run(network, variables, x, train=False), variables["batch_stats"]),
  )


def test_bfloat16_is_close_and_keeps_float32_variables():
  variables, x = init(ResNet(**TINY))
  network = ResNet(**TINY, dtype=jnp.bfloat16)
  expected = run(ResNet(**TINY), variables, x, train=False)
  for actual, wide in zip(
    run(network, variables, x, train=False), expected, strict=True
  ):
    assert actual.dtype == jnp.bfloat16
    # 8 bits of mantissa, rounded at a dozen layers.
    error = jnp.abs(actual.astype(jnp.float32) - wide).max()
    assert error < 0.05 * jnp.abs(wide).max()
  shapes = jax.eval_shape(
    functools.partial(network.init, train=False), jax.random.key(0), x
  )
  assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(block="wide"), "'basic' or 'bottleneck', got 'wide'"),
    (dict(stem="conv3"), "'conv7' or 'space_to_depth', got 'conv3'"),
    (dict(stride_in_1x1=True), 'block is "basic"'),
    (dict(deformable="v3"), "None, 'v1' or 'v2', got 'v3'"),
    (dict(deformable="v1"), "got 'v1', 1 and 64; use block 'bottleneck'"),
    (dict(groups=2), "got None, 2 and 64; use block 'bottleneck'"),
    (dict(widths=(4, 6)), r"4 entries each, got \(1, 1, 1, 1\) and \(4, 6\)"),
    (dict(frozen_stages=5), "0 to 4, got 5"),
    (dict(remat=(0, 1)), r"stages from 1 to 4, got \(0, 1\)"),
    (dict(norm="layer"), "got 'layer'"),
  ],
)
def test_bad_attributes(change, message):
  with pytest.raises(ValueError, match=message):
    init(ResNet(**(TINY | change)))


def test_epsilon_of_norms_and_groups_instead():
  variables, x = init(ResNet(**TINY))
  outputs = {}
  for epsilon in (0.0, 1e-5, 1.0):
    network = ResNet(**TINY, norm_epsilon=epsilon)
    outputs[epsilon] = run(network, variables, x, train=False)[0]
  # Variances are 1: each norm divides by sqrt(1 + epsilon).
  close = np.abs(outputs[0.0] - outputs[1e-5]).max()
  assert 0 < close < 1e-3 < np.abs(outputs[0.0] - outputs[1.0]).max()
  widths = (32, 32, 32, 32)
  network = ResNet(**TINY | dict(widths=widths), norm="group", frozen_stages=2)
  variables = jax.eval_shape(
    functools.partial(network.init, train=True), jax.random.key(0), x
  )
  assert set(variables) == {"params"}
