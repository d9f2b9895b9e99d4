"""The error of a user: shown as one message, without a traceback."""


class UserError(Exception):
  """A mistake in data, configuration, flags or files that come from outside.

  Raised where these are read, never for a mistake in code. The message names
  the file, image id or field, and what to do. `cli.run` prints it and exits
  with code 1; any other exception keeps its traceback.
  """
