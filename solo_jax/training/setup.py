"""The parts of a run, each built from the sections of a config."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from solo_jax import parallel, types
from solo_jax.backbones import frozen_rule, load_pretrained
from solo_jax.checkpoints.state import count_parameters
from solo_jax.data import pipeline
from solo_jax.data.records import Records, open_records
from solo_jax.data.stuff_maps import find_stuff_problem
from solo_jax.errors import UserError
from solo_jax.methods.interface import Method
from solo_jax.terminal import plural
from solo_jax.training.initial_weights import take_fitting
from solo_jax.training.logging import RunLog
from solo_jax.training.optimizer import make_optimizer, make_schedule
from solo_jax.weights import find_file, load


def build_optimizer(
  config: ml_collections.ConfigDict, params: Any, peak: float
) -> tuple[optax.GradientTransformation, Callable[[jax.Array], jax.Array]]:
  """Returns the optimizer and learning-rate schedule of a config.

  Args:
    config: The whole configuration.
    params: Parameter tree.
    peak: Highest learning rate, after the linear rule.

  Returns:
    As `make_optimizer` and `make_schedule` return them.
  """
  section = config.optimizer
  optimizer = make_optimizer(
    params,
    name=section.name,
    momentum=section.momentum,
    weight_decay=section.weight_decay,
    decayed=_decayed(section),
    clip_norm=section.clip_norm,
    backbone_factor=section.backbone_factor,
    is_frozen=frozen_rule(config.backbone),
  )
  learning_rate = make_schedule(
    peak,
    schedule=section.schedule,
    num_steps=config.training.num_steps,
    decay_steps=section.decay_steps,
    warmup_steps=section.warmup_steps,
    warmup_factor=section.warmup_factor,
  )
  return optimizer, learning_rate


def _decayed(section: ml_collections.ConfigDict) -> str:
  """Returns which parameters the two flags of a config decay."""
  if section.decay_norm_and_bias:
    return "all"
  return "layers" if section.decay_bias else "weights"


def open_data(config: ml_collections.ConfigDict, split: str) -> Records:
  """Returns an open split whose classes match the config.

  Args:
    config: The whole configuration.
    split: Name of the split.

  Returns:
    The records.

  Raises:
    UserError: If they are missing, or have another number of classes than
      `dataset.num_classes`.
  """
  dataset = config.dataset
  records = open_records(dataset.data_dir, dataset.name, split)
  num_classes = len(records.class_names)
  if num_classes != dataset.num_classes:
    raise UserError(
      f"dataset.num_classes={dataset.num_classes}, but {dataset.name!r} in "
      f"{dataset.data_dir!r} has {plural(num_classes, 'class')} "
      f"({', '.join(records.class_names[:5])}, ...); set "
      f"--config.dataset.num_classes={num_classes}"
    )
  return records


def check_stuff(method: Method, records: Records) -> None:
  """Checks that the data have the stuff maps that a method is trained on.

  Args:
    method: Any method.
    records: Split to train on.

  Raises:
    UserError: If they have none, or classes that the method does not have.
  """
  problem = find_stuff_problem(records, method.num_stuff_classes)
  if problem:
    raise UserError(problem)


def describe_data(records: Records) -> dict[str, Any]:
  """Returns the facts by which checkpoints recognise their training data.

  Args:
    records: Images to train on.

  Returns:
    As `CheckpointWriter` takes it.
  """
  return {
    "images": len(records),
    "exif": records.exif,
    "fingerprint": records.fingerprint,
  }


def load_initial(
  config: ml_collections.ConfigDict, variables: dict[str, Any]
) -> tuple[dict[str, Any], list[str], tuple[str, ...]]:
  """Returns variables with the initial weights of a run filled in.

  Args:
    config: The whole configuration: `training.init_from`, or without it
      `backbone.weights`.
    variables: Initial {'params', 'batch_stats'} of the whole network.

  Returns:
    variables: Those to start from.
    lines: What was loaded and what keeps its initial value, for the log.
    fresh: Modules that keep their initial values, some or all of them.

  Raises:
    errors.UserError: If there is no such checkpoint or file, or it does not fit
      the network's backbone.
  """
  weights, path = config.backbone.weights, config.training.init_from
  if path is None:
    modules = tuple(sorted(variables["params"]))
    if weights is None:
      return variables, [], modules
    section = dict(config.backbone, weights=find_file(weights))
    loaded = load_pretrained(variables, section)
    fresh = tuple(name for name in modules if name != "backbone")
    return loaded, [f"backbone from {weights}"], fresh
  checkpoint = load(path)
  loaded, lines, fresh = take_fitting(variables, checkpoint.variables, path)
  if weights is not None:
    lines.append(f"  not used: backbone.weights={weights!r}")
  return loaded, lines + compare_input(checkpoint.config, config), fresh


def compare_input(
  saved: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> list[str]:
  """Returns notes on inputs that will look different to the network.

  Args:
    saved: Config of the checkpoint that a run starts from.
    config: Config of the run.

  Returns:
    A line for each field that both have and that differs; shapes would not
    reveal these differences.
  """
  pairs = {
    f"{section}.{name}": (saved[section][name], config[section][name])
    for section, name in (
      ("backbone", "stride_in_1x1"),  # only of ResNets
      ("preprocessing", "channel_order"),
      ("preprocessing", "mean"),
      ("preprocessing", "std"),
    )
    if name in saved[section] and name in config[section]
  }
  return [
    f"  warning: {key} was {old}, is now {new}"
    for key, (old, new) in pairs.items()
    if old != new
  ]


def iterate_batches(
  config: ml_collections.ConfigDict, records: Records, step: int
) -> Iterator[types.Batch]:
  """Yields the training batches from a step on, on their way to the devices.

  Args:
    config: The whole configuration.
    records: Images to train on.
    step: First step.

  Yields:
    Batches as `parallel.split_batch` lays them out.
  """
  batches = pipeline.train_batches(
    records,
    pipeline.Reading(
      batch_size=config.training.batch_size,
      seed=config.seed,
      num_workers=config.dataset.num_workers,
      transforms=config.transforms.to_dict(),
      keep_empty=config.dataset.keep_empty,
      group_by_orientation=config.dataset.group_by_orientation,
    ),
    step=step,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  with contextlib.closing(batches):
    for batch in batches:
      yield parallel.split_batch(batch)


def describe(
  log: RunLog,
  config: ml_collections.ConfigDict,
  train_records: Records,
  eval_records: Records,
  variables: dict[str, Any],
  peak: float,
) -> None:
  """Prints what is about to be trained, on which data and how.

  Args:
    log: Log to print to.
    config: The whole configuration.
    train_records: Images to train on.
    eval_records: Images to evaluate.
    variables: Variables of the network.
    peak: Highest learning rate.
  """
  training, section, dataset = config.training, config.optimizer, config.dataset
  num_images, left_out = len(train_records), ""
  if not dataset.keep_empty:
    num_images = int(np.count_nonzero(train_records.num_objects))
    if num_empty := len(train_records) - num_images:
      left_out = (
        f" ({num_empty} without instances left out, dataset.keep_empty=False)"
      )
  log.section("Run")
  log.message(
    f"data       {dataset.name}: {plural(num_images, 'image')} to train on"
    f"{left_out}, {len(eval_records)} to evaluate, "
    f"{plural(dataset.num_classes, 'class')}"
  )
  log.message(
    f"network    {config.method}, {config.backbone.name}, "
    f"{count_parameters(variables['params']):,} parameters, "
    f"{training.precision}"
  )
  log.message(
    f"devices    {jax.device_count()} x {jax.devices()[0].device_kind} in "
    f"{jax.process_count()} process(es)"
  )
  log.message(
    f"optimizer  {section.name}, {section.schedule} schedule, learning rate "
    f"{section.learning_rate:g} x {training.batch_size} / "
    f"{section.reference_batch_size} images = {peak:g}"
  )
  log.message(
    f"steps      {training.num_steps} of {training.batch_size} images = "
    f"{training.num_steps * training.batch_size / max(num_images, 1):.1f} "
    "epochs"  # the pipeline refuses data without images
  )
