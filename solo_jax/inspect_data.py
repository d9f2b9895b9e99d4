r"""The dataset doctor: what data and configuration allow, before any training.

python -m solo_jax.inspect_data --config=configs/solov2_nuclei.py --out=doctor

With data of your own, give the config nearest to it and name the dataset:

python -m solo_jax.inspect_data --config=configs/solov2_own_data.py \
    --config.dataset.name=coco_instances/my_data --out=doctor

It counts images, instances, sizes and classes, repeats what `prepare` found
wrong and looks for more, says which instances get lost on the way to the
training targets (no grid cell, no capacity), and scores the targets themselves,
decoded as predictions are: the highest AP that the configuration allows. Then
it suggests a configuration and scores that, too. Below --out this writes

  report.md, report.json    what the terminal shows, and more
  suggested_config.py       to train on: --config=doctor/suggested_config.py
  training.png              training inputs, mask targets, cells or groups
  lost.png                  the evaluation inputs that lose most instances, if
                            any does
  suggested.png             training inputs of the suggestion
"""

import functools
import json
import pathlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags
from PIL import Image
from rich.console import Console

from solo_jax import cli
from solo_jax.building import build_method, check_config
from solo_jax.data.batching import training_interpolation
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.inspection import lost_instances, pictures, report
from solo_jax.inspection.config_file import format_config
from solo_jax.inspection.cost import (
  Cost,
  compare_costs,
  compare_steps,
  find_cost,
)
from solo_jax.inspection.diagnosis import (
  GIVEN,
  SUGGESTION,
  Diagnosis,
  diagnose,
)
from solo_jax.inspection.frames import (
  Frame,
  inference_frames,
  training_frame,
)
from solo_jax.progress import make_progress

NUM_PICTURES = 4
SUGGESTED = "suggested_config.py"
NONE_LOST = "No evaluation input loses an instance: there is no lost.png."

FLAGS = flags.FLAGS


def inspect(
  config: ml_collections.ConfigDict,
  *,
  out: pathlib.Path | None,
  num_images: int,
  num_oracle_images: int,
  console: Console,
) -> dict[str, Any]:
  """Inspects the dataset of a configuration and suggests another.

  Args:
    config: The whole configuration.
    out: Folder for report and pictures; None: only the terminal.
    num_images: Images of each split to decode; 0: all.
    num_oracle_images: Images of the evaluation split to score; 0: all.
    console: Where the report is printed.

  Returns:
    What report.json holds.

  Raises:
    FileNotFoundError: If the dataset is not prepared.
    UserError: If the configuration is not valid.
    ValueError: If there is no instance to go by.
  """
  check_config(config)
  progress = make_progress(Console(stderr=True, markup=False, highlight=False))
  # Bars would reach a log file when all is over: lines instead.
  progress.disable = not progress.console.is_terminal

  def add_stage(name: str, total: int | None) -> Callable[[], None]:
    if progress.disable:
      number = "" if total is None else f" ({total} images)"
      progress.console.print(name + number, soft_wrap=True)
    return functools.partial(
      progress.advance, progress.add_task(name, total=total)
    )

  with progress:
    found = diagnose(
      config.to_dict(),
      num_images=num_images,
      num_oracle_images=num_oracle_images,
      add_stage=add_stage,
    )
  tables, content = lay_out(config, found)
  for table in tables:
    table.print(console)
  if out is not None:
    drawn = write_pictures(out, found)
    write_report(out, config, found, tables, content, drawn)
    if "lost" not in drawn:
      console.print(NONE_LOST)
    console.print(f"Report and pictures: {out}", soft_wrap=True)
    if found.made.reasons and not found.warning:
      console.print(
        f"Train on the suggestion ({compare_steps(*find_costs(found))}) with\n"
        f"python -m solo_jax.train --config={out / SUGGESTED} --workdir=...",
        soft_wrap=True,
      )
  return content


def find_costs(found: Diagnosis) -> tuple[Cost, Cost]:
  """Computes what the configuration costs, and the suggestion."""
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


def lay_out(
  config: ml_collections.ConfigDict, found: Diagnosis
) -> tuple[list[report.Table], dict[str, Any]]:
  """Makes the parts of the report, and what report.json holds."""
  changes = found.made.changes(config.to_dict())
  costs = find_costs(found)
  judged = {
    f"training, {name}": lost_instances.merge(of_images)
    for name, of_images in found.training.items()
  }
  for name, ceiling in found.ceilings.items():
    judged[f"evaluation, {name}"] = lost_instances.merge(ceiling.fates)
  tables = [
    report.counts_table(found.splits),
    report.sizes_table(found.splits),
    report.classes_table(found.splits),
    report.findings_table(found.findings),
    report.fates_table(judged),
    report.ceiling_table(found.ceilings, len(found.scored)),
    report.changes_table(changes, found.made.config, costs),
  ]
  content = dict(
    dataset=config.dataset.name,
    method=config.method,
    splits=found.splits,
    findings=found.findings,
    fates=judged,
    ceilings=found.ceilings,
    changes=changes,
    costs=dict(zip((GIVEN, SUGGESTION), costs, strict=True)),
  )
  return tables, report.to_json(content)


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
    found: What was found.
    tables: Parts of the report.
    content: What report.json is to hold.
    drawn: Names of the pictures.

  Raises:
    UserError: If the suggestion is no valid configuration.
  """
  made = found.made
  check_config(made.config)
  title = f"{config.dataset.name}, {config.method}"
  parts = [f"# {title}", "", *(table.markdown() for table in tables)]
  for name in drawn:
    parts += [f"## {name}.png", "", f"![{name}]({name}.png)", ""]
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
    found: What was found.
    out: Folder that the configuration is written to.

  Returns:
    Its text.
  """
  ceilings = [
    f"{name}: {ceiling.oracle.mask_AP:.3f}"
    for name, ceiling in found.ceilings.items()
    if ceiling.oracle.mask_AP is not None
  ]
  warning = f"\n{textwrap.fill(found.warning, 80)}\n" if found.warning else ""
  cost = textwrap.fill(compare_costs(*find_costs(found)), 80)
  return f"""{config.method} on {config.dataset.name}, by inspect_data.

Mask AP of a perfect network on the evaluation split, the ceiling of a
configuration:

  {"; ".join(ceilings)}

{cost}
{warning}
Comments say what was changed and why. Run:

python -m solo_jax.train --config={out / SUGGESTED} \\
    --workdir=workdirs/first
python -m solo_jax.eval --checkpoint=workdirs/first
"""


def write_pictures(out: pathlib.Path, found: Diagnosis) -> list[str]:
  """Writes training.png, suggested.png and, if instances get lost, lost.png.

  Args:
    out: Folder; made if missing.
    found: What was found.

  Returns:
    The names of the pictures, without their ending.
  """
  out.mkdir(parents=True, exist_ok=True)
  train = found.train
  shown = np.flatnonzero(train.num_objects)  # one at least: it was suggested by
  if len(shown) > NUM_PICTURES:
    places = np.linspace(0, len(shown) - 1, NUM_PICTURES)
    shown = shown[places.round().astype(int)]
  for name, config in (
    ("training", found.given),
    ("suggested", found.made.config),
  ):
    rng = np.random.default_rng(config["seed"])
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
      training_interpolation(config["transforms"]),
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
  path = out / "lost.png"
  if not frames:
    path.unlink(missing_ok=True)  # that of an earlier run
    return ["training", "suggested"]
  _save(
    path,
    found.given,
    frames,
    train.class_names,
    found.given["preprocessing"]["interpolation"],
  )
  return ["training", "lost", "suggested"]


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


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the command's flags.

  Args:
    values: Where to; tests pass their own.
  """
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, with its argument after a colon. Single fields are set with "
    "--config.section.field=value.",
    lock_config=True,
    flag_values=values,
  )
  flags.DEFINE_string(
    "out",
    None,
    "Folder for the report, pictures and the suggested configuration.",
    flag_values=values,
  )
  flags.DEFINE_integer(
    "num_images",
    500,
    "Images of each split to decode, spread evenly; 0: all.",
    lower_bound=0,
    flag_values=values,
  )
  flags.DEFINE_integer(
    "num_oracle_images",
    100,
    "Images of the evaluation split to score, spread evenly; 0: all.",
    lower_bound=0,
    flag_values=values,
  )
  flags.mark_flags_as_required(["config"], flag_values=values)


def main(argv: list[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.ERROR)  # TFDS tells every step
  use_compilation_cache()
  inspect(
    FLAGS.config,
    out=pathlib.Path(FLAGS.out) if FLAGS.out else None,
    num_images=FLAGS.num_images,
    num_oracle_images=FLAGS.num_oracle_images,
    console=Console(markup=False, highlight=False),
  )


if __name__ == "__main__":
  define_flags()
  cli.run(main)
