r"""Converts a published checkpoint, so that eval and predict just run.

python -m solo_jax.convert --checkpoint=SOLOv2_R50_3x.pth \
    --config=configs/solov2_coco.py:backbone=r50,recipe=official,schedule=3x \
    --out=checkpoints/solov2_r50_3x
python -m solo_jax.eval --checkpoint=checkpoints/solov2_r50_3x

Families: solo_official (WXinlong/SOLO), adelaidet, mmdet; of backbones alone
torchvision, detectron2 (caffe-style ResNets) and lite0, to start a training
from with --config.training.init_from=OUT. The family is told from the names in
the file where --family is not given. The config must be that of the network;
without --config the command says which one it looks like. Files: .pth of any
PyTorch, read without it and without running anything, and .safetensors.

Strict both ways: every tensor must be used or dropped by a rule, every
parameter must be filled. Nothing is written unless all fits.
"""

import dataclasses
import hashlib
import pathlib
from typing import Any

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console

from solo_jax import cli
from solo_jax.building import build_method, check_config
from solo_jax.checkpoints import store
from solo_jax.checkpoints.state import count_parameters, variable_shapes
from solo_jax.conversion import checkpoint_file, efficientnet_lite
from solo_jax.conversion.classes import find_classes
from solo_jax.conversion.families import (
  NAMES,
  Family,
  Network,
  find_family,
  recognize,
)
from solo_jax.conversion.mapping import convert, dropped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversion:
  """A converted checkpoint and what is told about it.

  Attributes:
    variables: {'params', 'batch_stats'} of NumPy arrays; of a backbone alone,
      below 'backbone'.
    classes: (category id, name) of each label; none for a backbone alone.
    lines: For the user, in order.
    origin: Saved with the checkpoint.
  """

  variables: dict[str, Any]
  classes: tuple[tuple[int, str], ...]
  lines: tuple[str, ...]
  origin: dict[str, Any]


def convert_checkpoint(
  path: str,
  config: ml_collections.ConfigDict | None,
  *,
  family: str | None = None,
  categories: str | None = None,
  use_ema: bool = False,
  is_other_input: bool = False,
) -> Conversion:
  """Reads and converts a foreign checkpoint; writes nothing.

  Args:
    path: The file.
    config: Of the network it is for; None raises an error that says which.
    family: One of NAMES, or None to go by the names in the file.
    categories: COCO annotation file with the classes, or None.
    use_ema: Take the weights called EMA, see `checkpoint_file.read`.
    is_other_input: Accept a config with other preprocessing than the family's.

  Returns:
    The conversion.

  Raises:
    FileNotFoundError: If a file is missing.
    ValueError: If the file cannot be read, is of another network than the
      config's, or needs other preprocessing.
  """
  conversion = convert_source(
    checkpoint_file.read(path, use_ema=use_ema),
    config,
    family=family,
    categories=categories,
    is_other_input=is_other_input,
  )
  file = dict(file=pathlib.Path(path).name, sha256=_hash(path))
  return dataclasses.replace(conversion, origin={**conversion.origin, **file})


def convert_source(
  source: checkpoint_file.Source,
  config: ml_collections.ConfigDict | None,
  *,
  family: str | None = None,
  categories: str | None = None,
  is_other_input: bool = False,
) -> Conversion:
  """Converts weights that are read already.

  Args:
    source: The weights.
    config: As for `convert_checkpoint`.
    family: As for `convert_checkpoint`.
    categories: As for `convert_checkpoint`.
    is_other_input: As for `convert_checkpoint`.

  Returns:
    The conversion, its origin without the file.

  Raises:
    ValueError: If the weights are of another network than the config's, or
      need other preprocessing.
  """
  found = find_family(family, source.arrays)
  network = recognize(found, source.arrays)
  _check_config(config, found, network, is_other_input)
  rules = found.rules[network.method]
  shapes = variable_shapes(
    build_method(config).network, image_size=config.transforms.image_size
  )
  if found.is_backbone:
    target = {name: tree["backbone"] for name, tree in shapes.items()}
  else:
    target = shapes
  try:
    variables = convert(source.arrays, rules, target)
  except ValueError as error:
    raise ValueError(
      f"the weights look like {describe(found, network)}, "
      f"--config={suggest_config(found, network)}\n{error}"
    ) from error
  if found.is_backbone:
    variables = {name: {"backbone": tree} for name, tree in variables.items()}
    classes, class_source = (), "none, a backbone has no classes"
  else:
    classes, class_source = find_classes(
      network.num_classes, source.class_names, categories
    )
  unused, rule = dropped(source.arrays, rules), config.preprocessing
  lines = (
    f"weights    {describe(found, network)}",
    *(f"           {note}" for note in source.notes),
    f"tensors    {len(source.arrays)} in the file, "
    f"{len(source.arrays) - len(unused)} used, {len(unused)} dropped by rule"
    + (f" ({_abbreviate(unused)})" if unused else ""),
    f"network    {config.method}, "
    f"{count_parameters(variables['params']):,} parameters, all filled",
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
    ),
  )


def describe(family: Family, network: Network) -> str:
  """Names a network in words."""
  kind = "light " if network.is_light else ""
  what = f"{kind}{network.method} with " if network.method else ""
  deformable = {
    None: "",
    "v1": " and deformable convolutions",
    "v2": " and modulated deformable convolutions",
  }[network.deformable]
  return f"{what}{network.backbone}{deformable} of {family.name}"


def suggest_config(family: Family, network: Network) -> str:
  """Names the config that a checkpoint looks like.

  Args:
    family: Of the checkpoint.
    network: What was recognised.

  Returns:
    Value for --config.
  """
  backbone = network.backbone + ("_dcn" if network.deformable else "")
  if network.method is None:
    return f"configs/solov2_coco.py:backbone={backbone}"
  light = "_light" if network.is_light else ""
  recipe = family.name.removeprefix("solo_")
  return (
    f"configs/{network.method}{light}_coco.py:"
    f"backbone={backbone},recipe={recipe}"
  )


def _check_config(
  config: ml_collections.ConfigDict | None,
  family: Family,
  network: Network,
  is_other_input: bool,
) -> None:
  """Refuses a config of another method or for another input."""
  suggestion = (
    f"the weights look like {describe(family, network)}; give "
    f"--config={suggest_config(family, network)}"
  )
  if config is None:
    raise ValueError(f"expected the --config of the network: {suggestion}")
  check_config(config)
  if network.method is not None and config.method != network.method:
    raise ValueError(f"the config is of {config.method}, but {suggestion}")
  problems = [
    f"  {key} is {value!r}; these weights need {expected!r}"
    for key, expected in family.fields.items()
    if (value := _field(config, key)) != expected
  ]
  if problems and not is_other_input:
    raise ValueError(
      f"the config does not fit the weights of {family.name}:\n"
      + "\n".join(problems)
      + f"\n{suggestion}, or pass --other_input if they were trained otherwise"
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


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the command's flags.

  Args:
    values: Where to; tests pass their own.
  """
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file of the network, with its argument after a colon.",
    lock_config=True,
    flag_values=values,
  )
  flags.DEFINE_enum(
    "family",
    None,
    NAMES,
    "Code base that wrote the checkpoint; default: told from its names.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "checkpoint",
    None,
    "The .pth or .safetensors file. For --family=lite0 the default is that of "
    "the installed package.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "out", None, "Folder for the checkpoint; must be new.", flag_values=values
  )
  flags.DEFINE_string(
    "categories",
    None,
    "COCO annotation file whose categories are the classes, for a checkpoint "
    "of another dataset that notes none.",
    flag_values=values,
  )
  flags.DEFINE_boolean(
    "ema",
    False,
    "Take the weights that the file calls EMA. mmengine files need it not: "
    "there the plain names hold the averages.",
    flag_values=values,
  )
  flags.DEFINE_boolean(
    "other_input",
    False,
    "Accept a config with other preprocessing or strides than the family's.",
    flag_values=values,
  )
  flags.mark_flags_as_required(["out"], flag_values=values)


def main(argv: list[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.ERROR)  # Orbax tells every step
  values = flags.FLAGS
  path = values.checkpoint
  if path is None and values.family == "lite0":
    path = str(efficientnet_lite.find_weights())
  if path is None:
    raise app.UsageError("--checkpoint is required")
  conversion = convert_checkpoint(
    path,
    values.config,
    family=values.family,
    categories=values.categories,
    use_ema=values.ema,
    is_other_input=values.other_input,
  )
  store.save_converted(
    values.out,
    variables=conversion.variables,
    config=values.config,
    class_names=tuple(name for _, name in conversion.classes),
    category_ids=tuple(number for number, _ in conversion.classes),
    origin=conversion.origin,
  )
  console = Console(markup=False, highlight=False, soft_wrap=True)
  for line in (*conversion.lines, f"written    {values.out}"):
    console.print(line)


if __name__ == "__main__":
  define_flags()
  cli.run(main)
