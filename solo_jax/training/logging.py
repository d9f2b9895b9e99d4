"""Output of a run: log lines, metrics.jsonl, TensorBoard, pictures.

Log lines are plain text, short and coloured only on a terminal, so that log
files are readable, too.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging
from etils import epath
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from solo_jax.errors import UserError, printable
from solo_jax.terminal import Console
from solo_jax.training.log_lines import COUNTERS, Line, describe_steps
from solo_jax.training.step import is_count
from solo_jax.training.workdir import LogFolder

# A bucket gets the log before each checkpoint, and at least this often.
UPLOAD_SECONDS = 60.0


class RunLog:
  """Writes everything a run reports; only process 0 writes."""

  def __init__(self, workdir: str, *, first_step: int, is_writer: bool = True):
    """Opens the files of a run and removes rows beyond its checkpoint.

    If lines of the log are damaged, the file is kept as metrics.damaged.jsonl.

    Args:
      workdir: Folder of the run; created if missing.
      first_step: Step from which the run resumes. Rows of later steps, logged
        by a run that was killed before its next checkpoint, are removed.
      is_writer: False makes every method do nothing.

    Raises:
      UserError: Here and in the methods, if a file cannot be written.
    """
    self._console = Console(soft_wrap=True, quiet=not is_writer)
    self._is_writer = is_writer
    if not is_writer:
      return
    self._workdir = workdir
    with self._reporting_errors():
      rows, damaged = _read(os.path.join(workdir, "metrics.jsonl"))
      self._folder = LogFolder(workdir)
      if damaged is not None:
        kept = self._folder.path / "metrics.damaged.jsonl"
        kept.write_bytes(damaged)
      (self._folder.path / "pictures").mkdir(exist_ok=True)
      path = self._folder.path / "metrics.jsonl"
      new = path.with_suffix(".jsonl.new")
      new.write_text(
        "".join(
          json.dumps(row) + "\n" for row in rows if row["step"] <= first_step
        )
      )
      new.replace(path)
      self._file = path.open("a")
      self._board = _Board(
        str(self._folder.path / "tensorboard"), first_step=first_step
      )

  def message(self, text: str) -> None:
    """Prints a line."""
    self._print(text, highlight=False)

  def section(self, title: str) -> None:
    """Prints the heading of a part of the run."""
    self._print(f"== {title}", style="bold", highlight=False)

  def metrics(
    self, step: int, values: dict[str, float | None], line: Line
  ) -> None:
    """Writes a row of metrics and prints its line.

    Args:
      step: Training step.
      values: Name to number; names like 'train/loss' group in TensorBoard.
        None and non-finite values become null, as JSON has no others.
      line: The line; a terminal gets its short form.
    """
    self._print(line.short if self._console.is_terminal else line.whole)
    if not self._is_writer:
      return
    row = {name: _finite(value) for name, value in values.items()}
    with self._reporting_errors():
      self._file.write(json.dumps({"step": step, **row}) + "\n")
      self._file.flush()
      for name, value in row.items():
        if value is not None:
          self._board.add(step, summary.scalar(name, value))
      self._board.flush()
      self._folder.upload(every_seconds=UPLOAD_SECONDS)

  def flush(self) -> None:
    """Writes what was logged so far to the workdir, also on a bucket.

    Called before a checkpoint, so that a run that resumes from it has its rows.
    """
    if self._is_writer:
      self._folder.upload()

  def picture(self, step: int, name: str, image: np.ndarray) -> None:
    """Writes a picture to TensorBoard and pictures/<step>_<name>.png.

    Args:
      step: Training step.
      name: Name of the picture.
      image: RGB. [H, W, 3] uint8.
    """
    if not self._is_writer:
      return
    path = self._folder.path / "pictures" / f"{step:06d}_{name}.png"
    with self._reporting_errors():
      Image.fromarray(image).save(path)
      picture = summary.image(name, image, dataformats="HWC")
      self._board.add(step, picture)

  def close(self) -> None:
    """Closes the files; write errors were reported before."""
    if self._is_writer:
      for file in (self._file, self._board):
        with contextlib.suppress(OSError):
          file.close()
      self._folder.close()

  def _print(self, text: str, **style: Any) -> None:
    try:
      self._console.print(printable(text), markup=False, **style)
    except OSError:  # a closed terminal; the run still has to be saved
      self._console.quiet = True

  @contextlib.contextmanager
  def _reporting_errors(self) -> Iterator[None]:
    """Raises a UserError that names the folder."""
    try:
      yield
    except OSError as error:
      raise UserError(
        f"the log in {self._workdir} cannot be written ({error.strerror}); "
        "fix the cause and rerun the same command"
      ) from error


class _Board:
  """TensorBoard's event file.

  `tensorboardX.SummaryWriter` writes in a thread. On a full disk that thread
  exits, and the run would wait for it forever at its next picture.
  """

  def __init__(self, folder: str, *, first_step: int):
    """Opens a new file; hides events after `first_step` in earlier ones."""
    os.makedirs(folder, exist_ok=True)
    # Its name contains the time in seconds; with the step added, a clock that
    # was set back does not make a run overwrite an earlier file.
    self._file = EventsWriter(
      os.path.join(folder, "events"), filename_suffix=f".{first_step}"
    )
    start = SessionLog(status=SessionLog.START)
    self._write(first_step + 1, session_log=start)

  def add(self, step: int, value: summary.Summary) -> None:
    self._write(step, summary=value)

  def flush(self) -> None:
    self._file.flush()

  def close(self) -> None:
    self._file.close()

  def _write(self, step: int, **content: Any) -> None:
    event = Event(step=step, wall_time=time.time(), **content)
    self._file.write_event(event)


def read_rows(path: str) -> list[dict[str, Any]]:
  """Returns the rows of a metrics file.

  A last line truncated by a kill is left out, and so are damaged lines, which
  are logged: a run does not need them.

  Args:
    path: A metrics.jsonl; may be missing.

  Returns:
    One dict per row, with an integer 'step'.
  """
  return _read(path)[0]


def _read(path: str) -> tuple[list[dict[str, Any]], bytes | None]:
  """Returns the valid rows of a file, and its contents if rows are damaged."""
  file = epath.Path(path)
  if not file.exists():
    return [], None
  content = file.read_bytes()
  # The text after the last line end is empty or was truncated.
  *lines, _ = content.split(b"\n")
  rows = []
  for number, line in enumerate(lines, 1):
    row = _parse(line)
    if row is None:
      logging.warning(
        "%s: line %d is damaged and skipped: %r", path, number, line[:80]
      )
    else:
      rows.append(row)
  return rows, content if len(rows) < len(lines) else None


def _parse(line: bytes) -> dict[str, Any] | None:
  try:
    row = json.loads(line)
  except ValueError:
    return None
  is_row = isinstance(row, dict) and "step" in row
  return row if is_row and isinstance(row["step"], int) else None


class Progress:
  """Collects the metrics of the steps between two log lines.

  Attributes:
    totals: Sum of each count since the run (re)started.
  """

  def __init__(self, *, first_step: int, num_steps: int, batch_size: int):
    """Starts the clock.

    Args:
      first_step: Steps taken before.
      num_steps: Steps of the whole run, for the time left.
      batch_size: Images per step.
    """
    self.totals: dict[str, float] = {}
    self._num_steps = num_steps
    self._batch_size = batch_size
    self.start_clock(first_step)

  def start_clock(self, step: int) -> None:
    """Measures speed from this step on, excluding the time before."""
    self._clock_step = step
    self._start = time.perf_counter()
    self._data_seconds = 0.0

  def add_data_wait(self, seconds: float) -> None:
    """Adds time in which training waited for the next batch."""
    self._data_seconds += seconds

  def summarize(
    self, step: int, rows: list[dict[str, float]], num_compiled: int
  ) -> tuple[dict[str, float], Line]:
    """Returns a summary of the steps since the last call; restarts the clock.

    Args:
      step: Last step taken.
      rows: Metrics of each of these steps, as the training step returns them.
      num_compiled: Programs compiled for the training step so far.

    Returns:
      The row to write, names with prefix 'train/', and the line to print.
      Means are over the steps with a finite loss.
    """
    num_timed = max(step - self._clock_step, 1)
    seconds = max(time.perf_counter() - self._start, 1e-9)
    values = summarize_rows(rows)
    for name, value in values.items():
      if is_count(name):
        self.totals[name] = self.totals.get(name, 0.0) + value
    values |= {
      "images_per_second": num_timed * self._batch_size / seconds,
      "data_wait": self._data_seconds / seconds,
      "seconds_left": (self._num_steps - step) * seconds / num_timed,
      "num_compiled": num_compiled,
    }
    self.start_clock(step)
    row = {f"train/{name}": value for name, value in values.items()}
    totals = {f"train/{name}_total": x for name, x in self.totals.items()}
    line = describe_steps(step, self._num_steps, values, self.totals)
    return row | totals, line


def summarize_rows(rows: list[dict[str, float]]) -> dict[str, float]:
  """Returns one row for the metrics of several steps.

  Args:
    rows: Metrics of each step; all have the same names.

  Returns:
    Counts summed; counters and the learning rate of the last step; the mean
    over steps with a finite loss of everything else, nan without any.
  """
  finite = [
    row
    for row in rows
    if math.isfinite(row["loss"]) and math.isfinite(row["gradient_norm"])
  ]
  values = {}
  for name, last in rows[-1].items():
    if is_count(name):
      values[name] = float(sum(row[name] for row in rows))
    elif name in COUNTERS or name == "learning_rate":
      values[name] = float(last)
    else:
      numbers = [row[name] for row in finite]
      values[name] = float(np.mean(numbers)) if numbers else math.nan
  return values


def _finite(value: float | None) -> float | None:
  value = math.nan if value is None else float(value)
  return value if math.isfinite(value) else None
