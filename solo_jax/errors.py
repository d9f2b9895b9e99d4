"""The error for users' mistakes, shown as one message without a traceback."""


class UserError(Exception):
  """An error the user can fix: data, config, flags, files, disks, processes.

  Raised where these are read or used, never for a bug in the code. The message
  names the file, image id or field, and what to do. `cli.run` prints it and
  exits with code 1; any other exception keeps its traceback.
  """
