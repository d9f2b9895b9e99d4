"""Running a command: a user's mistake ends in one clear message, no traceback.

Whatever solo_jax raises by a `raise` statement of its own is written for the
user, and so is what the system says about a file; both end a command with
their message and exit code 1. So does the end of another process of the run.
Any other exception is a bug and keeps its traceback.
"""

import ast
import dis
import io
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import jax
from absl import app, flags

from solo_jax.errors import UserError

_PACKAGE = str(pathlib.Path(__file__).parent) + os.sep
_RAISE = dis.opmap["RAISE_VARARGS"]
# How the collectives of the CPU and JAX's coordination service speak of a
# process that is gone; others end all processes by themselves.
_LOST = re.compile(
  r"Gloo \w+ failed|by peer|heartbeat|coordination ?service", re.IGNORECASE
)


def run(main: Callable[[list[str]], None]) -> None:
  """Parses flags and runs a command; does not return.

  Args:
    main: Takes the arguments that are no flags, the program's name first.

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
    app.run(main, flags_parser=parse_flags)
  except Exception as error:
    message = explain(error)
    if jax.distributed.is_initialized():
      _end_alone(error, name, message)
    if message is None:
      raise
    sys.exit(f"{name}: {message}")


def _end_alone(error: Exception, name: str, message: str | None) -> None:
  """Ends one of several processes at once, after an error.

  JAX's end of a process waits minutes for the others to come to theirs, while
  they wait for this one in the middle of a step.
  """
  if message is None:
    traceback.print_exception(error)
  else:
    print(f"{name}: {message}", file=sys.stderr)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(1)


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
    (coordinator, number of processes, own number) for `devices.connect`, with
    None for what JAX is to find out; None for a process alone.
  """
  address = (given.coordinator, given.num_processes, given.process_id)
  is_given = any(x is not None for x in address)
  return address if given.distributed or is_given else None


def explain(error: BaseException) -> str | None:
  """Finds the message for the user in an exception.

  Args:
    error: Any exception that was raised.

  Returns:
    The message if the user can mend it, None for a bug.
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
  last = _innermost(error)
  if last is not None and _is_raised_by_us(last):
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
    UserError: If a config file refuses its argument.
    ValueError: If a config file is not there or lacks a
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
    # ml_collections packs the traceback of a config file into the message.
    for cause in _chain(error):
      if explain(cause) is not None:
        raise ValueError(f"--config: {cause}") from error
    sys.exit(f"{error}\nPass --helpshort or --helpfull to see help on flags.")
  except (AttributeError, OSError) as error:
    if not _is_raised_by_config_flag(error):
      raise
    reason = str(error).splitlines()[-1].strip()
    if isinstance(error, AttributeError):  # carries a quoted message
      reason = ". ".join(ast.literal_eval(str(error)).splitlines())
    raise ValueError(f"--config: {reason}") from error


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


def _innermost(error: BaseException) -> TracebackType | None:
  """Returns the last entry of the traceback: where it was raised."""
  last = error.__traceback__
  while last is not None and last.tb_next is not None:
    last = last.tb_next
  return last


def _is_raised_by_us(last: TracebackType) -> bool:
  code = last.tb_frame.f_code
  is_ours = code.co_filename.startswith(_PACKAGE)
  return is_ours and code.co_code[last.tb_lasti] == _RAISE


def _is_raised_by_config_flag(error: BaseException) -> bool:
  """Tells a wrong flag from a mistake in the code of a config file."""
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
