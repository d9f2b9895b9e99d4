"""Builds the method and the predictor of a config, for every command."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from solo_jax.backbones import make_backbone
from solo_jax.checkpoints.compatibility import check_tree
from solo_jax.checkpoints.state import variable_shapes
from solo_jax.inference.predictor import Predictor
from solo_jax.methods.interface import Method
from solo_jax.methods.table import make_method


def build_method(
  config: Mapping[str, Any] | ml_collections.ConfigDict,
  axis_name: str | None = None,
) -> Method:
  """Builds the method of a config; the one place that does.

  Args:
    config: The whole configuration, or its sections as plain dicts.
    axis_name: Mapped device axis in training; None elsewhere.

  Returns:
    The method.
  """
  dtype = jnp.dtype(config["training"]["precision"])
  rule = config["preprocessing"]
  return make_method(
    config["method"],
    make_backbone(config["backbone"], dtype=dtype, axis_name=axis_name),
    num_classes=config["dataset"]["num_classes"],
    network=dict(
      config["network"],
      mean=rule["mean"],
      std=rule["std"],
      channel_order=rule["channel_order"],
      dtype=dtype,
    ),
    loss=dict(config["loss"]),
    decode=dict(config["decode"]),
    axis_name=axis_name,
  )


def build_predictor(
  config: ml_collections.ConfigDict,
  variables: dict[str, Any],
  *,
  batch_size: int,
  scales: Sequence[float] = (1.0,),
  flip: bool = False,
  devices: Sequence[jax.Device] | None = None,
) -> Predictor:
  """Builds the predictor of a config.

  Args:
    config: The whole configuration.
    variables: The network's {'params', 'batch_stats'}.
    batch_size: Images a call of the network on each device.
    scales: See Predictor.
    flip: See Predictor.
    devices: Devices that share the images; None: the first.

  Returns:
    The predictor.

  Raises:
    ValueError: If the variables are not those of the config's network.
    errors.UserError: If its method has no test-time augmentation.
  """
  return Predictor(
    **predictor_parts(config, variables),
    batch_size=batch_size,
    scales=scales,
    flip=flip,
    devices=devices,
  )


def predictor_parts(
  config: ml_collections.ConfigDict, variables: dict[str, Any]
) -> dict[str, Any]:
  """Builds what a predictor is made of.

  Args:
    config: The whole configuration.
    variables: The network's {'params', 'batch_stats'}.

  Returns:
    Arguments of Predictor.

  Raises:
    ValueError: If the variables are not those of the config's network.
  """
  method = build_method(config)
  shapes = variable_shapes(
    method.network, image_size=config.transforms.image_size
  )
  check_tree(variables, shapes, f"cannot use these weights of {config.method}")
  return dict(
    method=method,
    variables=variables,
    preprocessing=config.preprocessing.to_dict(),
    mask_threshold=config.decode.mask_threshold,
  )
