"""What a perfect network would put out: the targets, as raw outputs.

A decoder that gets these outputs shows what a configuration allows, whatever
the training. Each kind of network has a function here.

Shape letters: B images, N instances, P positive pairs, G cells over all
levels, S cells per side of a level, K classes, T tag dimensions, h and w mask
resolution.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.instance_means import unpack_masks
from solo_jax.methods.associative_embedding.network import (
  AssociativeEmbedding,
)
from solo_jax.methods.associative_embedding.network import (
  Outputs as EmbeddingOutputs,
)
from solo_jax.methods.associative_embedding.targets import make_targets
from solo_jax.methods.decoupled_solo.network import DecoupledSOLO
from solo_jax.methods.grid.network import GridNetwork
from solo_jax.methods.grid.targets import Targets, assign_cells
from solo_jax.methods.solo.loss import coarsen_masks
from solo_jax.methods.solo.network import SOLO, UPSCALE, LevelFactor
from solo_jax.methods.solo.network import Outputs as SOLOOutputs
from solo_jax.methods.solov2.network import Outputs as SOLOv2Outputs
from solo_jax.methods.solov2.network import SOLOv2

# Logits of certainty. Of the cells of an instance one is a little surer, so
# that capacities and NMS keep one of each before a second one of any.
SURE, FIRST, OTHER = 20.0, 8.0, 6.0
# The radius of a spatial embedding reaches so far to the nearest other centre,
# whose pixels then have a membership below 1e-5.
REACH = 0.5
# Smallest radius: below, float32 cannot tell distances across an image.
MIN_RADIUS = 0.1


def perfect_outputs(
  network: GridNetwork | AssociativeEmbedding,
  batch: types.Batch,
  loss: Mapping[str, Any],
) -> Any:
  """Builds the outputs that equal the targets of a batch.

  Args:
    network: A network of `methods`; only its attributes are read.
    batch: Images with their targets.
    loss: The `loss` section of a config; of methods that predict on grids,
      `scale_ranges`, `center_sigma` and `max_positives` are read.

  Returns:
    The Outputs of the network's method, for its `decode`.

  Raises:
    TypeError: If the network is of a kind that this module does not know.
  """
  match network:
    case AssociativeEmbedding():
      return _embedding_outputs(network, batch)
    case SOLOv2():
      return _solov2_outputs(network, batch, loss)
    case SOLO() | DecoupledSOLO():
      return _solo_outputs(network, batch, loss)
  raise TypeError(
    f"no perfect outputs of a {type(network).__name__}: add its function to "
    f"{__name__}"
  )


def assign(
  network: GridNetwork,
  batch: types.Batch,
  loss: Mapping[str, Any],
  **changed: Any,
) -> Targets:
  """Assigns the cells of a batch as the loss of the network's method does.

  Args:
    network: SOLO, DecoupledSOLO or SOLOv2.
    batch: The images; leaves [B, ...].
    loss: The `loss` section of a config.
    **changed: Arguments of `assign_cells` that are to differ.

  Returns:
    Targets; leaves [B, ...].
  """
  settings = dict(
    padded_size=batch.image.shape[1:3],
    num_grids=tuple(network.num_grids),
    scale_ranges=tuple(map(tuple, loss["scale_ranges"])),
    center_sigma=loss["center_sigma"],
    max_positives=loss["max_positives"],
    shared_cells="all" if isinstance(network, SOLOv2) else "last",
  )
  assign_image = functools.partial(assign_cells, **{**settings, **changed})
  valid = batch.valid & batch.image_valid[:, None]
  return jax.vmap(assign_image)(
    batch.centers, batch.boxes_xyxy, batch.labels, valid
  )


def owners(
  targets: Targets, num_cells: int, num_instances: int
) -> tuple[jax.Array, jax.Array]:
  """Finds whose mask each cell of an image has: the last to claim it.

  Args:
    targets: Of one image.
    num_cells: G.
    num_instances: N.

  Returns:
    owner: Instance of each cell, -1 for none. [G] int32.
    first: The first cell that an instance owns, the centre if it does; G for
      an instance that owns none. [N] int32.
  """
  cell = jnp.where(targets.valid, targets.cell, num_cells)
  owner = jnp.full(num_cells, -1, jnp.int32)
  owner = owner.at[cell].max(targets.instance, mode="drop")
  owned = owner.at[cell].get(mode="fill", fill_value=-1) == targets.instance
  owned &= targets.valid
  # Pairs stand in the order of their rank: centres before the rest.
  pair = jnp.arange(cell.shape[0])
  row = jnp.where(owned, targets.instance, num_instances)
  first_pair = jnp.full(num_instances, cell.shape[0])
  first_pair = first_pair.at[row].min(pair, mode="drop")
  return owner, cell.at[first_pair].get(mode="fill", fill_value=num_cells)


def _cells(network, batch, loss):
  """Returns owner [B, G] and the category logits of each level."""
  num_cells = sum(s * s for s in network.num_grids)
  targets = assign(network, batch, loss)

  def image_cells(targets, labels):
    owner, first = owners(targets, num_cells, labels.shape[0])
    logits = jnp.where(owner >= 0, OTHER, -SURE)
    logits = logits.at[first].set(FIRST, mode="drop")
    label = labels[jnp.maximum(owner, 0)]
    is_label = jax.nn.one_hot(label, network.num_classes, dtype=bool)
    return owner, jnp.where(is_label, logits[:, None], -SURE)

  owner, logits = jax.vmap(image_cells)(targets, batch.labels)
  return owner, _split_levels(logits, network.num_grids)


def _split_levels(values, num_grids):
  """Splits [B, G, ...] into one [B, S, S, ...] per level."""
  levels, start = [], 0
  for s in num_grids:
    level = values[:, start : start + s * s]
    levels.append(level.reshape(level.shape[0], s, s, *level.shape[2:]))
    start += s * s
  return tuple(levels)


def _weights(batch, masks):
  """Unpacks masks [B, N, h, ...] of a batch to [B, N, h, w] float32."""
  height = masks.shape[2]
  width = batch.image.shape[2] * height // batch.image.shape[1]
  flat = masks.reshape(*masks.shape[:2], -1)
  weights = unpack_masks(flat, height * width)
  return weights.reshape(*masks.shape[:2], height, width)


def _logit(probs):
  probs = jnp.clip(probs, 1e-6, 1 - 1e-6)
  return jnp.log(probs) - jnp.log1p(-probs)


def _solov2_outputs(network, batch, loss):
  """One mask-feature channel for each instance, kernels that pick it."""
  owner, category_logits = _cells(network, batch, loss)
  kernel = jax.nn.one_hot(owner, batch.valid.shape[1])  # [B, G, N]
  feature = _logit(_weights(batch, batch.masks))
  return SOLOv2Outputs(
    category_logits=category_logits,
    kernel=_split_levels(kernel, network.num_grids),
    mask_feature=jnp.moveaxis(feature, 1, -1),
  )


def _solo_outputs(network, batch, loss):
  """As of SOLOv2, at each level's resolution; of one image only."""
  if batch.image.shape[0] != 1:
    raise ValueError("kernels of SOLO are for all images: give one at a time")
  owner, category_logits = _cells(network, batch, loss)
  level_owner = _split_levels(owner, network.num_grids)
  factors, mask_sizes = [], []
  for owner, stride in zip(level_owner, network.strides, strict=True):
    size = tuple(UPSCALE * (n // stride) for n in batch.image.shape[1:3])
    weights = _weights(batch, coarsen_masks(batch.masks, size))[0]  # [N, h, w]
    if isinstance(network, SOLO):
      made = (_picking(_logit(weights), owner[0].ravel()),)
    else:
      made = _column_and_row(weights, owner[0])
    factors.append(made)
    mask_sizes.append(size)
  return SOLOOutputs(category_logits, tuple(factors), tuple(mask_sizes))


def _picking(maps, channel):
  """A factor of one map [C, h, w] for each cell: its channel [G]."""
  kernel = jax.nn.one_hot(channel, maps.shape[0])
  return LevelFactor(
    jnp.moveaxis(maps, 0, -1)[None], kernel, jnp.zeros(channel.shape)
  )


def _column_and_row(weights, owner):
  """Factors of Decoupled SOLO: all that a column, and a row, has to show.

  Args:
    weights: [N, h, w] float32.
    owner: [S, S] int32.

  Returns:
    The factor of columns and that of rows; their product is the mask where
    no other instance is in both.
  """
  num_grid, num_instances = owner.shape[0], weights.shape[0]
  roots = jnp.sqrt(weights)
  has = jax.nn.one_hot(owner, num_instances, dtype=bool)  # [S, S, N]

  def union(members):  # [N] -> [h, w]
    return jnp.max(jnp.where(members[:, None, None], roots, 0.0), axis=0)

  row, column = (x.ravel() for x in jnp.mgrid[:num_grid, :num_grid])
  columns = jax.lax.map(union, has.any(0))
  rows = jax.lax.map(union, has.any(1))
  return (
    _picking(_logit(columns), column),
    _picking(_logit(rows), row),
  )


def _embedding_outputs(network, batch):
  """Every pixel certain of its owner, class and tag."""
  height, width = (n // network.mask_stride for n in batch.image.shape[1:3])
  targets = make_targets(batch, (height, width))
  if network.embedding == "spatial":
    tags, radius = _places(network, batch, targets.valid)
  else:
    tags, radius = _lattice(network, batch.valid.shape)
  of_owner = targets.owner[..., None]
  embedding = jnp.take_along_axis(tags, of_owner, axis=1)
  radius = jnp.take_along_axis(radius, targets.owner, axis=1)
  foreground = _logit(targets.foreground)[..., None]
  is_label = jax.nn.one_hot(targets.label, network.num_classes, dtype=bool)
  outputs = EmbeddingOutputs(
    category_logits=jnp.where(is_label, foreground, foreground - SURE),
    embedding=embedding,
    log_precision=-2 * jnp.log(radius),
    seed_logits=jnp.where(targets.foreground >= 0.5, SURE, -SURE),
    quality_logits=jnp.full_like(targets.foreground, SURE),
  )
  return jax.tree.map(
    lambda x: x.reshape(x.shape[0], height, width, *x.shape[2:]), outputs
  )


def _places(network, batch, valid):
  """Centres as tags [B, N, 2], radii [B, N] that reach no other centre."""
  tags = (batch.centers + 0.5) / network.coordinate_unit
  distance = jnp.linalg.norm(tags[:, :, None] - tags[:, None], axis=-1)
  is_self = jnp.eye(valid.shape[1], dtype=bool)
  distance = jnp.where(valid[:, None] & ~is_self, distance, jnp.inf)
  radius = REACH * jnp.min(distance, axis=-1)
  return tags, jnp.clip(radius, MIN_RADIUS, network.tag_radius)


def _lattice(network, shape):
  """Tags [B, N, T] four radii apart, and the radius everywhere [B, N]."""
  num_images, num_instances = shape
  num_tags = network.tag_channels
  side = 1
  while side**num_tags < num_instances:
    side += 1
  index = jnp.arange(num_instances)
  digits = [index // side**t % side for t in range(num_tags)]
  tags = 4 * network.tag_radius * jnp.stack(digits, axis=-1)
  tags = jnp.broadcast_to(tags.astype(jnp.float32), (num_images, *tags.shape))
  return tags, jnp.full(shape, network.tag_radius)
