"""One training step on one device: loss, gradient, update.

Shape letters: B images on this device, A micro-batches.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from solo_jax import types
from solo_jax.checkpoints.state import TrainState
from solo_jax.errors import UserError
from solo_jax.methods.interface import Method


def make_train_step(
  method: Method,
  optimizer: optax.GradientTransformation,
  learning_rate: Callable[[jax.Array], jax.Array],
  *,
  accumulate: int,
  ema_decay: float | None,
  axis_name: str,
  seed: int,
) -> Callable[[TrainState, types.Batch], tuple[TrainState, dict]]:
  """Returns the step that `parallel.map_step` maps.

  Args:
    method: Its loss must normalise by counts over all devices, so that the
      mean of the devices' losses is the loss of the global batch.
    optimizer: From `make_optimizer`.
    learning_rate: From `make_schedule`.
    accumulate: A; gradients and losses are plain means over micro-batches.
    ema_decay: Decay of the parameter average; None where the state keeps none.
      Early in a run min(ema_decay, (1 + step) / (10 + step)) is used, so that
      the average forgets the initial parameters.
    axis_name: Mapped device axis.
    seed: Seed of random draws in network and loss; every draw depends on it,
      the step and an image's row in the global batch.

  Returns:
    (state, batch) -> (state, metrics). Metrics are float32 scalars, the same
    on every device: 'loss' and the method's terms (means), counts of what was
    left out (sums, '..._dropped'), 'gradient_norm', 'learning_rate',
    'nonfinite_total' and 'nonfinite_in_row'. A step with a non-finite loss or
    gradient leaves the state as it was, apart from the step and the counters.
  """
  compute_gradient = make_gradient(method, accumulate)

  def train_step(state, batch):
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    gradient, (batch_stats, terms) = compute_gradient(
      state.params, state.batch_stats, batch, key
    )
    gradient = jax.lax.pmean(gradient, axis_name)
    batch_stats = jax.lax.pmean(batch_stats, axis_name)
    metrics = reduce_terms(terms, axis_name)

    norm = optax.global_norm(gradient)
    is_finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
    rate = learning_rate(state.step)
    updates, opt_state = optimizer.update(
      gradient, state.opt_state, state.params
    )
    params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
    ema_params = state.ema_params
    if ema_decay is not None:
      ema_params = update_average(ema_params, params, state.step, ema_decay)

    updated = state.replace(
      params=params,
      batch_stats=batch_stats,
      opt_state=opt_state,
      ema_params=ema_params,
    )
    state = jax.tree.map(
      lambda new, old: jnp.where(is_finite, new, old), updated, state
    )
    skipped = (~is_finite).astype(jnp.int32)
    state = state.replace(
      step=state.step + 1,
      nonfinite_total=state.nonfinite_total + skipped,
      nonfinite_in_row=(state.nonfinite_in_row + 1) * skipped,
    )
    metrics |= {
      "gradient_norm": norm,
      "learning_rate": rate,
      "nonfinite_total": state.nonfinite_total.astype(jnp.float32),
      "nonfinite_in_row": state.nonfinite_in_row.astype(jnp.float32),
    }
    return state, metrics

  return train_step


def make_gradient(method: Method, accumulate: int) -> Callable[..., Any]:
  """Returns the function that differentiates the loss on one device.

  Args:
    method: Its loss is differentiated.
    accumulate: A; gradients and losses are plain means over micro-batches.

  Returns:
    (params, batch_stats, batch, key of the draws) -> (gradient, (updated
    batch_stats, terms)); the terms have the loss too.
  """
  compute_loss = nn.apply(method.loss, method.network, mutable=["batch_stats"])

  def loss_fn(params, batch_stats, batch, key):
    (loss, terms), updated = compute_loss(
      {"params": params, "batch_stats": batch_stats},
      batch,
      rngs={"draws": key},
    )
    terms = {
      "loss": loss,
      **terms,
      "corrupt_images_dropped": jnp.sum(~batch.image_valid),
    }
    batch_stats = {"batch_stats": batch_stats, **updated}["batch_stats"]
    return loss, (batch_stats, terms)

  gradient_fn = jax.grad(loss_fn, has_aux=True)

  def accumulate_gradient(params, batch_stats, batch, key):
    """Scans the micro-batches; batch statistics pass from one to the next."""

    def add_micro_batch(carry, micro_batch):
      gradient, batch_stats = carry
      new, (batch_stats, terms) = gradient_fn(
        params, batch_stats, micro_batch, key
      )
      return (jax.tree.map(jnp.add, gradient, new), batch_stats), terms

    # Strided, so that a micro-batch has the same images for any number of
    # devices.
    micro_batches = jax.tree.map(
      lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch
    )  # [A, B / A, ...]
    zeros = jax.tree.map(jnp.zeros_like, params)
    (gradient, batch_stats), terms = jax.lax.scan(
      add_micro_batch, (zeros, batch_stats), micro_batches
    )
    gradient = jax.tree.map(lambda x: x / accumulate, gradient)
    terms = {
      name: jnp.sum(x, axis=0) if is_count(name) else jnp.mean(x, axis=0)
      for name, x in terms.items()
    }
    return gradient, (batch_stats, terms)

  return gradient_fn if accumulate == 1 else accumulate_gradient


def is_count(name: str) -> bool:
  """Returns whether a metric is summed, by its name; others are averaged."""
  return name.endswith("_dropped")


def reduce_terms(
  terms: dict[str, jax.Array], axis_name: str
) -> dict[str, jax.Array]:
  """Returns counts summed and everything else averaged over devices.

  Args:
    terms: Scalars of this device.
    axis_name: Mapped device axis.

  Returns:
    Scalars, float32, the same on every device.
  """
  return {
    name: (jax.lax.psum if is_count(name) else jax.lax.pmean)(
      jnp.asarray(value, jnp.float32), axis_name
    )
    for name, value in terms.items()
  }


def update_average(
  average: Any, params: Any, step: jax.Array, ema_decay: float
) -> Any:
  """Returns the parameter average, moved towards the parameters.

  Args:
    average: Tree of averaged parameters.
    params: Tree of parameters after the update.
    step: Steps taken before this one. [] int32.
    ema_decay: Largest decay, in [0, 1).

  Returns:
    The new average.
  """
  decay = jnp.minimum(ema_decay, (1.0 + step) / (10.0 + step))
  return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)


def check_finite(
  rows: list[dict[str, float]], step: int, max_nonfinite_steps: int
) -> None:
  """Stops a run that only skips steps.

  Args:
    rows: Metrics of the last steps.
    step: Step of the last row.
    max_nonfinite_steps: Number of consecutive steps from which to stop.

  Raises:
    UserError: With the range of steps.
  """
  for back, row in enumerate(reversed(rows)):
    in_row = int(row["nonfinite_in_row"])
    if in_row >= max_nonfinite_steps:
      last = step - back
      raise UserError(
        f"loss or gradient was not finite in steps {last - in_row + 1} to "
        f"{last} (training.max_nonfinite_steps={max_nonfinite_steps}); lower "
        "optimizer.learning_rate, set optimizer.clip_norm or check the data of "
        "these steps"
      )
