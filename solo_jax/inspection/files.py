"""Writes the doctor's report, pictures and suggested configuration."""

import json
import pathlib
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from PIL import Image

from solo_jax.building import build_method
from solo_jax.data import augmentations
from solo_jax.inspection import pictures, report
from solo_jax.inspection.config_file import format_config
from solo_jax.inspection.cost import Cost, compare_costs, find_cost
from solo_jax.inspection.diagnosis import GIVEN, SUGGESTION, Diagnosis
from solo_jax.inspection.frames import Frame, inference_frames, training_frame
from solo_jax.inspection.page import CAPTIONS

NUM_PICTURES = 4
SUGGESTED = "suggested_config.py"
NONE_LOST = "No evaluation input loses an instance: there is no lost.png."


def find_costs(found: Diagnosis) -> tuple[Cost, Cost]:
  """Returns the costs of the configuration and of the suggestion."""
  given, suggested = (
    find_cost(
      config,
      found.splits[0].num_trained(config["dataset"]["keep_empty"]),
      [f.padded_size for f in ceiling.fates],
      len(found.scored),
    )
    for config, ceiling in (
      (found.given, found.ceilings[GIVEN]),
      (
        found.made.config,
        found.ceilings[SUGGESTION if found.made.reasons else GIVEN],
      ),
    )
  )
  return given, suggested


def write_report(
  out: pathlib.Path,
  config: ml_collections.ConfigDict,
  found: Diagnosis,
  tables: list[report.Table],
  content: Mapping[str, Any],
  drawn: Sequence[str],
) -> None:
  """Writes report.md, report.json and suggested_config.py.

  Args:
    out: Folder.
    config: The configuration that was inspected.
    found: The findings.
    tables: Parts of the report.
    content: The contents of report.json.
    drawn: Names of the pictures.
  """
  made = found.made
  title = f"{config.dataset.name}, {config.method}"
  parts = [f"# {title}", "", *(table.markdown() for table in tables)]
  for name in drawn:
    heading, text = CAPTIONS[name]
    parts += [f"## {heading}", "", f"![{name}]({name}.png)", "", text, ""]
  if "lost" not in drawn:
    parts += [NONE_LOST, ""]
  (out / "report.md").write_text("\n".join(parts), encoding="utf-8")
  (out / "report.json").write_text(
    json.dumps(content, indent=2), encoding="utf-8"
  )
  source = format_config(
    made.config, config, made.reasons, describe(config, found, out)
  )
  (out / SUGGESTED).write_text(source, encoding="utf-8")


def describe(
  config: ml_collections.ConfigDict,
  found: Diagnosis,
  out: pathlib.Path,
) -> str:
  """Writes the docstring of the suggested configuration.

  Args:
    config: The configuration that was inspected.
    found: The findings.
    out: Folder that the configuration is written to.

  Returns:
    Its text.
  """
  ceilings = [
    f"{name}: {ceiling.oracle.mask_AP:.3f}"
    for name, ceiling in found.ceilings.items()
    if ceiling.oracle is not None and ceiling.oracle.mask_AP is not None
  ]
  warning = f"\n{textwrap.fill(found.warning, 80)}\n" if found.warning else ""
  cost = textwrap.fill(compare_costs(*find_costs(found)), 80)
  oracle = f"""
Mask AP of a perfect network on the evaluation split, the ceiling of a
configuration:

  {"; ".join(ceilings)}
"""
  return f"""{config.method} on {config.dataset.name}, by inspect_data.
{oracle if ceilings else ""}
{cost}
{warning}
Comments say what was changed and why. Run:

python -m solo_jax.train {shlex.quote(f"--config={out / SUGGESTED}")} \\
    --workdir=workdirs/first
python -m solo_jax.eval --checkpoint=workdirs/first \\
    {shlex.quote(f"--data_dir={config.dataset.data_dir}")}
"""


def write_pictures(out: pathlib.Path, found: Diagnosis) -> list[str]:
  """Writes training.png; lost.png and suggested.png if there is something.

  Args:
    out: Folder; made if missing.
    found: The findings.

  Returns:
    The names of the pictures, without their ending.
  """
  out.mkdir(parents=True, exist_ok=True)
  train = found.train
  shown = np.flatnonzero(train.num_objects)  # at least one: `suggest` checks it
  if len(shown) > NUM_PICTURES:
    places = np.linspace(0, len(shown) - 1, NUM_PICTURES)
    shown = shown[places.round().astype(int)]
  drawn = {"training": found.given}
  if found.made.reasons:
    drawn["suggested"] = found.made.config
  for name in ("lost", "suggested"):  # those of an earlier run
    (out / f"{name}.png").unlink(missing_ok=True)
  for name, config in drawn.items():
    rng = np.random.default_rng(config["seed"])
    augmentation = augmentations.build(
      config["transforms"]["augment"], config["transforms"]["image_size"]
    )
    frames = [
      training_frame(
        sample,
        rng,
        config["transforms"],
        group_by_orientation=config["dataset"]["group_by_orientation"],
      )
      for sample in map(train.sample, shown)
    ]
    _save(
      out / f"{name}.png",
      config,
      frames,
      train.class_names,
      augmentation.interpolation,
    )
  ceiling = found.ceilings[GIVEN]
  num_lost = [sum(f.lost.values()) for f in ceiling.fates]
  frames = []
  for i in np.argsort(num_lost, kind="stable")[::-1][:NUM_PICTURES]:
    if not num_lost[i]:
      break
    index, row = ceiling.places[i]
    frames.append(
      inference_frames(
        found.scored.sample(index), found.given["preprocessing"]
      )[row]
    )
  if not frames:
    return [*drawn]
  _save(
    out / "lost.png",
    found.given,
    frames,
    train.class_names,
    found.given["preprocessing"]["interpolation"],
  )
  return ["training", "lost", *[*drawn][1:]]


def _save(
  path: pathlib.Path,
  config: Mapping[str, Any],
  frames: list[Frame],
  class_names: Sequence[str],
  interpolation: str,
) -> None:
  picture = pictures.draw_frames(
    frames,
    build_method(config),
    class_names,
    transforms=config["transforms"],
    interpolation=interpolation,
  )
  Image.fromarray(picture).save(path)
