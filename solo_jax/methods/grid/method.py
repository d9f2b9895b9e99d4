"""Builds a Method from the parts of a method on grids."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from solo_jax import types
from solo_jax.methods.grid import lost_instances, suggestion, views
from solo_jax.methods.grid.decode import (
  DecodeSettings,
  Grids,
  decode_candidates,
  merge_candidates,
)
from solo_jax.methods.grid.loss import make_loss_settings
from solo_jax.methods.grid.perfect_outputs import Cells, perfect_cells
from solo_jax.methods.grid.targets import assign_batch
from solo_jax.methods.interface import Method, one_pass
from solo_jax.methods.problems import (
  find_group_problems,
  find_mask_frame_problems,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
  """The parts that differ between methods on grids.

  Attributes:
    network: Class of the network.
    loss: (outputs, batch, settings, axis_name=...) -> (scalar float32, terms).
    make_grids: outputs -> Grids.
    perfect_outputs: (network, batch, Cells) -> Outputs.
    shared_cells: See `Assignment`.
    mask_strides: See Method; empty if masks depend on the levels' strides.
  """

  network: Callable[..., nn.Module]
  loss: Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
  make_grids: Callable[[Any], Grids]
  perfect_outputs: Callable[[nn.Module, types.Batch, Cells], Any]
  shared_cells: str
  mask_strides: tuple[int, ...] = ()


def make_grid_method(
  parts: Parts,
  backbone: nn.Module,
  *,
  num_classes: int,
  network: dict[str, Any],
  loss: dict[str, Any],
  decode: dict[str, Any],
  axis_name: str | None,
) -> Method:
  """Returns a method that predicts on grids, as the SOLO family does.

  Args:
    parts: The method's own parts.
    backbone: Module that returns maps at strides 4, 8, 16 and 32.
    num_classes: K.
    network: Arguments of the network.
    loss: Arguments of the loss.
    decode: Arguments of the decoder.
    axis_name: Mapped device axis of the loss.

  Returns:
    The method.
  """
  settings = DecodeSettings(strides=tuple(network["strides"]), **decode)
  training = make_loss_settings(loss, shared_cells=parts.shared_cells)
  module = parts.network(backbone=backbone, num_classes=num_classes, **network)
  num_grids = tuple(network["num_grids"])
  assignment = training.assignment

  def cells_of(batch):
    return perfect_cells(
      assign_batch(batch, num_grids=num_grids, assignment=assignment),
      batch.labels,
      num_grids=num_grids,
      num_classes=num_classes,
    )

  return Method(
    network=module,
    loss=one_pass(
      functools.partial(parts.loss, settings=training, axis_name=axis_name)
    ),
    decode=lambda outputs, image_size: decode_candidates(
      parts.make_grids(outputs), settings
    ),
    merge=lambda variants: merge_candidates(
      variants, parts.make_grids, settings
    ),
    perfect_outputs=lambda batch: parts.perfect_outputs(
      module, batch, cells_of(batch)
    ),
    lost_instances=functools.partial(
      lost_instances.lost_instances,
      num_grids=num_grids,
      assignment=assignment,
    ),
    target_views=lambda batch, colors: {
      "cells": views.draw_cells(batch.image, cells_of(batch).owner, colors)
    },
    suggest=functools.partial(
      suggestion.suggest_levels, is_free=bool(parts.mask_strides)
    ),
    mask_strides=parts.mask_strides,
  )


def find_problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to methods on grids.

  Args:
    config: Nested mappings.

  Returns:
    One line per problem.
  """
  network, problems = config["network"], []
  problems += find_mask_frame_problems(config)
  levels = network["levels"]
  for key, entries in (
    ("network.strides", network["strides"]),
    ("network.num_grids", network["num_grids"]),
    ("loss.scale_ranges", config["loss"]["scale_ranges"]),
  ):
    if len(entries) != len(levels):
      problems.append(
        f"{key} has {len(entries)} entries and network.levels {len(levels)}; "
        "there must be one per level"
      )
  return problems + find_group_problems(network, "head_channels")
