"""Tests of solo_jax/training/optimizer.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.nn.backbones import resnet
from solo_jax.training.optimizer import (
  decay_mask,
  frozen_mask,
  make_optimizer,
  make_schedule,
  scale_learning_rate,
)

STEP = dict(
  schedule="step",
  num_steps=100,
  decay_steps=(60, 80),
  warmup_steps=10,
  warmup_factor=0.1,
)


def make_params():
  return {
    "backbone": {
      "conv1": {"kernel": jnp.full((2, 3), 0.5)},
      "bn1": {"scale": jnp.ones(3), "bias": jnp.zeros(3)},
      "layer1_0": {"conv1": {"kernel": jnp.full((3, 3), -0.5)}},
      "layer2_0": {"conv1": {"kernel": jnp.full((3, 3), 2.0)}},
    },
    "head": {"kernel": jnp.full((3, 1), 1.5), "bias": jnp.full(1, 0.25)},
  }


def build(params, **changes):
  options = dict(
    name="sgd",
    momentum=0.9,
    weight_decay=0.1,
    decayed="weights",
    clip_norm=None,
    backbone_factor=1.0,
    is_frozen=frozen(0),
  )
  return make_optimizer(params, **options | changes)


def frozen(stages):
  return functools.partial(resnet.is_frozen, frozen_stages=stages)


def run(optimizer, params, gradients, rate):
  @jax.jit
  def step(params, state, gradient):
    updates, state = optimizer.update(gradient, state, params)
    return jax.tree.map(lambda p, u: p - rate * u, params, updates), state

  state = jax.jit(optimizer.init)(params)
  for gradient in gradients:
    params, state = step(params, state, gradient)
  return params


def update(optimizer, gradient, params):
  """The first update."""

  @jax.jit
  def run():
    return optimizer.update(gradient, optimizer.init(params), params)[0]

  return run()


def random_gradients(params, num_steps=3):
  rng = np.random.default_rng(0)
  return [
    jax.tree.map(
      lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params
    )
    for _ in range(num_steps)
  ]


def test_linear_rule():
  rate = scale_learning_rate(0.01, batch_size=8, reference_batch_size=16)
  assert rate == 0.005


@pytest.mark.parametrize(
  "step, expected",
  [
    (0, 0.02),  # warm-up starts at 0.1 x 0.2
    (5, 0.2 * 0.55),
    (10, 0.2),
    (59, 0.2),
    (60, 0.02),
    (79, 0.02),
    (80, 0.002),
  ],
)
def test_step_schedule(step, expected):
  learning_rate = make_schedule(0.2, **STEP)
  np.testing.assert_allclose(learning_rate(step), expected, rtol=1e-6)


@pytest.mark.parametrize(
  "step, expected", [(0, 0.02), (10, 0.2), (55, 0.1), (100, 0.0), (120, 0.0)]
)
def test_cosine_schedule(step, expected):
  learning_rate = make_schedule(0.2, **STEP | dict(schedule="cosine"))
  np.testing.assert_allclose(learning_rate(step), expected, atol=1e-8)


@pytest.mark.parametrize(
  "step, expected", [(10, 0.2 * 0.9**0.9), (75, 0.2 * 0.25**0.9), (100, 0.0)]
)
def test_poly_schedule(step, expected):
  learning_rate = make_schedule(0.2, **STEP | dict(schedule="poly"))
  np.testing.assert_allclose(learning_rate(step), expected, rtol=1e-6)


def test_schedule_without_warmup_or_decay():
  learning_rate = make_schedule(
    0.2, **STEP | dict(warmup_steps=0, decay_steps=())
  )
  np.testing.assert_allclose(learning_rate(jnp.int32(0)), 0.2, rtol=1e-6)


def test_unknown_schedule():
  with pytest.raises(ValueError, match="unknown schedule 'exp'.*'cosine'"):
    make_schedule(0.2, **STEP | dict(schedule="exp"))


def test_sgd_equals_torch_formula():
  params = make_params()
  gradients = random_gradients(params)
  found = run(build(params), params, gradients, rate=0.01)
  for path in (("head", "kernel"), ("head", "bias")):
    value = np.asarray(params[path[0]][path[1]], np.float64)
    decay = 0.1 if path[1] == "kernel" else 0.0
    buffer = np.zeros_like(value)
    for gradient in gradients:
      buffer = 0.9 * buffer + gradient[path[0]][path[1]] + decay * value
      value = value - 0.01 * buffer
    np.testing.assert_allclose(found[path[0]][path[1]], value, rtol=1e-6)


def test_adamw_equals_paper():
  params = make_params()
  gradients = random_gradients(params)
  found = run(build(params, name="adamw"), params, gradients, rate=0.01)
  value = np.asarray(params["head"]["kernel"], np.float64)
  first, second = np.zeros_like(value), np.zeros_like(value)
  for t, gradient in enumerate(gradients, start=1):
    gradient = np.asarray(gradient["head"]["kernel"], np.float64)
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient**2
    direction = first / (1 - 0.9**t)
    direction /= np.sqrt(second / (1 - 0.999**t)) + 1e-8
    value = value - 0.01 * (direction + 0.1 * value)
  np.testing.assert_allclose(found["head"]["kernel"], value, rtol=1e-5)


def test_unknown_optimizer():
  with pytest.raises(ValueError, match="unknown optimizer 'lamb'"):
    build(make_params(), name="lamb")


def test_clipping_bounds_the_global_norm():
  params = make_params()
  optimizer = build(params, momentum=0.0, weight_decay=0.0, clip_norm=2.0)
  gradient = jax.tree.map(lambda p: jnp.full(p.shape, 100.0), params)
  updates = update(optimizer, gradient, params)
  norm = np.sqrt(sum(np.sum(u**2) for u in jax.tree.leaves(updates)))
  np.testing.assert_allclose(norm, 2.0, rtol=1e-5)
  small = jax.tree.map(lambda p: jnp.full(p.shape, 1e-3), params)
  updates = update(optimizer, small, params)
  np.testing.assert_allclose(updates["head"]["bias"], 1e-3, rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_frozen_stages_do_not_move(name):
  params = make_params()
  optimizer = build(params, name=name, is_frozen=frozen(1), clip_norm=1.0)
  found = run(optimizer, params, random_gradients(params), rate=0.1)
  for part in ("conv1", "bn1", "layer1_0"):
    jax.tree.map(
      np.testing.assert_array_equal,
      found["backbone"][part],
      params["backbone"][part],
    )
  moved = found["backbone"]["layer2_0"]["conv1"]["kernel"]
  assert np.all(moved != params["backbone"]["layer2_0"]["conv1"]["kernel"])


def test_gradients_of_frozen_stages_do_not_count_in_the_norm():
  params = make_params()
  optimizer = build(
    params, momentum=0.0, weight_decay=0.0, clip_norm=1.0, is_frozen=frozen(4)
  )
  gradient = jax.tree.map(lambda p: jnp.full(p.shape, 100.0), params)
  gradient["head"] = {"kernel": jnp.full((3, 1), 0.1), "bias": jnp.zeros(1)}
  updates = update(optimizer, gradient, params)
  np.testing.assert_allclose(updates["head"]["kernel"], 0.1, rtol=1e-6)


def test_frozen_and_decayed_parameters():
  params = make_params()
  mask = frozen_mask(params, frozen(1))
  assert mask["backbone"]["layer1_0"]["conv1"]["kernel"]
  assert not mask["backbone"]["layer2_0"]["conv1"]["kernel"]
  assert not mask["head"]["bias"]
  decayed = decay_mask(params, decayed="weights", is_frozen=frozen(1))
  assert decayed["head"] == {"kernel": True, "bias": False}
  assert not decayed["backbone"]["conv1"]["kernel"]  # frozen
  decayed = decay_mask(params, decayed="all", is_frozen=frozen(0))
  assert all(jax.tree.leaves(decayed))


def test_embeddings_and_bias_tables_are_not_decayed():
  matrix = jnp.ones((2, 3))
  params = {
    "queries": {"embedding": matrix, "kernel": matrix},
    "attention": {"relative_position_bias_table": matrix},
    "level_embedding": matrix,
    "embedding": {"kernel": matrix},  # a layer of that name has weights
  }
  decayed = decay_mask(params, decayed="weights", is_frozen=frozen(0))
  assert decayed == {
    "queries": {"embedding": False, "kernel": True},
    "attention": {"relative_position_bias_table": False},
    "level_embedding": False,
    "embedding": {"kernel": True},
  }


def test_biases_of_layers_alone():
  decayed = decay_mask(make_params(), decayed="layers", is_frozen=frozen(0))
  assert decayed["head"] == {"kernel": True, "bias": True}
  assert decayed["backbone"]["bn1"] == {"scale": False, "bias": False}
  with pytest.raises(ValueError, match="unknown choice 'some'"):
    decay_mask(make_params(), decayed="some", is_frozen=frozen(0))


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_backbone_factor_scales_the_backbone_s_updates(name):
  params = make_params()
  gradients = random_gradients(params, num_steps=1)
  plain, slow = (
    run(build(params, name=name, **options), params, gradients, rate=0.1)
    for options in ({}, dict(backbone_factor=0.25))
  )
  moved, moved_slowly = (
    jax.tree.map(jnp.subtract, found, params) for found in (plain, slow)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, 0.25 * b, rtol=1e-4, atol=1e-6),
    moved_slowly["backbone"],
    moved["backbone"],
  )
  jax.tree.map(
    np.testing.assert_array_equal, moved_slowly["head"], moved["head"]
  )


def test_without_a_factor_the_state_is_that_of_older_checkpoints():
  params = make_params()
  state = build(params, name="adamw", clip_norm=1.0).init(params)
  assert len(state) == 4  # freeze, clip, Adam, decay
