"""The dataset doctor: inspects a dataset and suggests a configuration."""

import functools
import pathlib
import shlex
from collections.abc import Callable
from typing import Any

import ml_collections
import rich.progress

from solo_jax.building import check_config
from solo_jax.evaluation.page import Heading
from solo_jax.inspection import lost_instances, page, report
from solo_jax.inspection.cost import compare_steps
from solo_jax.inspection.diagnosis import GIVEN, SUGGESTION, Diagnosis, diagnose
from solo_jax.inspection.files import (
  NONE_LOST,
  SUGGESTED,
  find_costs,
  write_pictures,
  write_report,
)
from solo_jax.inspection.start import describe_start, find_start
from solo_jax.inspection.verdict import verdict_table
from solo_jax.terminal import Console


def inspect(
  config: ml_collections.ConfigDict,
  *,
  out: pathlib.Path | None,
  num_images: int,
  num_oracle_images: int,
  console: Console,
  progress: rich.progress.Progress,
  command: str = "",
) -> dict[str, Any]:
  """Returns the inspection of a config's dataset and a suggested config.

  Args:
    config: The whole configuration.
    out: Folder for report and pictures; None: only the terminal.
    num_images: Images of each split to decode; 0: all.
    num_oracle_images: Images of the evaluation split to score; 0: all.
    console: Where the report is printed.
    progress: Shows the stages; without a terminal, its console prints lines.
    command: The command line, for the page.

  Returns:
    The contents of report.json.

  Raises:
    UserError: If the dataset is not prepared or has no instances, or the
      configuration is invalid.
  """
  check_config(config)
  # In a log file, bars would only appear at the end: print lines instead.
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
    title = f"{config.dataset.name}, {config.method}: dataset doctor"
    page.write(out, Heading(title=title, command=command), tables, drawn)
    if "lost" not in drawn:
      console.print(NONE_LOST)
    console.print(f"Report and pictures: {out}", soft_wrap=True)
    num_images = found.splits[0].num_trained(config.dataset.keep_empty)
    start = find_start(config.to_dict(), num_images)
    if start is not None:
      console.print(describe_start(start, num_images), soft_wrap=True)
    if found.made.reasons and not found.warning:
      console.print(
        "To train with the suggestion "
        f"({compare_steps(*find_costs(found))}), run\n"
        "python -m solo_jax.train "
        f"{shlex.quote(f'--config={out / SUGGESTED}')} --workdir=...",
        soft_wrap=True,
      )
  return content


def lay_out(
  config: ml_collections.ConfigDict, found: Diagnosis
) -> tuple[list[report.Table], dict[str, Any]]:
  """Returns the parts of the report, and the content of report.json."""
  changes = found.made.changes(config.to_dict())
  costs = find_costs(found)
  judged = {
    f"training, {name}": lost_instances.merge(of_images)
    for name, of_images in found.training.items()
  }
  for name, ceiling in found.ceilings.items():
    judged[f"evaluation, {name}"] = lost_instances.merge(ceiling.fates)
  tables = [
    verdict_table(found, judged, changes),
    report.changes_table(changes, found.made.config, costs),
    report.findings_table(found.findings),
    report.fates_table(judged),
    report.ceiling_table(found.ceilings, len(found.scored)),
    report.counts_table(found.splits),
    report.sizes_table(found.splits),
    report.classes_table(found.splits),
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
