"""The training step of a config and inputs for it, without data or a run."""

import contextlib
import dataclasses
import unittest.mock
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import solov2_scene
from jax.sharding import Mesh, PartitionSpec

from solo_jax import building, parallel, types
from solo_jax.checkpoints import state
from solo_jax.data import batching, mask_frames
from solo_jax.methods.interface import Method
from solo_jax.training import setup, step


def make_step(
  config, method: Method, variables: dict[str, Any]
) -> tuple[Callable, Callable[[dict[str, Any]], state.TrainState]]:
  """Builds the step as a run does.

  Args:
    config: The whole configuration.
    method: From `building.build_method`, for the axis of `devices`.
    variables: The network's, or their shapes.

  Returns:
    step: The step of one device.
    make_state: Makes the state of step 0 from variables.
  """
  optimizer, learning_rate = setup.build_optimizer(
    config, variables["params"], config.optimizer.learning_rate
  )
  train_step = step.make_train_step(
    method,
    optimizer,
    learning_rate,
    accumulate=config.optimizer.accumulate,
    ema_decay=config.optimizer.ema_decay,
    axis_name=parallel.AXIS_NAME,
    seed=config.seed,
  )

  def make_state(variables):
    return state.create_train_state(
      variables, optimizer, use_ema=config.optimizer.ema_decay is not None
    )

  return train_step, make_state


def make_batch(
  config, image_size: tuple[int, int], batch_size: int
) -> types.Batch:
  """Repeats a drawn image with ten instances.

  Args:
    config: The whole configuration.
    image_size: Padded (height, width) of the network input.
    batch_size: B.

  Returns:
    A batch on the host.
  """
  rule = config.transforms
  sample = solov2_scene.make_sample(image_size, num_instances=10)
  if building.build_method(config).num_stuff_classes:
    stuff = np.zeros(image_size, np.uint8)
    sample = dataclasses.replace(sample, stuff=stuff)
  row = batching.make_example(
    sample,
    image_size=image_size,
    mask_frame=mask_frames.from_settings(rule),
    max_instances=rule.max_instances,
    min_mask_area=rule.min_mask_area,
  )
  return types.Batch(
    **jax.tree.map(lambda x: np.stack([x] * batch_size), row),
    row=np.arange(batch_size, dtype=np.int32),
  )


def lower_for_shapes(
  config,
  image_size: tuple[int, int],
  batch_size: int,
  device: jax.Device | None = None,
) -> jax.stages.Lowered:
  """Lowers the step for one device and for shapes alone; makes no array.

  Args:
    config: The whole configuration.
    image_size: Padded (height, width) of the network input.
    batch_size: Images on the device.
    device: Device to compile for, which may be that of a topology which is not
      here; None: the first one here.

  Returns:
    The lowered step.
  """
  device = jax.local_devices()[0] if device is None else device
  with built_for(device):
    return _lower(config, image_size, batch_size, device)


def built_for(device: jax.Device) -> contextlib.AbstractContextManager:
  """Networks made and traced inside are those of the device's platform."""
  return unittest.mock.patch.object(
    jax, "default_backend", lambda: device.platform
  )


def _lower(config, image_size, batch_size, device):
  method = building.build_method(config, axis_name=parallel.AXIS_NAME)
  variables = state.variable_shapes(method.network, image_size=image_size)
  train_step, make_state = make_step(config, method, variables)
  # What `parallel.map_step` makes of a step, but for any device.
  mesh = Mesh(np.array([device]), (parallel.AXIS_NAME,))
  split = PartitionSpec(parallel.AXIS_NAME)
  mapped_step = jax.jit(
    jax.shard_map(
      train_step,
      mesh=mesh,
      in_specs=(PartitionSpec(), split),
      out_specs=PartitionSpec(),
      check_vma=False,
    ),
    donate_argnums=0,
  )
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype),
    make_batch(config, image_size, 1),
  )
  return mapped_step.lower(jax.eval_shape(make_state, variables), batch)
