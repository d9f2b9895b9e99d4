"""Lines of a run's log: complete ones for a file, short ones for a terminal."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from solo_jax.training.step import is_count

COUNTERS = ("nonfinite_total", "nonfinite_in_row")
# Metrics with a fixed place in a complete line; the method's terms are between
# them.
_SHOWN_APART = (
  "loss",
  "learning_rate",
  "images_per_second",
  "data_wait",
  "seconds_left",
  "num_compiled",
  *COUNTERS,
)
WIDTH = 78  # characters of a short line
# Share of time waiting for data from which a short line shows it.
MUCH_WAITING = 0.1
# Metrics of an evaluation that a terminal shows, and their titles.
_SHOWN_METRICS = {
  "mask_AP": "mask AP",
  "mask_AP50": "AP50",
  "mask_AP75": "AP75",
  "box_AP": "box AP",
}


class Line(NamedTuple):
  """A line of the log.

  Attributes:
    whole: Complete line, for a file.
    short: Short line, for a terminal, at most WIDTH characters.
  """

  whole: str
  short: str


def describe_steps(
  step: int,
  num_steps: int,
  values: Mapping[str, float],
  totals: Mapping[str, float],
) -> Line:
  """Returns a line about the steps since the previous line.

  Args:
    step: Last step taken.
    num_steps: Steps of the whole run.
    values: Metrics by name, see `logging.Progress.summarize`.
    totals: Sum of each count since the run (re)started.

  Returns:
    The line.
  """
  width = len(str(num_steps))
  head = f"step {step:{width}d}/{num_steps}"
  names = [x for x in values if x not in _SHOWN_APART and not is_count(x)]
  names.sort(key=lambda name: not name.endswith("_loss"))
  whole = [
    head,
    f"loss {values['loss']:.4f}",
    *(
      f"{name.removesuffix('_loss').replace('_', ' ')} {values[name]:.4g}"
      for name in names
    ),
    f"lr {values['learning_rate']:.2e}",
    f"{values['images_per_second']:.1f} images/s",
    f"data wait {values['data_wait']:.0%}",
    f"ETA {format_seconds(values['seconds_left'])}",
    f"compiled {values['num_compiled']}",
    *(
      f"{name.replace('_', ' ')} {total:.0f}"
      for name, total in totals.items()
      if total
    ),
  ]
  alarm = []
  if values["nonfinite_total"]:
    alarm = [f"non-finite steps {values['nonfinite_total']:.0f}"]
  left = re.sub("^0:0?", "", format_seconds(values["seconds_left"]))
  short = [
    head,
    *alarm,
    f"{100 * step / num_steps:3.0f} %",
    f"loss {values['loss']:.3f}",
    f"{values['images_per_second']:.3g} images/s",
    f"{left} left",
  ]
  if values["data_wait"] >= MUCH_WAITING:
    short.append(f"data wait {values['data_wait']:.0%}")
  return Line("  ".join(whole + alarm), _fit(short))


def describe_metrics(step: int, metrics: Mapping[str, float | None]) -> Line:
  """Returns a line about an evaluation.

  Args:
    step: Step of the checkpoint.
    metrics: Shares in [0, 1] by name; None without ground truth.

  Returns:
    The line; a short one has points from 0 to 100, as `eval` prints them.
  """

  def join(values):
    return "  ".join(
      f"{name} {'-' if value is None else value}"
      for name, value in values.items()
    )

  whole = {
    name: None if value is None else f"{value:.4f}"
    for name, value in metrics.items()
  }
  short = {
    title: None if metrics[name] is None else f"{100 * metrics[name]:.1f}"
    for name, title in _SHOWN_METRICS.items()
    if name in metrics
  }
  start = f"evaluated step {step}  "
  return Line(start + join(whole), start + join(short))


def _fit(parts: list[str]) -> str:
  """Returns the first parts that fit into WIDTH characters, joined."""
  while len("  ".join(parts)) > WIDTH:
    parts = parts[:-1]
  return "  ".join(parts)


def format_seconds(seconds: float) -> str:
  """Returns a duration as h:mm:ss."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}"
