"""Finds checkpoints in the folders of a run."""

import orbax.checkpoint as ocp
from etils import epath

from solo_jax.errors import UserError


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
    steps = [x for x in children(parent) if _is_checkpoint(x)]
    if steps:
      return max(steps, key=lambda x: int(x.name))
  found = ", ".join(sorted(x.name for x in children(folder))[:10])
  raise UserError(
    f"no checkpoint at {folder}: expected the folder of a run, or its "
    f"checkpoints/<step>; found {found or 'an empty folder or a file'}"
  )


def absolute(path: str) -> epath.Path:
  """Returns an absolute path for Orbax; epath's own breaks gs:// addresses."""
  folder = epath.Path(path)
  return folder if folder.is_absolute() else folder.absolute()


def _is_checkpoint(folder: epath.Path) -> bool:
  return (
    folder.name.isdigit()
    and (folder / "state").exists()
    # On a bucket it has its name before it is complete, see store.py.
    and ocp.utils.is_checkpoint_finalized(folder)
  )


def children(folder: epath.Path) -> list[epath.Path]:
  """Returns the contents of a folder, nothing if it does not exist."""
  return list(folder.iterdir()) if folder.is_dir() else []
