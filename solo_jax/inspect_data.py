r"""The dataset doctor: what data and configuration allow, before any training.

python -m solo_jax.inspect_data --config=configs/solov2_nuclei.py --out=doctor

With data of your own, give the config nearest to it and name the dataset:

python -m solo_jax.inspect_data --config=configs/solov2_overfit.py \
    --config.dataset.name=coco_instances/my_data --out=doctor

It counts images, instances, sizes and classes, repeats what `prepare` found
wrong and looks for more, says which instances get lost on the way to the
training targets (no grid cell, no capacity), and scores the targets themselves,
decoded as predictions are: the highest AP that the configuration allows. Then
it suggests a configuration and scores that, too. Below --out this writes

  report.md, report.json    what the terminal shows, and more
  suggested_config.py       to train on: --config=doctor/suggested_config.py
  training.png              training inputs, mask targets, cells or groups
  lost.png                  the evaluation inputs that lose most instances
  suggested.png             training inputs of the suggestion
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
import rich.progress
from absl import app, flags, logging
from ml_collections import config_flags
from PIL import Image
from rich.console import Console

from solo_jax import command
from solo_jax.config import validate
from solo_jax.data.records import Records, open_records
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.inspection import fates, pictures, report, statistics
from solo_jax.inspection.config_file import format_config
from solo_jax.inspection.frames import (
  Frame,
  inference_frames,
  training_frame,
)
from solo_jax.inspection.oracle import Ceiling, measure_ceiling
from solo_jax.inspection.selection import Selection
from solo_jax.inspection.suggestion import Suggestion, build_method, suggest

NUM_PICTURES = 4
GIVEN, SUGGESTION = "this config", "suggestion"
SUGGESTED = "suggested_config.py"
# Training images that a suggestion is tried on: evenly, and the most crowded.
NUM_TRIED, NUM_CROWDED = 32, 8

FLAGS = flags.FLAGS


class Progress:
  """Progress bars on the terminal, one a stage."""

  def __init__(self) -> None:
    """Shows nothing before the first stage."""
    self._bars = rich.progress.Progress(console=Console(stderr=True))

  def __enter__(self) -> "Progress":
    self._bars.start()
    return self

  def __exit__(self, *error: object) -> None:
    self._bars.stop()

  def stage(self, name: str, total: int | None) -> Callable[[], None]:
    """Adds a bar and returns what moves it on by one image."""
    task = self._bars.add_task(name, total=total)
    return lambda: self._bars.advance(task)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
  """What was found.

  Attributes:
    given: Sections of the configuration as plain dicts, `dataset.num_classes`
      as the dataset has.
    made: The suggestion.
    train: Training images that were decoded.
    scored: Evaluation images that were scored.
    splits: Statistics of the training and the evaluation split.
    findings: Lines about what looks wrong.
    training: Fates of the training images under the configuration.
    ceilings: Of the configuration and, where it differs, of the suggestion.
  """

  given: dict[str, Any]
  made: Suggestion
  train: Selection
  scored: Selection
  splits: list[statistics.Statistics]
  findings: list[str]
  training: list[fates.Fates]
  ceilings: dict[str, Ceiling]


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
    ValueError: If the configuration is not valid, or there is no instance to
      go by.
  """
  validate(config)
  with Progress() as progress:
    found = diagnose(config, num_images, num_oracle_images, progress)
  changes = found.made.changes(config.to_dict())
  judged = {f"training, {GIVEN}": fates.merge(found.training)}
  for name, ceiling in found.ceilings.items():
    judged[f"evaluation, {name}"] = fates.merge(ceiling.fates)
  tables = [
    report.counts_table(found.splits),
    report.sizes_table(found.splits),
    report.classes_table(found.splits),
    report.findings_table(found.findings),
    report.fates_table(judged),
    report.ceiling_table(found.ceilings, len(found.scored)),
    report.changes_table(changes, found.made.config),
  ]
  for table in tables:
    table.print(console)
  content = report.to_json(
    dict(
      dataset=config.dataset.name,
      method=config.method,
      splits=found.splits,
      findings=found.findings,
      fates=judged,
      ceilings=found.ceilings,
      changes=changes,
    )
  )
  if out is not None:
    write_report(out, config, found.made, tables, content)
    write_pictures(out, found)
    console.print(
      f"Report and pictures: {out}. Train on the suggestion with\n"
      f"python -m solo_jax.train --config={out / SUGGESTED} --workdir=..."
    )
  return content


def diagnose(
  config: ml_collections.ConfigDict,
  num_images: int,
  num_oracle_images: int,
  progress: Progress,
) -> Diagnosis:
  """Looks at everything; arguments as of `inspect`."""
  dataset = config.dataset
  train, evaluated = (
    Selection(open_records(dataset.data_dir, dataset.name, split), num_images)
    for split in (dataset.train_split, dataset.eval_split)
  )
  scored = Selection(evaluated.records, num_oracle_images)
  splits = [
    statistics.examine(s, progress.stage(f"reading {s.records.split}", len(s)))
    for s in (train, evaluated)
  ]
  given = config.to_dict()
  given["dataset"] |= dict(num_classes=len(train.class_names))
  training = fates.training_fates(
    train,
    build_method(given).network,
    transforms=given["transforms"],
    loss=given["loss"],
    decode=given["decode"],
    group_by_orientation=dataset.group_by_orientation,
    seed=config.seed,
    on_image=progress.stage("training targets", len(train)),
  )
  ceilings = {GIVEN: _measure(given, scored, progress, GIVEN)}
  made = suggest(
    config.to_dict(),
    Selection(train.records, NUM_TRIED, num_crowded=NUM_CROWDED),
    splits[0],
    on_image=progress.stage("trying changes", None),
  )
  if made.reasons:
    ceilings[SUGGESTION] = _measure(made.config, scored, progress, SUGGESTION)
  return Diagnosis(
    given=given,
    made=made,
    train=train,
    scored=scored,
    splits=splits,
    findings=list_findings(config, train.records, splits),
    training=training,
    ceilings=ceilings,
  )


def list_findings(
  config: ml_collections.ConfigDict,
  train: Records,
  splits: list[statistics.Statistics],
) -> list[str]:
  """Collects what is wrong, or looks so.

  Args:
    config: The whole configuration.
    train: The training split.
    splits: Statistics of both.

  Returns:
    Lines.
  """
  metadata = train.metadata
  findings = [f"prepare: {line}" for line in metadata["problems"]]
  if metadata["num_problems"] > len(findings):
    findings.append(f"prepare: {metadata['num_problems']} problems in all")
  for part in splits:
    findings += [f"{part.split}: {line}" for line in part.findings]
  findings += statistics.compare_splits(*splits)
  num_classes = len(train.class_names)
  if config.dataset.num_classes != num_classes:
    findings.append(
      f"dataset.num_classes is {config.dataset.num_classes}, the dataset has "
      f"{num_classes}; {num_classes} is used here"
    )
  if config.dataset.keep_empty is False and splits[0].num_empty:
    findings.append(
      "not trained on, because without instances (dataset.keep_empty=False): "
      f"{splits[0].num_empty} images"
    )
  if splits[0].num_crowds:
    findings.append(
      "no training targets, but forgiven in the evaluation: "
      f"{splits[0].num_crowds} crowd regions"
    )
  if splits[0].num_16_bit:
    findings.append(
      "of 16 bits, brought to 8 by their own contrast: "
      f"{splits[0].num_16_bit} images"
    )
  return findings


def write_report(
  out: pathlib.Path,
  config: ml_collections.ConfigDict,
  made: Suggestion,
  tables: list[report.Table],
  content: Mapping[str, Any],
) -> None:
  """Writes report.md, report.json and suggested_config.py.

  Args:
    out: Folder; made if missing.
    config: The configuration that was inspected.
    made: The suggestion.
    tables: Parts of the report.
    content: What report.json is to hold.

  Raises:
    ValueError: If the suggestion is no valid configuration.
  """
  validate(ml_collections.ConfigDict(made.config))
  out.mkdir(parents=True, exist_ok=True)
  title = f"{config.dataset.name}, {config.method}"
  parts = [f"# {title}", "", *(table.markdown() for table in tables)]
  for name in ("training", "lost", "suggested"):
    parts += [f"## {name}.png", "", f"![{name}]({name}.png)", ""]
  (out / "report.md").write_text("\n".join(parts), encoding="utf-8")
  (out / "report.json").write_text(
    json.dumps(content, indent=2), encoding="utf-8"
  )
  source = format_config(
    made.config, config, made.reasons, describe(config, content, out)
  )
  (out / SUGGESTED).write_text(source, encoding="utf-8")


def describe(
  config: ml_collections.ConfigDict,
  content: Mapping[str, Any],
  out: pathlib.Path,
) -> str:
  """Writes the docstring of the suggested configuration.

  Args:
    config: The configuration that was inspected.
    content: Of report.json.
    out: Folder that the configuration is written to.

  Returns:
    Its text.
  """
  ceilings = [
    f"{name}: {ceiling['oracle']['mask_AP']:.3f}"
    for name, ceiling in content["ceilings"].items()
    if ceiling["oracle"]["mask_AP"] is not None
  ]
  return f"""{config.method} on {config.dataset.name}, by inspect_data.

Mask AP of a perfect network on the evaluation split, the ceiling of a
configuration:

  {"; ".join(ceilings)}

Comments say what was changed and why. Run:

python -m solo_jax.train --config={out / SUGGESTED} \\
    --workdir=workdirs/first
python -m solo_jax.eval --checkpoint=workdirs/first
"""


def write_pictures(out: pathlib.Path, found: Diagnosis) -> None:
  """Writes training.png, lost.png and suggested.png.

  Args:
    out: Folder.
    found: What was found.
  """
  few = Selection(found.train.records, NUM_PICTURES)
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
      for sample in few.samples()
    ]
    _save(out / f"{name}.png", config, frames, few.class_names)
  ceiling = found.ceilings[GIVEN]
  num_lost = [sum(f.lost.values()) for f in ceiling.fates]
  frames = []
  for i in np.argsort(num_lost, kind="stable")[::-1][:NUM_PICTURES]:
    index, row = ceiling.places[i]
    frames.append(
      inference_frames(
        found.scored.sample(index), found.given["preprocessing"]
      )[row]
    )
  _save(out / "lost.png", found.given, frames, few.class_names)


def _save(
  path: pathlib.Path,
  config: Mapping[str, Any],
  frames: list[Frame],
  class_names: Sequence[str],
) -> None:
  picture = pictures.draw_frames(
    frames,
    build_method(config),
    class_names,
    transforms=config["transforms"],
    loss=config["loss"],
    decode=config["decode"],
    interpolation=config["preprocessing"]["interpolation"],
  )
  Image.fromarray(picture).save(path)


def _measure(
  config: Mapping[str, Any], scored: Selection, progress: Progress, name: str
) -> Ceiling:
  """Measures the ceiling of a configuration of plain dicts."""
  return measure_ceiling(
    scored,
    build_method(config),
    transforms=config["transforms"],
    preprocessing=config["preprocessing"],
    loss=config["loss"],
    decode=config["decode"],
    max_detections=config["evaluation"]["max_detections"],
    on_image=progress.stage(f"ceiling of {name}", len(scored)),
  )


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
  command.run(main)
