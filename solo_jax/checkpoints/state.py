"""The state of a training run and its initial value."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
  """Everything that a checkpoint must contain to resume a run exactly.

  Attributes:
    step: Steps taken, also the position in the data. [] int32.
    params: Parameters. float32.
    batch_stats: Running statistics of batch norm. float32.
    opt_state: State of the optimizer.
    ema_params: Exponential moving average of `params`, or None if off.
    nonfinite_total: Steps skipped so far for a non-finite loss or gradient.
      [] int32.
    nonfinite_in_row: Steps skipped since the last finite one. [] int32.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: optax.OptState
  ema_params: Any
  nonfinite_total: jax.Array
  nonfinite_in_row: jax.Array


def init_variables(
  network: nn.Module, *, image_size: tuple[int, int], seed: int
) -> dict[str, Any]:
  """Returns the network's initial variables.

  Args:
    network: The method's network.
    image_size: Padded (height, width) of a training image.
    seed: Seed of the draw.

  Returns:
    {'params', 'batch_stats'}; the latter empty for a network without any.
  """

  @jax.jit  # compiled, so that the forward pass is optimised away
  def init(key: jax.Array) -> dict[str, Any]:
    image = jnp.zeros((1, *image_size, 3), jnp.uint8)
    size = jnp.asarray([image_size], jnp.int32)
    return network.init(key, image, size, train=False)

  return {"batch_stats": {}, **init(jax.random.key(seed))}


def variable_shapes(
  network: nn.Module, *, image_size: tuple[int, int]
) -> dict[str, Any]:
  """Returns the shapes of `init_variables` without computing anything."""
  return jax.eval_shape(
    lambda: init_variables(network, image_size=image_size, seed=0)
  )


def create_train_state(
  variables: dict[str, Any],
  optimizer: optax.GradientTransformation,
  *,
  use_ema: bool,
) -> TrainState:
  """Returns the state of step 0.

  Args:
    variables: {'params', 'batch_stats'}, random or pretrained.
    optimizer: From `make_optimizer`.
    use_ema: Whether to keep an average of the parameters.

  Returns:
    The state.
  """
  params = variables["params"]
  zero = jnp.zeros((), jnp.int32)
  return TrainState(
    step=zero,
    params=params,
    batch_stats=variables["batch_stats"],
    opt_state=jax.jit(optimizer.init)(params),
    ema_params=params if use_ema else None,
    nonfinite_total=zero,
    nonfinite_in_row=zero,
  )


def evaluation_variables(state: TrainState) -> dict[str, Any]:
  """Returns the variables to evaluate with: averaged parameters if kept."""
  params = state.params if state.ema_params is None else state.ema_params
  return {"params": params, "batch_stats": state.batch_stats}


def count_parameters(params: Any) -> int:
  """Returns the number of parameters."""
  return sum(x.size for x in jax.tree.leaves(params))
