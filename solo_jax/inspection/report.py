"""The report of the dataset doctor: tables for a terminal and for Markdown."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solo_jax.evaluation.coco_metrics import Metrics
from solo_jax.inspection import lost_instances
from solo_jax.inspection.cost import Cost, compare_costs
from solo_jax.inspection.oracle import Ceiling
from solo_jax.inspection.statistics import Statistics
from solo_jax.methods.interface import Way
from solo_jax.terminal import Console, make_table

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
MAX_ROWS = 25  # of a table in the terminal; Markdown has all
# Metrics of a perfect network, by their names in `Metrics` without "mask_".
ORACLE = {
  "AP": "AP",
  "AP50": "AP50",
  "AP75": "AP75",
  "AP_S": "AP small",
  "AP_M": "AP medium",
  "AP_L": "AP large",
  "AR": "recall",
}
NO_CHANGE = "Nothing to change: the config fits the data."
TRIED = (
  "Suggestions are based on up to 40 training images, each as in training and "
  "as in prediction, so their shares differ a little from those here."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """One part of the report.

  Attributes:
    title: What it shows.
    header: Name of each column; empty for a list of lines.
    rows: Cells.
    note: Text below it.
  """

  title: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  note: str = ""

  def print(self, console: Console) -> None:
    """Prints the part, shortening long ones."""
    shown = self.rows[:MAX_ROWS]
    console.print(self.title, style="bold")
    if self.header:
      table = make_table()
      is_number = [
        i > 0 and all(_is_number(row[i]) for row in self.rows)
        for i in range(len(self.header))
      ]
      for i, name in enumerate(self.header):
        # Numbers and their headings are never cut off. Texts are shortened, the
        # first column only if it is the only text.
        table.add_column(
          name.replace(", ", ",\n").replace(": ", ":\n"),
          justify="right" if is_number[i] else "left",
          no_wrap=is_number[i] or (i == 0 and not all(is_number[1:])),
          overflow="fold",
        )
      for row in shown:
        table.add_row(*row)
      console.print(table)
    else:
      for row in shown:
        console.print(f"  - {row[0]}")
    if len(self.rows) > len(shown):
      console.print(f"  ... {len(self.rows) - len(shown)} more in the report")
    if self.note:
      console.print(self.note, style="dim")
    console.print()

  @property
  def is_wordy(self) -> bool:
    """Returns whether cells of columns after the first are sentences."""
    return any(len(cell) > 40 for row in self.rows for cell in row[1:])

  def markdown(self) -> str:
    """Writes the part as Markdown."""
    lines = [f"## {self.title}", ""]
    if self.header:
      rows = [self.header, ["---"] * len(self.header), *self.rows]
      lines += [f"| {' | '.join(map(_escaped, row))} |" for row in rows]
    else:
      lines += [f"- {row[0]}" for row in self.rows]
    if self.note:
      lines += ["", self.note.replace("\n", "  \n")]
    return "\n".join([*lines, ""])


def counts_table(splits: Sequence[Statistics]) -> Table:
  """Returns a table of what the splits contain."""
  rows = {
    "images": lambda s: f"{s.num_images:,}",
    "instances": lambda s: f"{s.num_instances:,}",
    "crowd regions": lambda s: f"{s.num_crowds:,}",
    "images without instances": lambda s: f"{s.num_empty:,}",
    "most instances per image": lambda s: f"{s.most_instances:,}",
    "images higher than wide": lambda s: f"{s.num_portrait:,}",
    "examined: grey": lambda s: f"{s.num_grey:,}",
    "examined: 16 bits": lambda s: f"{s.num_16_bit:,}",
    "images examined": lambda s: f"{s.num_examined:,}",
  }
  return Table(
    title="Images and instances",
    header=["", *(s.split for s in splits)],
    rows=[[name, *map(count, splits)] for name, count in rows.items()],
  )


def sizes_table(splits: Sequence[Statistics]) -> Table:
  """Returns a table of distributions by percentile."""
  rows = []
  for s in splits:
    for name, values in (
      ("short side of an image, px", s.short_sides),
      ("long side of an image, px", s.long_sides),
      ("object, sqrt(area), px", s.object_sizes),
      ("instances per image", s.instances_per_image),
    ):
      if len(values):
        cells = (f"{x:.0f}" for x in np.percentile(values, PERCENTILES))
        rows.append([f"{s.split}: {name}", *cells])
  header = ["", "least", *(f"{p} %" for p in PERCENTILES[1:-1]), "most"]
  return Table(title="Sizes (percentiles)", header=header, rows=rows)


def classes_table(splits: Sequence[Statistics]) -> Table:
  """Returns a table of instances and images per class, most frequent first."""
  names = sorted(
    splits[0].instances_of_class,
    key=lambda name: -splits[0].instances_of_class[name],
  )
  header = ["class"]
  for s in splits:
    header += [f"{s.split}: instances", f"{s.split}: images"]
  rows = [
    [
      name,
      *(
        f"{counts[name]:,}"
        for s in splits
        for counts in (s.instances_of_class, s.images_of_class)
      ),
    ]
    for name in names
  ]
  return Table(
    title="Classes (of the images examined)", header=header, rows=rows
  )


def findings_table(findings: Sequence[str]) -> Table:
  """Returns a table of what looks wrong."""
  return Table(
    title="Findings",
    header=[],
    rows=[[line] for line in findings] or [["none"]],
  )


def fates_table(judged: Mapping[str, dict[str, Any]]) -> Table:
  """Returns a table of how instances get lost.

  Args:
    judged: `lost_instances.merge` by the name of a column.
  """
  columns = judged.values()
  rows = []

  def add(name, cell):
    rows.append([name, *(cell(column) for column in columns)])

  # As a suggestion may change the kind of targets, columns may lack entries.
  ways, reduced, capacities, sizes = (
    dict.fromkeys(key for c in columns for key in c[part])
    for part in ("lost", "reduced", "most_taken", "sizes")
  )
  add("inputs", lambda c: f"{c['frames']:,}")
  add("instances in them", lambda c: f"{c['instances']:,}")
  for way in ways:
    add(way.name, lambda c, way=way: _lost(c, [way]))
  for kind in dict.fromkeys(way.kind for way in ways if way.kind):
    same = [way for way in ways if way.kind == kind]
    names = ", ".join(way.name for way in same)
    add(f"{kind} ({names})", lambda c, same=same: _lost(c, same))
  for words in reduced:
    add(
      f"({words}, not lost)",
      lambda c, words=words: _share(c["reduced"][words], c["instances"]),
    )
  for capacity in capacities:
    add(
      f"most {capacity} per input",
      lambda c, capacity=capacity: str(c["most_taken"][capacity]),
    )
  add("most instances per input", lambda c: str(c["most_instances"]))
  for name in sizes:
    add(
      f"{name}: least, 5 %, median",
      lambda c, name=name: _least_and_typical(c["sizes"][name]),
    )
  notes = [
    "Training: one augmentation of each image examined. Evaluation: "
    "resized and cut as in prediction.",
    TRIED,
    *(
      f"{way}: {way.meaning}."
      for way in ways
      if any(c["lost"].get(way, 0) for c in columns)
    ),
  ]
  return Table(
    title="Instances that get lost between annotation and targets",
    header=["", *judged],
    rows=rows,
    note="\n".join(notes),
  )


def ceiling_table(ceilings: Mapping[str, Ceiling], num_images: int) -> Table:
  """Returns a table of the best AP that configurations allow.

  Args:
    ceilings: By the name of the configuration.
    num_images: Images that were scored.
  """
  rows = [["recall of the mask targets alone"]]
  rows += [[f"oracle {name}"] for name in ORACLE.values()]
  rows.append(["candidates beyond the capacity of decoding"])
  for ceiling in ceilings.values():
    values = (
      ceiling.masks.mask_AR,
      *(getattr(ceiling.oracle, f"mask_{name}", None) for name in ORACLE),
    )
    for row, value in zip(rows, values, strict=False):
      row.append("-" if value is None else f"{value:.3f}")
    rows[-1].append(str(ceiling.num_dropped))
  return Table(
    title=f"The score of a perfect network ({num_images} images)",
    header=["", *ceilings],
    rows=rows,
    note="Targets from annotations, decoded by the method's own decoder and "
    "scored like predictions: the highest score the configuration allows.",
  )


def changes_table(
  changes: Mapping[str, dict[str, Any]],
  config: Mapping[str, Any],
  costs: tuple[Cost, Cost],
) -> Table:
  """Returns a table of a suggestion's changes; a repeated reason appears once.

  Args:
    changes: From `Suggestion.changes`.
    config: Sections of the suggestion.
    costs: Costs of the configuration and of the suggestion.
  """
  rows, before = [], None
  for key, change in changes.items():
    why = "the same" if change["why"] == before else change["why"]
    rows.append([key, f"{change['was']} -> {change['suggested']}", why])
    before = change["why"]
  optimizer, training = config["optimizer"], config["training"]
  peak = (
    optimizer["learning_rate"]
    * training["batch_size"]
    / optimizer["reference_batch_size"]
  )
  if not rows:
    return Table(title="Suggested changes", header=[], rows=[[NO_CHANGE]])
  return Table(
    title="Suggested changes",
    header=["field", "change", "why"],
    rows=rows,
    note=f"Learning rate by the linear rule: {optimizer['learning_rate']:g} x "
    f"{training['batch_size']} / {optimizer['reference_batch_size']} = "
    f"{peak:g}; another training.batch_size scales it."
    f"\n{compare_costs(*costs)}",
  )


def to_json(value: Any) -> Any:
  """Returns the parts of the report as plain values for `json`.

  Args:
    value: Dicts, sequences, arrays, numbers, Statistics, Ceilings, Metrics.

  Returns:
    The same as plain data; arrays as percentiles.
  """
  if isinstance(value, Statistics):
    fields = dataclasses.asdict(value)
    del fields["digests"]
    return to_json(fields)
  if isinstance(value, Ceiling):
    return dict(
      masks=value.masks.scalars(),
      oracle=None if value.oracle is None else value.oracle.scalars(),
      candidates_dropped=value.num_dropped,
      fates=to_json(lost_instances.merge(value.fates)),
    )
  if isinstance(value, Metrics):
    return value.scalars()
  if isinstance(value, Cost):
    return to_json(
      dataclasses.asdict(value)
      | dict(
        step_pixels=value.step_pixels,
        total_pixels=value.total_pixels,
        epochs=value.epochs,
      )
    )
  if isinstance(value, np.ndarray):
    if not len(value):
      return {}
    points = np.percentile(value, PERCENTILES)
    return {
      str(p): round(float(x), 2)
      for p, x in zip(PERCENTILES, points, strict=True)
    }
  if isinstance(value, Mapping):
    return {str(key): to_json(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [to_json(item) for item in value]
  return value


def _lost(column: Mapping[str, Any], ways: Sequence[Way]) -> str:
  """Returns the number lost in these ways; '' if that cannot happen."""
  lost = [column["lost"][way] for way in ways if way in column["lost"]]
  return _share(sum(lost), column["instances"]) if lost else ""


def _share(count: int, total: int) -> str:
  if not count:
    return "0"
  return f"{count:,} ({100 * count / max(total, 1):.3g} %)"


def _least_and_typical(values: np.ndarray) -> str:
  if not len(values):
    return "-"
  return ", ".join(f"{x:.0f}" for x in np.percentile(values, (0, 5, 50)))


def _is_number(text: str) -> bool:
  return not text or text[0].isdigit() or text == "-"


def _escaped(text: str) -> str:
  return text.replace("|", "\\|").replace("\n", " ")
