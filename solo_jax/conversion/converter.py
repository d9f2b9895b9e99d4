"""Converts a foreign checkpoint: weights, classes and a report."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np

from solo_jax.conversion import checkpoint_file, region_configs
from solo_jax.conversion.classes import find_classes
from solo_jax.conversion.families import Family, find_family
from solo_jax.conversion.heads import HEADS
from solo_jax.conversion.mapping import convert, dropped, flatten
from solo_jax.conversion.recognition import Network, recognize
from solo_jax.errors import UserError
from solo_jax.terminal import plural

# Part of the names of converted weights in the cache: raise it when the
# conversion of weights or configs of published rows changes.
VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversion:
  """A converted checkpoint and a report about it.

  Attributes:
    variables: {'params', 'batch_stats'} of NumPy arrays; those of a single
      backbone are below 'backbone'.
    classes: (category id, name) of each label; none for a single backbone.
    lines: Report for the user, in order.
    origin: Saved with the checkpoint.
  """

  variables: dict[str, Any]
  classes: tuple[tuple[int, str], ...]
  lines: tuple[str, ...]
  origin: dict[str, Any]


def convert_checkpoint(
  path: str,
  config: ml_collections.ConfigDict | None,
  find_shapes: Callable[[ml_collections.ConfigDict], dict[str, Any]],
  *,
  family: str | None = None,
  categories: str | None = None,
  class_names: tuple[str, ...] | None = None,
  use_ema: bool = False,
  is_other_input: bool = False,
) -> Conversion:
  """Returns a converted foreign checkpoint; writes nothing.

  Args:
    path: The file.
    config: Config of the network; None raises an error that names it.
    find_shapes: Returns the shapes of the variables of a config's network;
      called once the config is known to fit.
    family: One of NAMES, or None to detect it from the names in the file.
    categories: COCO annotation file with the classes, or None.
    class_names: Name of each label, for a file without names; or None.
    use_ema: Use the weights called EMA, see `checkpoint_file.read`.
    is_other_input: Accept a config whose preprocessing differs from the
      family's.

  Returns:
    The conversion.

  Raises:
    FileNotFoundError: If a file is missing.
    UserError: If the file cannot be read, belongs to another network than the
      config's, or needs other preprocessing.
  """
  source = checkpoint_file.read(path, use_ema=use_ema)
  if source.class_names is None:
    source = dataclasses.replace(source, class_names=class_names)
  conversion = convert_source(
    source,
    config,
    find_shapes,
    family=family,
    categories=categories,
    is_other_input=is_other_input,
  )
  file = dict(file=pathlib.Path(path).name, sha256=_hash(path))
  return dataclasses.replace(conversion, origin={**conversion.origin, **file})


def convert_source(
  source: checkpoint_file.Source,
  config: ml_collections.ConfigDict | None,
  find_shapes: Callable[[ml_collections.ConfigDict], dict[str, Any]],
  *,
  family: str | None = None,
  categories: str | None = None,
  is_other_input: bool = False,
) -> Conversion:
  """Returns converted weights, given weights that were already read.

  Args:
    source: The weights.
    config: See `convert_checkpoint`.
    find_shapes: See `convert_checkpoint`.
    family: See `convert_checkpoint`.
    categories: See `convert_checkpoint`.
    is_other_input: See `convert_checkpoint`.

  Returns:
    The conversion, its origin without the file.

  Raises:
    UserError: If the weights belong to another network than the config's, or
      need other preprocessing.
  """
  found = find_family(family, source.arrays)
  network = recognize(found, source.arrays)
  _check_config(config, found, network, is_other_input)
  rules = found.rules[network.method]
  shapes = find_shapes(config)
  if found.is_backbone:
    target = {name: tree["backbone"] for name, tree in shapes.items()}
  else:
    target = shapes
  try:
    filled = convert(found.prepare(source.arrays), rules, target)
    # Statistics may be empty: no batch norm.
    variables = {name: {} for name in target} | filled
  except UserError as error:
    raise UserError(
      f"the weights look like {describe(found, network)}, "
      f"--config={suggest_config(found, network)}\n{error}"
    ) from error
  _check_numbers(variables)
  if found.is_backbone:
    variables = {name: {"backbone": tree} for name, tree in variables.items()}
    classes, class_source = (), "none, a backbone has no classes"
  else:
    classes, class_source = find_classes(
      network.num_classes, source.class_names, categories
    )
  unused, rule = dropped(source.arrays, rules), config.preprocessing
  num_parameters = sum(x.size for x in flatten(variables["params"]).values())
  lines = (
    f"weights    {describe(found, network)}",
    *(f"           {note}" for note in source.notes),
    *([f"licence    {found.licence}"] if found.licence else []),
    f"tensors    {len(source.arrays)} in the file, "
    f"{len(source.arrays) - len(unused)} used, {len(unused)} dropped by rule"
    + (f" ({_abbreviate(unused)})" if unused else ""),
    f"network    {config.method}, {num_parameters:,} parameters, all filled",
    f"classes    {len(classes)}: {class_source}",
    f"input      {rule.channel_order}, mean {tuple(rule.mean)}, "
    f"std {tuple(rule.std)}, {rule.interpolation} resize",
  )
  return Conversion(
    variables=variables,
    classes=classes,
    lines=lines,
    origin=dict(
      family=found.name,
      label_of_first_class=found.label_of_first_class,
      licence=found.licence,
    ),
  )


def _check_numbers(variables: dict[str, Any]) -> None:
  """Refuses weights with which a network computes nothing but NaN."""
  problems = []
  for name, values in flatten(variables).items():
    num_wrong = values.size - np.count_nonzero(np.isfinite(values))
    if num_wrong:
      problems.append(
        f"  {name}: {num_wrong:,} of {values.size:,} numbers are NaN or "
        "infinite"
      )
    elif name.startswith("batch_stats/") and name.endswith("/var"):
      if (values < 0).any():
        problems.append(f"  {name}: a variance is negative")
  if problems:
    more = len(problems) - 10
    raise UserError(
      f"{plural(len(problems), 'parameter')} cannot be used:\n"
      + "\n".join(problems[:10])
      + (f"\n  and {more} more" if more > 0 else "")
      + "\nThe training that wrote them diverged, or the file is damaged: "
      "use an earlier checkpoint or download the file again"
    )


def describe(family: Family, network: Network) -> str:
  """Returns a description of a network in words."""
  kind = "light " if network.is_light else ""
  what = f"{kind}{network.method} with " if network.method else ""
  deformable = {
    None: "",
    "v1": " and deformable convolutions",
    "v2": " and modulated deformable convolutions",
  }[network.deformable]
  return f"{what}{network.backbone}{deformable} of {family.name}"


def suggest_config(family: Family, network: Network) -> str:
  """Returns the config that fits a checkpoint.

  Args:
    family: Family of the checkpoint.
    network: What was recognised.

  Returns:
    Value for --config.
  """
  backbone = network.backbone + ("_dcn" if network.deformable else "")
  if network.method is None:
    return f"configs/solov2_coco.py:backbone={backbone}"
  if network.traits is not None:
    return "configs/" + region_configs.suggest(
      family.name,
      network.backbone,
      is_deformable=network.deformable is not None,
      num_classes=network.num_classes,
      traits=network.traits,
    )
  light = "_light" if network.is_light else ""
  recipe = family.recipe
  if recipe is None:
    recipe = family.name.removeprefix("solo_")
  task = HEADS[network.method].tasks.get(network.num_classes)
  arguments = dict(
    backbone=backbone, queries=network.num_queries, task=task, recipe=recipe
  )
  text = ",".join(f"{k}={x}" for k, x in arguments.items() if x)
  return f"configs/{network.method}{light}_coco.py:{text}"


def _check_config(
  config: ml_collections.ConfigDict | None,
  family: Family,
  network: Network,
  is_other_input: bool,
) -> None:
  """Raises for a config of another method or for another input."""
  suggestion = (
    f"the weights look like {describe(family, network)}; give "
    f"--config={suggest_config(family, network)}"
  )
  if config is None:
    raise UserError(f"expected the --config of the network: {suggestion}")
  if network.method is not None and config.method != network.method:
    raise UserError(f"the config is of {config.method}, but {suggestion}")
  problems = [
    f"  {key} is {value!r}; these weights need {expected!r}"
    for key, expected in family.fields.items()
    if (value := _field(config, key)) != expected
  ]
  if problems and not is_other_input:
    raise UserError(
      f"the config does not fit the weights of {family.name}:\n"
      + "\n".join(problems)
      + f"\n{suggestion}, or pass --other_input if the training differed"
    )


def _field(config: ml_collections.ConfigDict, key: str) -> Any:
  section, name = key.split(".")
  if name not in config[section]:  # of another backbone
    return None
  value = config[section][name]
  return tuple(value) if isinstance(value, list | tuple) else value


def _abbreviate(names: list[str]) -> str:
  endings = sorted({name.rpartition(".")[2] for name in names})
  return ", ".join(endings[:5])


def _hash(path: str) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
