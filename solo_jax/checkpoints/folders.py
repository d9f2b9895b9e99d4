"""Finds checkpoints in the folders of a run."""

import fnmatch

import orbax.checkpoint as ocp
from etils import epath

from solo_jax.errors import UserError, printable


def find_checkpoint(path: str) -> epath.Path:
  """Returns the folder of one checkpoint.

  Args:
    path: Folder of a run (its newest checkpoint is used) or of one
      checkpoint.

  Returns:
    The folder.

  Raises:
    UserError: If there is no checkpoint; the message lists what was found.
  """
  folder = absolute(path)
  if not folder.exists():
    raise UserError(
      f"no checkpoint at {folder}: the folder does not exist; train one with "
      "python -m solo_jax.train --config=... --workdir=..."
    )
  if _is_checkpoint(folder):
    return folder
  for parent in (folder / "checkpoints", folder):
    steps = [
      x for x in children(parent) if x.name.isdecimal() and _is_checkpoint(x)
    ]
    if steps:
      return max(steps, key=lambda x: int(x.name))
  if not folder.is_dir():
    raise UserError(
      f"no checkpoint at {folder}: it is a file; pass the folder of a run, or "
      "convert foreign weights with python -m solo_jax.convert"
    )
  found = ", ".join(printable(x.name) for x in sorted(children(folder))[:10])
  raise UserError(
    f"no checkpoint at {folder}: expected the folder of a run, or its "
    f"checkpoints/<step>; found {found or 'an empty folder'}"
  )


def check_writable(path: str) -> None:
  """Refuses a folder in which Orbax would not find its own files.

  Orbax treats the whole path as a glob pattern when it assembles a checkpoint.

  Args:
    path: Folder of a run.

  Raises:
    UserError: If its path, read as a pattern, does not match itself.
  """
  folder = absolute(path)
  parts = [x for x in folder.parts if not fnmatch.fnmatchcase(x, x)]
  if parts:
    raise UserError(
      f"checkpoints cannot be written to {folder}: its path has [ and ] in "
      f"{', '.join(map(repr, parts))}; choose a folder without"
    )


def absolute(path: str) -> epath.Path:
  """Returns an absolute path for Orbax; epath's own breaks gs:// addresses."""
  folder = epath.Path(path)
  return folder if folder.is_absolute() else folder.absolute()


def _is_checkpoint(folder: epath.Path) -> bool:
  return (
    (folder / "state").exists()
    # On a bucket it has its name before it is complete, see store.py.
    and ocp.utils.is_checkpoint_finalized(folder)
  )


def children(folder: epath.Path) -> list[epath.Path]:
  """Returns the contents of a folder, nothing if it does not exist."""
  return list(folder.iterdir()) if folder.is_dir() else []
