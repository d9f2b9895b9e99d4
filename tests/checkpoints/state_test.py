"""Tests of solo_jax/checkpoints/state.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from solo_jax.checkpoints.state import (
  count_parameters,
  create_train_state,
  evaluation_variables,
  init_variables,
  variable_shapes,
)


def test_initial_variables_follow_the_seed(toy):
  network = toy.make_toy_method().network
  draw = [
    init_variables(network, image_size=toy.IMAGE_SIZE, seed=seed)
    for seed in (0, 0, 1)
  ]
  kernels = [x["params"]["head"]["kernel"] for x in draw]
  np.testing.assert_array_equal(kernels[0], kernels[1])
  assert np.all(kernels[0] != kernels[2])
  assert set(draw[0]) == {"params", "batch_stats"}


def test_shapes_are_those_of_the_variables(toy):
  network = toy.make_toy_method().network
  shapes = variable_shapes(network, image_size=toy.IMAGE_SIZE)
  variables = init_variables(network, image_size=toy.IMAGE_SIZE, seed=0)
  jax.tree.map(
    lambda a, b: np.testing.assert_equal(a.shape, b.shape), shapes, variables
  )


def test_average_is_kept_and_evaluated_only_on_request():
  variables = {"params": {"w": jnp.ones(3)}, "batch_stats": {"m": jnp.ones(1)}}
  state = create_train_state(variables, optax.sgd(1.0, 0.9), use_ema=False)
  assert state.ema_params is None
  assert evaluation_variables(state)["params"] is state.params
  state = create_train_state(variables, optax.sgd(1.0, 0.9), use_ema=True)
  state = state.replace(ema_params={"w": jnp.zeros(3)})
  np.testing.assert_array_equal(evaluation_variables(state)["params"]["w"], 0.0)
  assert int(state.step) == int(state.nonfinite_total) == 0


def test_count_parameters():
  assert count_parameters({"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)}) == 10
