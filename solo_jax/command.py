"""Running a command: a user's mistake ends in one clear message, no traceback.

Whatever solo_jax raises by a `raise` statement of its own is written for the
user, and so is what the system says about a file; both end a command with
their message and exit code 1. Any other exception is a bug and keeps its
traceback.
"""

import ast
import dis
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from absl import app, flags

_PACKAGE = str(pathlib.Path(__file__).parent) + os.sep
_RAISE = dis.opmap["RAISE_VARARGS"]


def run(main: Callable[[list[str]], None]) -> None:
  """Parses flags and runs a command; does not return.

  Args:
    main: Takes the arguments that are no flags, the program's name first.

  Raises:
    SystemExit: With the exit code: 0, 1 after an error of the user, or what
      the command itself exits with.
  """
  name = pathlib.Path(sys.argv[0]).stem
  try:
    app.run(main, flags_parser=parse_flags)
  except Exception as error:
    message = explain(error)
    if message is None:
      raise
    sys.exit(f"{name}: {message}")


def explain(error: BaseException) -> str | None:
  """Finds the message for the user in an exception.

  Args:
    error: Any exception that was raised.

  Returns:
    The message if the user can mend it, None for a bug.
  """
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
    ValueError: If a config file is not there, refuses its argument or lacks a
      field that is to be set.
    SystemExit: On any other mistake in a flag.
  """
  try:
    arguments = flags.FLAGS(argv)
    if "config" in flags.FLAGS and flags.FLAGS["config"].present:
      flags.FLAGS.config.items()  # of a missing file, only use raises
    return arguments
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
