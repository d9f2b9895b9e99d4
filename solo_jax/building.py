"""Checks a config, and builds its method and predictor, for every command."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from solo_jax.backbones import make_backbone
from solo_jax.checkpoints.compatibility import check_tree
from solo_jax.checkpoints.state import variable_shapes
from solo_jax.config import find_problems, raise_problems
from solo_jax.inference.predictor import Model, Predictor
from solo_jax.methods import table
from solo_jax.methods.interface import Method


def check_config(config: Mapping[str, Any]) -> None:
  """Checks a config before anything is built from it.

  Args:
    config: Sections of fields: a ConfigDict or plain dicts.

  Raises:
    UserError: Listing every problem, by field, with what to do. The method's
      own rules are checked only if all fields are valid.
  """
  problems = list_problems(config)
  if problems:
    raise_problems(problems)


def list_problems(config: Mapping[str, Any]) -> list[str]:
  """Returns the problems of a config, one per line; see `check_config`."""
  return find_problems(config) or table.find_problems(config)


def build_method(
  config: Mapping[str, Any] | ml_collections.ConfigDict,
  axis_name: str | None = None,
) -> Method:
  """Returns the method of a config. Nothing else builds one.

  Args:
    config: The whole configuration, or its sections as plain dicts.
    axis_name: Mapped device axis in training; None elsewhere.

  Returns:
    The method.
  """
  dtype = jnp.dtype(config["training"]["precision"])
  rule = config["preprocessing"]
  return table.make_method(
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
  """Returns the predictor of a config, without class names.

  Args:
    config: The whole configuration.
    variables: The network's {'params', 'batch_stats'}.
    batch_size: Images per network call on each device.
    scales: See Predictor.
    flip: See Predictor.
    devices: Devices to spread the images over; None: the first device.

  Returns:
    The predictor.

  Raises:
    errors.UserError: If its method has no test-time augmentation.
  """
  return Predictor(
    build_model(config, variables),
    batch_size=batch_size,
    scales=scales,
    flip=flip,
    devices=devices,
  )


def build_model(
  config: ml_collections.ConfigDict,
  variables: dict[str, Any],
  *,
  class_names: Sequence[str] = (),
  category_ids: Sequence[int] = (),
) -> Model:
  """Returns what a predictor runs: method, variables and class names.

  Args:
    config: The whole configuration.
    variables: The network's {'params', 'batch_stats'}, see `check_variables`.
    class_names: Name of each label, for display.
    category_ids: The dataset's own id of each label, for output files.

  Returns:
    The model.
  """
  return Model(
    method=build_method(config),
    variables=variables,
    preprocessing=config.preprocessing.to_dict(),
    mask_threshold=config.decode.mask_threshold,
    class_names=tuple(class_names),
    category_ids=tuple(category_ids),
  )


def check_variables(
  config: ml_collections.ConfigDict, variables: dict[str, Any]
) -> None:
  """Checks that variables are those of a config's network.

  It traces the network, which takes a CPU second for a ResNet-50, and is not
  needed for a signed checkpoint, whose config and variables were saved
  together.

  Args:
    config: The whole configuration.
    variables: The network's {'params', 'batch_stats'}.

  Raises:
    UserError: Naming what is missing, unexpected or of another shape.
  """
  shapes = variable_shapes(
    build_method(config).network, image_size=config.transforms.image_size
  )
  check_tree(variables, shapes, f"cannot use these weights of {config.method}")
