"""Associative embedding as a row of the table of methods."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from solo_jax.methods.associative_embedding.average import average_outputs
from solo_jax.methods.associative_embedding.decode import DecodeSettings
from solo_jax.methods.associative_embedding.decode import decode as decode_maps
from solo_jax.methods.associative_embedding.loss import (
  LossSettings,
  associative_embedding_loss,
)
from solo_jax.methods.associative_embedding.lost_instances import (
  lost_instances,
)
from solo_jax.methods.associative_embedding.network import AssociativeEmbedding
from solo_jax.methods.associative_embedding.perfect_outputs import (
  perfect_outputs,
)
from solo_jax.methods.associative_embedding.suggestion import suggest_bandwidth
from solo_jax.methods.associative_embedding.views import draw_views
from solo_jax.methods.interface import Method, one_pass
from solo_jax.methods.problems import (
  find_group_problems,
  find_mask_frame_problems,
  find_mask_stride_problems,
)


def make(
  backbone: nn.Module,
  *,
  num_classes: int,
  network: dict[str, Any],
  loss: dict[str, Any],
  decode: dict[str, Any],
  axis_name: str | None,
) -> Method:
  """Returns the method of a config of associative embedding.

  Args:
    backbone: Module that returns maps at strides 4, 8, 16 and 32.
    num_classes: K.
    network: Arguments of the network.
    loss: Arguments of the loss.
    decode: Arguments of the decoder.
    axis_name: Mapped device axis of the loss.

  Returns:
    The method.
  """
  settings = DecodeSettings(mask_stride=network["mask_stride"], **decode)
  module = AssociativeEmbedding(
    backbone=backbone, num_classes=num_classes, **network
  )
  decode_outputs = functools.partial(decode_maps, settings=settings)

  def merge(variants):
    outputs = average_outputs(
      variants, coordinate_unit=network["coordinate_unit"]
    )
    return decode_outputs(outputs, variants[0].image_size)

  views = functools.partial(draw_views, settings=settings)

  def target_views(batch, colors):
    del colors  # groups have their own
    outputs = perfect_outputs(module, batch)
    groups = views(outputs, batch.image_size)["groups"]
    return {"groups of perfect tags": groups}

  return Method(
    network=module,
    loss=one_pass(
      functools.partial(
        associative_embedding_loss,
        settings=LossSettings(**loss),
        axis_name=axis_name,
      )
    ),
    decode=decode_outputs,
    # Free tags of two variants are unrelated.
    merge=None if network["embedding"] == "tag" else merge,
    views=views,
    perfect_outputs=functools.partial(perfect_outputs, module),
    lost_instances=functools.partial(
      lost_instances,
      network=module,
      foreground_threshold=settings.foreground_threshold,
      min_pixels=settings.min_pixels,
    ),
    target_views=target_views,
    suggest=suggest_bandwidth,
    mask_strides=(4, 2),
  )


def problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to associative embedding.

  Args:
    config: Nested mappings.

  Returns:
    A line for each problem.
  """
  network, tag_channels = config["network"], config["network"]["tag_channels"]
  kind, loss = network["embedding"], config["loss"]["embedding_loss"]
  found = find_mask_stride_problems(config)
  found += find_mask_frame_problems(config)
  if (kind == "spatial") != (loss == "spatial"):
    found.append(
      f"network.embedding is {kind!r} and loss.embedding_loss {loss!r}; "
      "'spatial' goes with 'spatial', 'tag' with the other losses"
    )
  if kind == "spatial" and tag_channels != 2:
    found.append(
      f"network.tag_channels is {tag_channels}; a spatial embedding has 2"
    )
  if config["decode"]["grouping"] == "histogram" and tag_channels > 2:
    found.append(
      f"network.tag_channels is {tag_channels}; decode.grouping='histogram' "
      "bins at most 2"
    )
  return found + find_group_problems(network, "head_channels")
