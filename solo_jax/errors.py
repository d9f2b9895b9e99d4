"""The error for users' mistakes, shown as one message without a traceback."""


class UserError(Exception):
  """An error the user can fix: data, config, flags, files, disks, processes.

  Raised where these are read or used, never for a bug in the code. The message
  names the file, image id or field, and what to do. `cli.run` prints it and
  exits with code 1; any other exception keeps its traceback.
  """


def printable(text: str, *, keep: str = "") -> str:
  r"""Returns a text of a file with control characters as escapes.

  A terminal acts on them: they may hide lines or change its title. Text
  that cannot be encoded (file names that are not UTF-8) is escaped as well.

  Args:
    text: Any text.
    keep: Control characters that stay, such as line ends.

  Returns:
    The text, '\x1b' in four characters for an escape.
  """
  return "".join(
    x if x in keep or not _is_control(x) else ascii(x)[1:-1] for x in text
  )


def _is_control(character: str) -> bool:
  code = ord(character)
  return code < 32 or 127 <= code < 160 or 0xD800 <= code < 0xE000
