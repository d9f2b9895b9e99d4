"""The error of a user: shown as one message, without a traceback."""


class UserError(Exception):
  """What the user can fix: data, configuration, flags, files, disks, processes.

  Raised where these are read or used, never for a mistake in code. The message
  names the file, image id or field, and what to do. `cli.run` prints it and
  exits with code 1; any other exception keeps its traceback.
  """
