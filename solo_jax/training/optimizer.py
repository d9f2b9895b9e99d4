"""Learning-rate schedules and gradient transformations.

The learning rate is applied by the training step, so that it follows the step
of the data even when a non-finite step is skipped.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from solo_jax.training.muon import scale_by_muon

# Ends of the names of learned positions and queries, tables of attention
# biases, and QueryInst's proposals: not the weights of a layer.
LEARNED_VALUES = (
  "embedding",
  "bias_table",
  "proposal_boxes",
  "proposal_queries",
)


def scale_learning_rate(
  learning_rate: float, *, batch_size: int, reference_batch_size: int
) -> float:
  """Returns the learning rate by the linear rule (arXiv 1706.02677, 2.1)."""
  return learning_rate * batch_size / reference_batch_size


def make_schedule(
  peak: float,
  *,
  schedule: str,
  num_steps: int,
  decay_steps: tuple[int, ...],
  warmup_steps: int,
  warmup_factor: float,
) -> Callable[[jax.Array], jax.Array]:
  """Returns the learning-rate schedule.

  During the first `warmup_steps` the rate rises linearly from
  `warmup_factor * peak` to its scheduled value.

  Args:
    peak: Highest learning rate, after the linear rule.
    schedule: 'step' multiplies by 0.1 at each of `decay_steps`; 'cosine' falls
      from the end of the warm-up to 0 at `num_steps`; 'poly' falls by
      (1 - step / num_steps)^0.9.
    num_steps: Length of the run in steps.
    decay_steps: Steps of the 'step' schedule.
    warmup_steps: Length of the warm-up; 0 for none.
    warmup_factor: First rate as a fraction of `peak`.

  Returns:
    step [] int32 -> learning rate [] float32.

  Raises:
    ValueError: If the schedule is unknown.
  """
  if schedule not in ("cosine", "poly", "step"):
    raise ValueError(
      f"unknown schedule {schedule!r}; use 'cosine', 'poly' or 'step'"
    )

  def learning_rate(step: jax.Array) -> jax.Array:
    step = jnp.asarray(step, jnp.float32)
    if schedule == "cosine":
      length = max(num_steps - warmup_steps, 1)
      progress = jnp.clip((step - warmup_steps) / length, 0.0, 1.0)
      scale = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    elif schedule == "poly":
      scale = jnp.clip(1.0 - step / num_steps, 0.0, 1.0) ** 0.9
    else:
      decays = sum(jnp.where(step >= s, 1.0, 0.0) for s in decay_steps)
      scale = 0.1**decays
    warmup = jnp.clip(step / max(warmup_steps, 1), 0.0, 1.0)
    if not warmup_steps:
      warmup = 1.0
    return peak * scale * (warmup_factor + (1.0 - warmup_factor) * warmup)

  return learning_rate


def make_optimizer(
  params: Any,
  *,
  name: str,
  momentum: float,
  weight_decay: float,
  decayed: str,
  clip_norm: float | None,
  backbone_factor: float,
  is_frozen: Callable[[str], bool],
) -> optax.GradientTransformation:
  """Returns the transformation from gradients to (positive) update directions.

  The step subtracts learning rate x direction. SGD is PyTorch's: weight decay
  joins the gradient, the learning rate stays outside the momentum. AdamW
  (https://arxiv.org/abs/1711.05101) has betas 0.9 and 0.999 and decays weights
  separately from the moments. Muon is AdamW with other updates of weights, see
  `scale_by_muon`.

  Args:
    params: Parameter tree, for the masks; arrays or shapes.
    name: 'sgd', 'adamw' or 'muon'.
    momentum: Momentum of SGD.
    weight_decay: Weight decay, of `decay_mask` parameters.
    decayed: See `decay_mask`.
    clip_norm: Largest global gradient norm; None for no clipping.
    backbone_factor: Learning rate of the backbone as a multiple of that of
      the rest.
    is_frozen: Path of a parameter in the backbone's tree -> whether it gets
      zero updates.

  Returns:
    The transformation.

  Raises:
    ValueError: If the name is unknown.
  """
  decay = optax.add_decayed_weights(
    weight_decay,
    mask=decay_mask(params, decayed=decayed, is_frozen=is_frozen),
  )
  if name == "sgd":
    rule = [decay, optax.trace(decay=momentum)]
  elif name == "adamw":
    rule = [optax.scale_by_adam(b1=0.9, b2=0.999), decay]
  elif name == "muon":
    rule = [scale_by_muon(is_decayable), decay]
  else:
    raise ValueError(
      f"unknown optimizer {name!r}; use 'adamw', 'muon' or 'sgd'"
    )
  # Without gradient and weight decay, either rule gives a frozen parameter an
  # update of exactly zero.
  freeze = optax.masked(optax.set_to_zero(), frozen_mask(params, is_frozen))
  clip = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
  in_backbone = jax.tree_util.tree_map_with_path(
    lambda path, _: is_backbone(path), params
  )
  # Last, as the learning rate is outside the momentum. Without a factor, the
  # optimizer's state equals that of checkpoints from before the factor existed.
  slow = [optax.masked(optax.scale(backbone_factor), in_backbone)]
  slow = [] if backbone_factor == 1 else slow
  return optax.chain(freeze, *clip, *rule, *slow)


def frozen_mask(params: Any, is_frozen: Callable[[str], bool]) -> Any:
  """Returns which parameters belong to frozen backbone stages.

  Args:
    params: Parameter tree with the backbone under 'backbone'.
    is_frozen: The backbone's rule, see `make_optimizer`.

  Returns:
    Tree of bool, True where frozen.
  """

  def frozen(path: tuple, _: Any) -> bool:
    name = "/".join(x.key for x in path[1:])
    return is_backbone(path) and is_frozen(name)

  return jax.tree_util.tree_map_with_path(frozen, params)


def decay_mask(
  params: Any,
  *,
  decayed: str,
  is_frozen: Callable[[str], bool],
) -> Any:
  """Returns which parameters weight decay acts on.

  Args:
    params: Parameter tree.
    decayed: 'weights', see `is_decayable`; 'layers', these and the biases of
      layers that have weights; or 'all', norms, embeddings and bias tables too.
    is_frozen: The backbone's rule; frozen parameters are never decayed.

  Returns:
    Tree of bool, True where decayed.

  Raises:
    ValueError: On an unknown choice.
  """
  if decayed not in ("weights", "layers", "all"):
    raise ValueError(
      f"unknown choice {decayed!r}; use 'weights', 'layers' or 'all'"
    )
  leaves = jax.tree_util.tree_leaves_with_path(params)
  layers = {path[:-1] for path, _ in leaves if path[-1].key == "kernel"}

  def is_decayed(path: tuple, x: Any, frozen: bool) -> bool:
    if frozen or decayed == "all":
      return not frozen
    is_bias = path[-1].key == "bias" and path[:-1] in layers
    return is_decayable(path, x) or (decayed == "layers" and is_bias)

  return jax.tree_util.tree_map_with_path(
    is_decayed, params, frozen_mask(params, is_frozen)
  )


def is_backbone(path: tuple) -> bool:
  """Returns whether a path is that of a backbone parameter."""
  return path[0].key == "backbone"


def is_decayable(path: tuple, x: Any) -> bool:
  """Returns whether a path is that of a weight, which decays.

  Norm scales, norm offsets and biases are vectors. Other parameters that are
  not weights of a layer are recognised by name, see LEARNED_VALUES.

  Args:
    path: Path of the parameter in its tree.
    x: The parameter.

  Returns:
    True for weights.
  """
  return x.ndim > 1 and not path[-1].key.endswith(LEARNED_VALUES)
