"""Flags, error handling and progress bars that all commands share.

On a user's mistake (`errors.UserError`), a command prints the message and exits
with code 1. It does the same for the system's errors about files and when
another process of the run has exited. Any other exception is a bug and keeps
its traceback.
"""

import ast
import functools
import io
import os
import pathlib
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

import jax
import rich.progress
from absl import app, flags, logging
from ml_collections import config_flags

from solo_jax import parallel
from solo_jax.cache import VARIABLE
from solo_jax.config import config_folder
from solo_jax.data.file_tree import MAX_PIXELS, PIXELS_LIMIT
from solo_jax.errors import UserError, printable
from solo_jax.heap import keep_freed_memory
from solo_jax.terminal import Console, PrintableFormatter

# Error messages of CPU collectives and of JAX's coordination service when a
# process is gone; other backends stop all processes by themselves.
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
    command: Takes the positional arguments.
    takes_arguments: Whether positional arguments are allowed.
    verbosity: Lowest level that is logged: Orbax and TFDS log every step.

  Raises:
    SystemExit: With code 0, 1 after a user's mistake, or the command's own exit
      code.
  """
  keep_freed_memory()
  name = pathlib.Path(sys.argv[0]).stem
  for stream in (sys.stdout, sys.stderr):
    # A name that the terminal cannot encode must not stop a run.
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
  """Runs a command with parsed flags, alone or as one of several processes.

  Args:
    command: See `run`.
    argv: The positional arguments, the program's name first.
    takes_arguments: See `run`.
    verbosity: See `run`.

  Raises:
    app.UsageError: If the command does not accept the arguments.
  """
  arguments = argv[1:]
  if arguments and not takes_arguments:
    raise app.UsageError(f"unexpected arguments: {' '.join(arguments)}")
  logging.set_verbosity(verbosity)
  logging.get_absl_handler().setFormatter(PrintableFormatter())
  if "cache" in flags.FLAGS and flags.FLAGS.cache:
    os.environ[VARIABLE] = flags.FLAGS.cache
  if "distributed" in flags.FLAGS:
    address = process_address(flags.FLAGS)
    if address is not None:
      parallel.connect(*address)
  command(*arguments)


def command_line(argv: Sequence[str]) -> str:
  """Returns a command line as it can be typed again.

  Args:
    argv: The program and its arguments.

  Returns:
    'python -m solo_jax.eval --checkpoint=...' for a module of this package.
  """
  path = pathlib.Path(argv[0])
  program = shlex.quote(path.name)
  if path.suffix == ".py" and path.parent == pathlib.Path(__file__).parent:
    program = f"python -m solo_jax.{path.stem}"
  return " ".join([program, *map(shlex.quote, argv[1:])])


def _end_alone(error: Exception, name: str, message: str | None) -> None:
  """Exits one of several processes immediately after an error.

  A normal exit of JAX waits minutes for the other processes to exit, while they
  wait for this one in the middle of a step.
  """
  if message is None:
    traceback.print_exception(error)
  else:
    print(printable(f"{name}: {message}", keep="\n"), file=sys.stderr)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(1)


def explain(error: BaseException) -> str | None:
  """Returns the user's message for an exception, None for a bug.

  Args:
    error: Any exception that was raised.

  Returns:
    The message if the user can fix it, None for a bug.
  """
  if jax.distributed.is_initialized():
    signs = [x for x in (error, *_chain(error)) if _LOST.search(str(x))]
    if signs:
      return (
        "another process of this run has exited or cannot be reached; see its "
        "log. Stop all that are left, then rerun the same commands: the run "
        "resumes from its last checkpoint. This process got: "
        + str(signs[-1]).splitlines()[0]
      )
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, OSError) and error.filename is not None:
    return f"{error.filename}: {error.strerror}"
  return None


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Returns what absl leaves of the command line, with clear config errors.

  Args:
    argv: The command line, the program's name first.

  Returns:
    The positional arguments, the program's name first.

  Raises:
    UserError: If a config file does not exist, rejects its argument or lacks a
      field that a flag sets.
    SystemExit: For any other mistake in a flag.
  """
  try:
    arguments = flags.FLAGS([find_config(x) for x in argv])
    if "config" in flags.FLAGS and flags.FLAGS["config"].present:
      flags.FLAGS.config.items()  # a missing file raises only when used
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


def find_config(argument: str) -> str:
  """Returns --config=configs/... with this project's file if it is not here.

  So the commands in the documentation also work without a clone, from a folder
  without configs/.

  Args:
    argument: Any command-line argument.

  Returns:
    The argument, changed only if it names a config file of this project.
  """
  found = re.match(r"(--?config=)(?:configs/)?(\w+\.py)(:.*)?$", argument)
  if (
    not found or pathlib.Path(found[0].split("=", 1)[1].split(":")[0]).exists()
  ):
    return argument
  path = config_folder() / found[2]
  return f"{found[1]}{path}{found[3] or ''}" if path.exists() else argument


def _is_raised_by_config_flag(error: BaseException) -> bool:
  """Returns whether the error is in a flag and not in a config file's code."""
  names = []
  entry = error.__traceback__
  while entry is not None:
    names.append(entry.tb_frame.f_globals.get("__name__", ""))
    entry = entry.tb_next
  # An error in a config file would have its frame after those of the flags.
  modules = {name.partition(".")[0] for name in names}
  return modules <= {"ml_collections", "absl", __name__.partition(".")[0]}


def _chain(error: BaseException) -> Iterator[BaseException]:
  """Yields the exceptions during whose handling this one was raised."""
  cause = error.__cause__ or error.__context__
  while cause:
    yield cause
    cause = cause.__cause__ or cause.__context__


# What commands that use a trained model take as --checkpoint.
CHECKPOINT = (
  "Folder of a run (its newest checkpoint is used) or of one checkpoint; a "
  "name of published weights (python -m solo_jax.convert --list), an https:// "
  "address, hf:owner/model, or a file of another code base."
)


def define_checkpoint_flag(
  values: flags.FlagValues = flags.FLAGS,
  *,
  meaning: str = CHECKPOINT,
  required: bool = True,
) -> None:
  """Defines --checkpoint of the commands that read one.

  Args:
    values: Flag values to define them in; tests pass their own.
    meaning: What is read.
    required: Whether the command runs without it.
  """
  flags.DEFINE_string("checkpoint", None, meaning, flag_values=values)
  if required:
    flags.mark_flag_as_required("checkpoint", flag_values=values)
  define_cache_flag(values)


def define_cache_flag(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines --cache of the commands that download or compile."""
  flags.DEFINE_string(
    "cache",
    None,
    "Folder for downloads, converted checkpoints and compiled programs. "
    f"Default: the environment variable {VARIABLE}, or ~/.cache/solo_jax.",
    flag_values=values,
  )


def define_score_flag(meaning: str) -> None:
  """Defines --score_threshold of the commands that show detections."""
  flags.DEFINE_float("score_threshold", 0.3, meaning, 0.0, 1.0)


def define_batch_size_flag(meaning: str) -> None:
  """Defines --batch_size of the commands that run a trained network."""
  flags.DEFINE_integer("batch_size", 1, meaning, lower_bound=1)


def define_max_pixels_flag(meaning: str, default: int = MAX_PIXELS) -> None:
  """Defines --max_pixels of the commands that read untrusted image files."""
  flags.DEFINE_integer(
    "max_pixels", default, meaning, lower_bound=1, upper_bound=PIXELS_LIMIT
  )


def define_config_flag(
  values: flags.FlagValues = flags.FLAGS, *, required: bool = True
) -> None:
  """Defines --config of the commands that take a configuration.

  Args:
    values: Flag values to define them in; tests pass their own.
    required: Whether the command needs the flag.
  """
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, with its argument after a colon. Set single fields with "
    "--config.section.field=value.",
    lock_config=True,
    flag_values=values,
  )
  if required:
    flags.mark_flag_as_required("config", flag_values=values)


def define_augmentation_flags() -> None:
  """Defines --flip and --scale of the commands that detect."""
  flags.DEFINE_boolean(
    "flip", False, "Test-time augmentation: also process each image mirrored."
  )
  flags.DEFINE_multi_float(
    "scale",
    [1.0],
    "Test-time augmentation: size at which to process each image, relative to "
    "the config's. Can be repeated; masks have the resolution of the first.",
  )


def define_process_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the flags of a command that runs in several processes.

  Args:
    values: Flag values to define them in; tests pass their own.
  """
  flags.DEFINE_boolean(
    "distributed",
    False,
    "Run as one of several processes. On TPU pods, under Slurm and in "
    "Kubernetes, JAX finds the others.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of process 0, if JAX cannot detect it.",
    flag_values=values,
  )
  flags.DEFINE_integer(
    "num_processes",
    None,
    "Number of processes, if JAX cannot detect it.",
    lower_bound=1,
    flag_values=values,
  )
  flags.DEFINE_integer(
    "process_id",
    None,
    "Index of this process, from 0, if JAX cannot detect it.",
    lower_bound=0,
    flag_values=values,
  )


def process_address(
  given: flags.FlagValues,
) -> tuple[str | None, int | None, int | None] | None:
  """Returns which of several processes this is.

  Args:
    given: Parsed flags, see `define_process_flags`.

  Returns:
    (coordinator, number of processes, own index) for `parallel.connect`, with
    None for values that JAX should detect; None for a single process.
  """
  address = (given.coordinator, given.num_processes, given.process_id)
  is_given = any(x is not None for x in address)
  return address if given.distributed or is_given else None


class SpeedColumn(rich.progress.ProgressColumn):
  """Images per second since the start, including compilation."""

  def render(self, task: rich.progress.Task) -> str:
    """Returns the text; empty before the first image."""
    if not task.completed or not task.elapsed:
      return ""
    return f"{task.completed / task.elapsed:.1f} images/s"


def make_progress(console: Console) -> rich.progress.Progress:
  """Returns a progress bar for images; a task's total may be unknown."""
  return rich.progress.Progress(
    rich.progress.TextColumn("{task.description}", markup=False),
    rich.progress.BarColumn(complete_style="cyan", finished_style="green"),
    rich.progress.MofNCompleteColumn(),
    SpeedColumn(),
    rich.progress.TimeRemainingColumn(),
    console=console,
  )
