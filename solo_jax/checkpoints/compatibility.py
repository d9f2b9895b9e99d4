"""Checks whether a checkpoint's config and arrays fit a run."""

from typing import Any

import flax.traverse_util
import numpy as np
from absl import logging

from solo_jax.errors import UserError

# May differ between a checkpoint and the run that resumes from it: these change
# the length of a run, its reports and its memory, not the result of a step. (A
# cosine schedule follows a changed num_steps from then on.)
CHANGEABLE = (
  "backbone.remat",
  "dataset.data_dir",
  "dataset.eval_split",
  "dataset.num_workers",
  "decode",
  "evaluation",
  "training.num_steps",
  "training.checkpoint_every_steps",
  "training.keep_latest",
  "training.keep_best",
  "training.eval_every_steps",
  "training.log_every_steps",
  "training.picture_every_steps",
  "training.num_pictures",
  "training.max_nonfinite_steps",
)


def check_same_run(saved: dict, expected: dict, where: str) -> None:
  """Raises if a checkpoint was saved with another config.

  Args:
    saved: The checkpoint's 'config', 'class_names' and 'category_ids'.
    expected: The same of this run.
    where: First words of the error message.

  Raises:
    UserError: Naming every differing field with both values, unless it is
      one of CHANGEABLE.
  """
  old, new = (flatten(x) for x in (saved, expected))
  differing = [
    f"  {key.removeprefix('config.')}: saved {old.get(key, '(absent)')}, "
    f"now {new.get(key, '(absent)')}"
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key) and not _is_changeable(key)
  ]
  if differing:
    hint = ""
    if any(line.startswith("  training.batch_size:") for line in differing):
      hint = (
        "\nTo resume with another batch size, pass --change_batch_size: "
        "schedule and data resume at the same step, and the learning "
        "rate follows the linear rule."
      )
    raise UserError(
      f"{where}: it was saved with another config. Use another --workdir, or "
      "set these back:\n" + "\n".join(differing) + hint
    )


def check_same_data(
  saved: dict | None, expected: dict, where: str, *, is_change_accepted: bool
) -> None:
  """Raises if the data changed under the same name.

  Args:
    saved: The checkpoint's 'data', see `CheckpointWriter`; None for older
      checkpoints without it, which is logged as a warning.
    expected: The same of this run.
    where: First words of the error message.
    is_change_accepted: Whether to only report other data.

  Raises:
    UserError: Naming the differences, unless accepted.
  """
  if saved is None:
    logging.warning("%s: its training data are not recorded", where)
    return
  differing = [
    f"  {key}: saved {saved.get(key, '(absent)')}, now {value}"
    for key, value in expected.items()
    if saved.get(key, "(absent)") != value
  ]
  if not differing:
    return
  if not is_change_accepted:
    raise UserError(
      f"{where}: the training data are not those it was trained on, although "
      "they have the same name:\n"
      + "\n".join(differing)
      + "\nPrepare the old data again, or pass --change_data to continue with "
      "the new data: the step number stays, and with it the position in the "
      "data"
    )
  logging.warning(
    "%s: the training data differ, as --change_data allows:\n%s",
    where,
    "\n".join(differing),
  )


def check_tree(saved: dict, expected: dict, where: str) -> None:
  """Checks that two trees have the same names and shapes.

  Args:
    saved: Nested dict of arrays from a checkpoint.
    expected: Nested dict of arrays or shapes of the network built now.
    where: First words of the error message.

  Raises:
    UserError: Listing what is missing, unexpected or of another shape.
  """
  old, new = (flatten(x) for x in (saved, expected))
  problems = [f"  {key}: missing" for key in sorted(new.keys() - old.keys())]
  problems += [
    f"  {key}: unexpected" for key in sorted(old.keys() - new.keys())
  ]
  problems += [
    f"  {key}: shape {np.shape(old[key])}, expected {np.shape(new[key])}"
    for key in sorted(old.keys() & new.keys())
    if np.shape(old[key]) != np.shape(new[key])
  ]
  if problems:
    more = len(problems) - 10
    rest = f"\n  and {more} more" if more > 0 else ""
    raise UserError(
      f"{where}: its arrays do not fit the network of this config:\n"
      + "\n".join(problems[:10])
      + rest
    )


def flatten(tree: dict) -> dict[str, Any]:
  """Returns a nested dict as {'a.b.c': value}, without None values."""
  flat = flax.traverse_util.flatten_dict(tree, sep=".")
  return {key: x for key, x in flat.items() if x is not None}


def _is_changeable(key: str) -> bool:
  key = key.removeprefix("config.")
  return any(key == x or key.startswith(x + ".") for x in CHANGEABLE)
