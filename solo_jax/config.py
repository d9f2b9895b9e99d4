"""Creates, reads and checks configurations.

A config file is plain Python: `get_config(arg)` calls `make_config` with the
values that differ from the defaults of the table in config_fields.py.
`parse_arg` turns the text after the colon of
`--config=file.py:backbone=r50,schedule=3x` into typed values.
"""

import difflib
import json
import pathlib
import types
from collections.abc import Container, Mapping
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from solo_jax.config_augmentations import from_former_fields
from solo_jax.config_checks import REQUIRED, Field
from solo_jax.config_fields import FIELDS
from solo_jax.errors import UserError


def config_folder() -> pathlib.Path:
  """Returns the folder of the config files: of the package, or the clone's."""
  here = pathlib.Path(__file__).parent
  inside = here / "configs"
  return inside if inside.is_dir() else here.parent / "configs"


def parse_arg(arg: str, **defaults: Any) -> types.SimpleNamespace:
  """Returns the values of `key=value,key=value`, typed by their defaults.

  Args:
    arg: The text after the colon of the config flag; may be empty or None.
    **defaults: Every known key with its default, which also sets the type (str,
      int, float or bool), or with a tuple of choices, the default first.

  Returns:
    A namespace with one attribute per key.

  Raises:
    UserError: If a key is unknown, or a value has the wrong type or is not one
      of the choices.

  Examples:
    >>> arg = parse_arg("schedule=3x", backbone="r50", schedule=("1x", "3x"))
    >>> arg.backbone, arg.schedule
    ('r50', '3x')
  """
  choices = {k: x for k, x in defaults.items() if isinstance(x, tuple)}
  values = defaults | {key: known[0] for key, known in choices.items()}
  for item in (arg or "").split(","):
    if not item:
      continue
    key, _, text = item.partition("=")
    if key not in values:
      known = ", ".join(f"{k}={_show(v)}" for k, v in defaults.items())
      raise UserError(f"unknown config argument {key!r}; known: {known}")
    kind = type(values[key])
    try:
      if kind is bool:
        values[key] = {"true": True, "1": True, "false": False, "0": False}[
          text.lower()
        ]
      else:
        values[key] = kind(text)
    except (KeyError, ValueError) as error:
      raise UserError(
        f"config argument {key}={text!r} is not a {kind.__name__}"
      ) from error
    if key in choices and values[key] not in choices[key]:
      raise UserError(
        f"config argument {key}={text!r}; expected {key}={_show(choices[key])}"
      )
  return types.SimpleNamespace(**values)


def _show(default: Any) -> str:
  choices = default if isinstance(default, tuple) else (default,)
  return "|".join(map(str, choices))


def make_config(*, method: str, **sections: Any) -> ml_collections.ConfigDict:
  """Returns a complete configuration, given all non-default values.

  Args:
    method: Name of the method.
    **sections: One dict per section, and `seed`.

  Returns:
    A locked configuration with every field of the method and of the backbone
    in `backbone.name`.

  Raises:
    UserError: Listing every field that is unknown, missing or invalid.
  """
  values = _complete(_flatten({"method": method, **_to_tuples(sections)}))
  problems = _field_problems(values)
  if problems:
    raise_problems(problems)
  return _to_config(values)


def to_json(config: ml_collections.ConfigDict) -> str:
  """Writes a config as JSON, for a checkpoint; `from_json` reads it back."""
  return config.to_json_best_effort(indent=2)


def from_json(text: str) -> ml_collections.ConfigDict:
  """Returns the locked config that `to_json` wrote, with tuples for lists.

  Older configs are upgraded: those from before a field existed, from when all
  backbones had the fields of ResNets, or from before the list of augmentations.
  """
  values = from_former_fields(_flatten(_to_tuples(json.loads(text))))
  of_others = {field.name for field in FIELDS} - _fields_of(values).keys()
  return _to_config(
    _complete({k: x for k, x in values.items() if k not in of_others})
  )


def stated(
  config: Mapping[str, Any], also: Container[str] = ()
) -> list[tuple[Field, Any]]:
  """Returns the fields that a config must state: all non-default ones.

  Args:
    config: Sections of fields.
    also: Names of fields to list whatever their value.

  Returns:
    The rows with their values, in the order of the table.
  """
  values = _flatten(config)
  return [
    (field, values[name])
    for name, field in _fields_of(values).items()
    if name in also or values[name] != field.neutral
  ]


def find_problems(config: Mapping[str, Any]) -> list[str]:
  """Returns the problems of a config that do not depend on its method.

  Args:
    config: Sections of fields; may have been changed since it was created.

  Returns:
    One line per problem, with the field and what to do. Fields are compared
    with each other only if each one is valid.
  """
  values = _flatten(config)
  return _field_problems(values) or _relation_problems(values)


def raise_problems(problems: list[str]) -> None:
  """Raises a UserError that lists the problems of a config."""
  raise UserError(
    "the configuration has problems:\n"
    + "\n".join(f"  - {problem}" for problem in problems)
  )


def known_names(*, of_backbones: bool = False) -> tuple[str, ...]:
  """Returns the methods, or the backbones, that have fields of their own."""
  return tuple(
    dict.fromkeys(
      name
      for field in FIELDS
      if field.name.startswith("backbone.") == of_backbones
      for name in field.of
    )
  )


def _fields_of(values: Mapping[str, Any]) -> dict[str, Field]:
  """Returns the rows that apply to the method and backbone of a config."""
  chosen = {values[k] for k in ("method", "backbone.name") if k in values}
  return {
    field.name: field
    for field in FIELDS
    if not field.of or not chosen.isdisjoint(field.of)
  }


def _complete(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns values with defaults added, in table order, unknown ones last."""
  neutral = {
    name: field.neutral
    for name, field in _fields_of(values).items()
    if name in values or field.neutral is not REQUIRED
  }
  return neutral | dict(values)


def _field_problems(values: Mapping[str, Any]) -> list[str]:
  """Returns which fields are unknown, missing or invalid on their own."""
  problems = []
  for name, is_backbone in (("method", False), ("backbone.name", True)):
    known = known_names(of_backbones=is_backbone)
    if name in values and values[name] not in known:
      problems.append(
        f"{name} is {values[name]!r}; it must be one of "
        f"{', '.join(map(repr, known))}"
      )
  if problems:
    return problems  # the valid fields depend on these
  fields = _fields_of(values)
  for name in values.keys() - fields.keys():
    problems.append(_unknown(name, fields))
  for name, field in fields.items():
    if name not in values:
      note = f" ({field.comment})" if field.comment else ""
      problems.append(f"{name} is missing{note}")
    else:
      problems += field.check.problems(name, values[name])
  return sorted(problems)


def _unknown(name: str, fields: Mapping[str, Field]) -> str:
  """Returns a message about a field that a config cannot have."""
  owners = [owner for x in FIELDS if x.name == name for owner in x.of]
  if owners:
    return f"{name} is a field of {', '.join(owners)} only"
  near = difflib.get_close_matches(name, fields)
  hint = f"; did you mean {' or '.join(near)}?" if near else ""
  return f"{name} is not a field{hint}"


def _relation_problems(values: Mapping[str, Any]) -> list[str]:
  """Returns which fields contradict one another, whatever the method."""

  def relate(is_right: bool, name: str, rule: str, other: str) -> None:
    if not is_right:
      problems.append(
        f"{name} is {values[name]}; it must be {rule} {other}, "
        f"which is {values[other]}"
      )

  problems: list[str] = []
  batch_size, accumulate = "training.batch_size", "optimizer.accumulate"
  relate(
    values[batch_size] % values[accumulate] == 0,
    batch_size,
    "a multiple of",
    accumulate,
  )
  kept, scored = "decode.max_detections", "evaluation.max_detections"
  relate(values[kept] <= values[scored], kept, "at most", scored)
  tile, overlap = "preprocessing.tile_size", "preprocessing.tile_overlap"
  relate(
    values[tile] is None or values[overlap] < values[tile],
    overlap,
    "below",
    tile,
  )
  if not values["preprocessing.keep_aspect"]:
    side, other = "preprocessing.short_side", "preprocessing.max_side"
    relate(values[side] == values[other], side, "equal to", other)
    if values[tile] is not None:
      problems.append(f"{tile} needs preprocessing.keep_aspect")
  weights, backbone = values["backbone.weights"], values["backbone.name"]
  if weights in known_names(of_backbones=True) and weights != backbone:
    problems.append(
      f"backbone.weights is {weights!r} and backbone.name {backbone!r}; these "
      "weights fit only their own backbone"
    )
  return problems


def _flatten(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns sections of fields as {'section.field': value}."""
  values = {}
  for name, section in config.items():
    if isinstance(section, (Mapping, ml_collections.ConfigDict)):
      values |= {f"{name}.{field}": value for field, value in section.items()}
    else:
      values[name] = section
  return values


def _to_tuples(value: Any) -> Any:
  """Returns nested dicts and lists with tuples for the lists."""
  if isinstance(value, (Mapping, ml_collections.ConfigDict)):
    return {key: _to_tuples(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return tuple(map(_to_tuples, value))
  return value


def _to_config(values: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Returns flat values as a locked config; None keeps the field's type."""
  fields = _fields_of(values)
  config = ml_collections.ConfigDict()
  for name, value in values.items():
    section, _, field = name.rpartition(".")
    if section and section not in config:
      config[section] = ml_collections.ConfigDict()
    kind = fields[name].check.kind if name in fields else None
    if value is None and kind:
      value = placeholder(kind)
    elif kind is float and isinstance(value, int):
      value = float(value)
    (config[section] if section else config)[field] = value
  return config.lock()
