"""What a method is, and the table that names them.

A new method is one new folder beside this file and one row in METHODS.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.associative_embedding import decode as embedding_decode
from solo_jax.methods.associative_embedding import loss as embedding_loss
from solo_jax.methods.associative_embedding import views as embedding_views
from solo_jax.methods.associative_embedding.average import average_outputs
from solo_jax.methods.associative_embedding.network import AssociativeEmbedding
from solo_jax.methods.decoupled_solo.network import DecoupledSOLO
from solo_jax.methods.grid.decode import (
  Grids,
  Settings,
  decode_candidates,
  merge_candidates,
)
from solo_jax.methods.solo import decode as solo_decode
from solo_jax.methods.solo import loss as solo_loss
from solo_jax.methods.solo.network import SOLO
from solo_jax.methods.solov2 import decode as solov2_decode
from solo_jax.methods.solov2 import loss as solov2_loss
from solo_jax.methods.solov2.network import SOLOv2
from solo_jax.methods.variants import Variant
from solo_jax.nn.backbones.efficientnet_lite import EfficientNetLite0
from solo_jax.nn.backbones.resnet import ResNet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
  """All that the trainer and the predictor need: a network and functions.

  Attributes:
    network: Linen module; `network.apply(variables, image, image_size,
      train=...)` takes [B, H, W, 3] uint8 pixels and [B, 2] int32 sizes
      and returns the method's own Outputs.
    loss: (outputs, batch) -> (scalar float32, terms). Terms are float32
      scalars for the log; names that end in `_dropped` are counts, to be summed
      over devices, all others are averaged.
    decode: (outputs, image_size) -> Decoded. Pure, with static shapes.
    merge: (variants) -> Decoded, in the frame of the first: test-time
      augmentation; None where outputs of variants cannot be compared.
    views: (outputs, image_size) -> RGB pictures of the outputs by name,
      [B, h, w, 3] float32; None where a method has none to show.
  """

  network: nn.Module
  loss: Callable[[Any, types.Batch], tuple[jax.Array, dict[str, jax.Array]]]
  decode: Callable[[Any, jax.Array], types.Decoded]
  merge: Callable[[Sequence[Variant]], types.Decoded] | None = None
  views: Callable[[Any, jax.Array], dict[str, jax.Array]] | None = None


def make_method(
  name: str,
  *,
  num_classes: int,
  backbone: dict[str, Any],
  network: dict[str, Any],
  loss: dict[str, Any],
  decode: dict[str, Any],
  mean: tuple[float, float, float],
  std: tuple[float, float, float],
  channel_order: str,
  precision: str,
  axis_name: str | None = None,
) -> Method:
  """Builds a method from the sections of a config.

  Args:
    name: A key of METHODS.
    num_classes: K.
    backbone: The config's section of this name.
    network: The config's section of this name.
    loss: The config's section of this name.
    decode: The config's section of this name.
    mean: Channel means of the input.
    std: Channel standard deviations of the input.
    channel_order: 'rgb' or 'bgr'.
    precision: 'float32' or 'bfloat16', of the convolutions.
    axis_name: Mapped device axis, for the loss counts and synchronised batch
      norm; None where nothing is mapped (inference).

  Returns:
    The method.

  Raises:
    KeyError: On an unknown name; lists the known ones.
  """
  if name not in METHODS:
    raise KeyError(f"unknown method {name!r}; known: {sorted(METHODS)}")
  dtype = jnp.dtype(precision)
  return METHODS[name](
    make_backbone(**backbone, dtype=dtype, axis_name=axis_name),
    num_classes=num_classes,
    network=dict(
      network, mean=mean, std=std, channel_order=channel_order, dtype=dtype
    ),
    loss=dict(loss, axis_name=axis_name),
    decode=decode,
  )


def make_grid_method(
  backbone: nn.Module,
  *,
  make_network: Callable[..., nn.Module],
  loss_function: Callable[..., tuple[jax.Array, dict[str, jax.Array]]],
  make_grids: Callable[[Any], Grids],
  num_classes: int,
  network: dict[str, Any],
  loss: dict[str, Any],
  decode: dict[str, Any],
) -> Method:
  """Wires a method that predicts on grids, which all SOLOs do.

  Args:
    backbone: From `make_backbone`.
    make_network: Class of the network.
    loss_function: (outputs, batch, **loss) -> as `Method.loss`.
    make_grids: outputs -> Grids.
    num_classes: K.
    network: Arguments of the network.
    loss: Arguments of the loss.
    decode: Arguments of the decoder.

  Returns:
    The method.
  """
  settings = Settings(strides=tuple(network["strides"]), **decode)
  return Method(
    network=make_network(backbone=backbone, num_classes=num_classes, **network),
    loss=functools.partial(loss_function, **loss),
    decode=lambda outputs, image_size: decode_candidates(
      make_grids(outputs), settings
    ),
    merge=lambda variants: merge_candidates(variants, make_grids, settings),
  )


def make_associative_embedding(
  backbone: nn.Module,
  *,
  num_classes: int,
  network: dict[str, Any],
  loss: dict[str, Any],
  decode: dict[str, Any],
) -> Method:
  """Wires associative embedding; arguments as of `make_grid_method`."""
  decode_outputs = functools.partial(
    embedding_decode.decode, mask_stride=network["mask_stride"], **decode
  )
  return Method(
    network=AssociativeEmbedding(
      backbone=backbone, num_classes=num_classes, **network
    ),
    loss=functools.partial(embedding_loss.associative_embedding_loss, **loss),
    decode=decode_outputs,
    merge=None
    if network["embedding"] == "tag"  # of two variants, they have no relation
    else lambda variants: decode_outputs(
      average_outputs(variants, coordinate_unit=network["coordinate_unit"]),
      variants[0].image_size,
    ),
    views=functools.partial(
      embedding_views.draw_views,
      mask_stride=network["mask_stride"],
      **{name: decode[name] for name in VIEWED},
    ),
  )


# Settings of the decoder that the views share.
VIEWED = (
  "foreground_threshold",
  "grouping",
  "max_detections",
  "min_pixels",
  "min_unclaimed",
  "radii",
  "seed_threshold",
)


_solo = functools.partial(
  make_grid_method,
  loss_function=solo_loss.solo_loss,
  make_grids=solo_decode.make_grids,
)
METHODS = {
  "associative_embedding": make_associative_embedding,
  "solo": functools.partial(_solo, make_network=SOLO),
  # The same with two factors to a mask.
  "decoupled_solo": functools.partial(_solo, make_network=DecoupledSOLO),
  "solov2": functools.partial(
    make_grid_method,
    make_network=SOLOv2,
    loss_function=solov2_loss.solov2_loss,
    make_grids=solov2_decode.make_grids,
  ),
}


def make_backbone(
  *,
  name: str,
  norm: str,
  frozen_stages: int,
  remat: tuple[int, ...],
  weights: str | None,
  dtype: jnp.dtype,
  axis_name: str | None,
  **resnet: Any,
) -> nn.Module:
  """Builds the backbone of a config's section; `weights` is loaded elsewhere.

  Args:
    name: 'resnet' or 'efficientnet_lite0'.
    norm: 'batch', 'sync' or 'frozen'.
    frozen_stages: Leading stages without gradient.
    remat: Stages computed again in the backward pass.
    weights: Not used here: initial weights are the trainer's business.
    dtype: Compute type.
    axis_name: Mapped device axis for 'sync'.
    **resnet: Arguments of ResNet; None in a config of another backbone.

  Returns:
    A module that maps an image to (c2, c3, c4, c5).

  Raises:
    ValueError: On an unknown name.
  """
  del weights
  shared = dict(
    norm=norm,
    frozen_stages=frozen_stages,
    remat=remat,
    dtype=dtype,
    axis_name=axis_name,
  )
  if name == "resnet":
    return ResNet(**resnet, **shared)
  if name == "efficientnet_lite0":
    return EfficientNetLite0(**shared)
  raise ValueError(
    f"backbone.name must be 'resnet' or 'efficientnet_lite0', not {name!r}"
  )
