"""A progress bar with images a second, on the error stream."""

import rich.progress
from rich.console import Console


class SpeedColumn(rich.progress.ProgressColumn):
  """Images a second since the start, compiling included."""

  def render(self, task: rich.progress.Task) -> str:
    """Returns the text; empty before the first image."""
    if not task.completed or not task.elapsed:
      return ""
    return f"{task.completed / task.elapsed:.1f} images/s"


def make_progress(console: Console) -> rich.progress.Progress:
  """Makes a progress bar for images; the total of a task may be unknown."""
  return rich.progress.Progress(
    rich.progress.TextColumn("{task.description}", markup=False),
    rich.progress.BarColumn(),
    rich.progress.MofNCompleteColumn(),
    SpeedColumn(),
    rich.progress.TimeRemainingColumn(),
    console=console,
  )
