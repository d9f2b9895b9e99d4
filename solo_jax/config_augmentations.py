"""The valid entries of `transforms.augment`, and reading older configs.

The names equal those of the tables in data/augmentations.py, which a config
does not import; a test compares the two.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from solo_jax.config_checks import (
  FACTOR,
  POSITIVE,
  REQUIRED,
  SHARE,
  SIZES,
  Check,
  Field,
  low_high,
  one_of,
)

SIZE_ROUNDING = Field("size_rounding", "nearest", one_of("nearest", "down"))
AUGMENTATIONS = {
  "orient": (
    Field("flip", 0.0, SHARE),
    Field("vertical_flip", 0.0, SHARE),
    Field("transpose", 0.0, SHARE),
  ),
  "crop": (
    Field("probability", REQUIRED, SHARE),
    Field("short_sides", REQUIRED, SIZES),
    Field("sides", REQUIRED, low_high(POSITIVE)),
  ),
  "resize_short_side": (
    Field("short_sides", REQUIRED, SIZES),
    Field("max_side", REQUIRED, POSITIVE),
    SIZE_ROUNDING,
  ),
  "scale_jitter": (
    Field("factor", REQUIRED, low_high(FACTOR)),
    Field("reference", "fit", one_of("fit", "short", "original")),
    SIZE_ROUNDING,
  ),
  "color_jitter": (Field("strength", REQUIRED, SHARE),),
  "stain_jitter": (Field("strength", REQUIRED, SHARE),),
  "invert": (Field("probability", REQUIRED, SHARE),),
  "stretch": (),
  "window": (Field("largest", REQUIRED, FACTOR),),
  "distort": (),
  "copy_paste": (Field("probability", REQUIRED, SHARE),),
  "mosaic": (Field("probability", REQUIRED, SHARE),),
}
# Fields of `transforms` from before the list existed, with their defaults.
FORMER = dict(
  short_sides=None,
  max_side=None,
  scale_jitter=None,
  jitter_reference="fit",
  flip=0.0,
  vertical_flip=0.0,
  transpose=0.0,
  color_jitter=0.0,
)


@dataclasses.dataclass(frozen=True)
class _Stages(Check):
  """A check whose message names the invalid setting."""

  def problems(self, name: str, value: Any) -> list[str]:
    """Returns one line per setting that is unknown, missing or invalid."""
    found = super().problems(name, value)
    if found:
      return found
    for stage, settings in value:
      if stage not in AUGMENTATIONS:
        known = ", ".join(map(repr, AUGMENTATIONS))
        found.append(f"{name} has {stage!r}; it may have {known}")
        continue
      fields = {field.name: field for field in AUGMENTATIONS[stage]}
      for key in settings.keys() - fields.keys():
        known = ", ".join(fields)
        found.append(f"{name}: {stage!r} has {key!r}; it may have {known}")
      for key, field in fields.items():
        if key in settings:
          found += field.check.problems(
            f"{name}: {key} of {stage!r}", settings[key]
          )
        elif field.neutral is REQUIRED:
          found.append(f"{name}: {key} of {stage!r} is missing")
    return found


def _is_stage(value: Any) -> bool:
  """Returns whether a value is a pair of text and a mapping."""
  return (
    isinstance(value, tuple)
    and len(value) == 2
    and isinstance(value[0], str)
    and isinstance(value[1], Mapping)
  )


STAGES = _Stages(
  tuple,
  "a tuple of pairs (name, settings), the settings a dict",
  lambda stages: all(map(_is_stage, stages)),
)


def from_former_fields(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values of a config from before `transforms.augment` existed.

  Args:
    values: By 'section.field'.

  Returns:
    The values with `transforms.augment` instead of `FORMER`; training makes the
    same random draws as before.
  """
  former = {
    name: values[f"transforms.{name}"]
    for name in FORMER
    if f"transforms.{name}" in values
  }
  if not former:
    return dict(values)
  kept = {
    key: value
    for key, value in values.items()
    if key.removeprefix("transforms.") not in former
  }
  old = FORMER | former
  # Even if nothing is mirrored: its draws come before those of the others.
  orient = {
    field.name: old[field.name]
    for field in AUGMENTATIONS["orient"]
    if old[field.name] != field.neutral
  }
  stages = [("orient", orient)]
  if old["scale_jitter"] is None:
    sizes = {name: old[name] for name in ("short_sides", "max_side")}
    stages.append(("resize_short_side", sizes))
  else:
    jitter = dict(factor=old["scale_jitter"], reference=old["jitter_reference"])
    stages.append(("scale_jitter", jitter))
  if old["color_jitter"]:
    stages.append(("color_jitter", dict(strength=old["color_jitter"])))
  return kept | {"transforms.augment": tuple(stages)}
