"""What the commands share: flags, how they run, progress.

A user's mistake (`errors.UserError`) ends a command with its message and exit
code 1; so does what the system says about a file, and the end of another
process of the run. Any other exception is a bug and keeps its traceback.
"""

import ast
import functools
import io
import logging as std_logging
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

import jax
import rich.progress
from absl import app, flags, logging
from ml_collections import config_flags
from rich.console import Console

from solo_jax import parallel
from solo_jax.errors import UserError, printable

# How the collectives of the CPU and JAX's coordination service speak of a
# process that is gone; others end all processes by themselves.
_LOST = re.compile(
  r"Gloo \w+ failed|by peer|heartbeat|coordination ?service", re.IGNORECASE
)


def run(
  command: Callable[..., None],
  *,
  takes_arguments: bool = False,
  verbosity: int = logging.ERROR,
) -> None:
  """Parses flags and runs a command; does not return.

  Args:
    command: Takes the arguments that are no flags.
    takes_arguments: Whether there may be any.
    verbosity: What is logged: Orbax and TFDS report every step of theirs.

  Raises:
    SystemExit: With the exit code: 0, 1 after an error of the user, or what
      the command itself exits with.
  """
  name = pathlib.Path(sys.argv[0]).stem
  for stream in (sys.stdout, sys.stderr):
    # A name that the terminal's encoding lacks must not end a run.
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors="backslashreplace")
  try:
    app.run(
      functools.partial(
        start, command, takes_arguments=takes_arguments, verbosity=verbosity
      ),
      flags_parser=parse_flags,
    )
  except Exception as error:
    message = explain(error)
    if jax.distributed.is_initialized():
      _end_alone(error, name, message)
    if message is None:
      raise
    sys.exit(printable(f"{name}: {message}", keep="\n"))


def start(
  command: Callable[..., None],
  argv: Sequence[str],
  *,
  takes_arguments: bool = False,
  verbosity: int = logging.ERROR,
) -> None:
  """Runs a command whose flags are parsed, as one of several processes or not.

  Args:
    command: As of `run`.
    argv: The arguments that are no flags, the program's name first.
    takes_arguments: As of `run`.
    verbosity: As of `run`.

  Raises:
    app.UsageError: If there are arguments that the command does not take.
  """
  arguments = argv[1:]
  if arguments and not takes_arguments:
    raise app.UsageError(f"unexpected arguments: {' '.join(arguments)}")
  logging.set_verbosity(verbosity)
  logging.get_absl_handler().setFormatter(_PrintableFormatter())
  if "distributed" in flags.FLAGS:
    address = process_address(flags.FLAGS)
    if address is not None:
      parallel.connect(*address)
  command(*arguments)


class _PrintableFormatter(logging.PythonFormatter):
  """Escapes what a terminal would act on: messages quote names of files."""

  def format(self, record: std_logging.LogRecord) -> str:
    """Returns the line or lines of a record."""
    return printable(super().format(record), keep="\n\t")


def _end_alone(error: Exception, name: str, message: str | None) -> None:
  """Ends one of several processes at once, after an error.

  JAX's end of a process waits minutes for the others to come to theirs, while
  they wait for this one in the middle of a step.
  """
  if message is None:
    traceback.print_exception(error)
  else:
    print(printable(f"{name}: {message}", keep="\n"), file=sys.stderr)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(1)


def explain(error: BaseException) -> str | None:
  """Finds the message for the user in an exception.

  Args:
    error: Any exception that was raised.

  Returns:
    The message if the user can fix it, None for a bug.
  """
  if jax.distributed.is_initialized():
    signs = [x for x in (error, *_chain(error)) if _LOST.search(str(x))]
    if signs:
      return (
        "another process of this run has ended or cannot be reached, see its "
        "log. End all that are left and start the same commands again: the run "
        "goes on from its last checkpoint. This process saw: "
        + str(signs[-1]).splitlines()[0]
      )
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, OSError) and error.filename is not None:
    return f"{error.filename}: {error.strerror}"
  return None


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses flags as absl does, with clear messages about config files.

  Args:
    argv: The command line, the program's name first.

  Returns:
    The arguments that are no flags, the program's name first.

  Raises:
    UserError: If a config file is not there, refuses its argument or lacks a
      field that is to be set.
    SystemExit: On any other mistake in a flag.
  """
  try:
    arguments = flags.FLAGS(argv)
    if "config" in flags.FLAGS and flags.FLAGS["config"].present:
      flags.FLAGS.config.items()  # of a missing file, only use raises
    return arguments
  except UserError as error:  # of the config file
    raise UserError(f"--config: {error}") from error
  except flags.Error as error:
    sys.exit(f"{error}\nPass --helpshort or --helpfull to see help on flags.")
  except (AttributeError, OSError) as error:
    if not _is_raised_by_config_flag(error):
      raise
    reason = str(error).splitlines()[-1].strip()
    if isinstance(error, AttributeError):  # carries a quoted message
      reason = ". ".join(ast.literal_eval(str(error)).splitlines())
    raise UserError(f"--config: {reason}") from error


def _is_raised_by_config_flag(error: BaseException) -> bool:
  """Returns whether a flag is wrong, not the code of a config file."""
  names = []
  entry = error.__traceback__
  while entry is not None:
    names.append(entry.tb_frame.f_globals.get("__name__", ""))
    entry = entry.tb_next
  # Below the flags, a config file would stand between them and the end.
  modules = {name.partition(".")[0] for name in names}
  return modules <= {"ml_collections", "absl", __name__.partition(".")[0]}


def _chain(error: BaseException) -> Iterator[BaseException]:
  """Yields the exceptions during whose handling this one was raised."""
  while error := error.__cause__ or error.__context__:
    yield error


def define_checkpoint_flag() -> None:
  """Defines --checkpoint of the commands that use a trained model."""
  flags.DEFINE_string(
    "checkpoint",
    None,
    "Folder of a run (newest checkpoint) or of a checkpoint.",
    required=True,
  )


def define_config_flag(
  values: flags.FlagValues = flags.FLAGS, *, required: bool = True
) -> None:
  """Defines --config of the commands that take a configuration.

  Args:
    values: Where to; tests pass their own.
    required: Whether the command runs without it.
  """
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, with its argument after a colon. Single fields are set with "
    "--config.section.field=value.",
    lock_config=True,
    flag_values=values,
  )
  if required:
    flags.mark_flag_as_required("config", flag_values=values)


def define_augmentation_flags() -> None:
  """Defines --flip and --scale of the commands that detect."""
  flags.DEFINE_boolean(
    "flip", False, "Test-time augmentation: see each image mirrored as well."
  )
  flags.DEFINE_multi_float(
    "scale",
    [1.0],
    "Test-time augmentation: a size at which to see each image, relative to "
    "the config's. May be given several times; masks have the first one's.",
  )


def define_process_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the flags of a command that runs in several processes.

  Args:
    values: Where to; tests pass their own.
  """
  flags.DEFINE_boolean(
    "distributed",
    False,
    "This is one of several processes; on TPU pods, under Slurm and in "
    "Kubernetes JAX finds the others.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of process 0, where JAX does not find out.",
    flag_values=values,
  )
  flags.DEFINE_integer(
    "num_processes",
    None,
    "Number of processes, where JAX does not find out.",
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_integer(
    "process_id",
    None,
    "Number of this process, from 0, where JAX does not find out.",
    lower_bound=0,
    flag_values=values,
  )


def process_address(
  given: flags.FlagValues,
) -> tuple[str | None, int | None, int | None] | None:
  """Reads which of several processes this is.

  Args:
    given: Parsed flags, see `define_process_flags`.

  Returns:
    (coordinator, number of processes, own number) for `parallel.connect`, with
    None for what JAX is to find out; None for a process alone.
  """
  address = (given.coordinator, given.num_processes, given.process_id)
  is_given = any(x is not None for x in address)
  return address if given.distributed or is_given else None


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
