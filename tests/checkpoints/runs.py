"""Runs with a few checkpoints, for tests of the store."""

import jax
import numpy as np

from solo_jax import parallel
from solo_jax.checkpoints.store import CheckpointWriter

DATA = {"images": 8, "exif": "apply", "fingerprint": "abc"}


def open_writer(toy, workdir, *, data=DATA, **training):
  return CheckpointWriter(
    str(workdir),
    config=toy.make_toy_config(**training),
    class_names=("disc", "star"),
    category_ids=(3, 90),
    data=data,
  )


def save(writer, state, metrics):
  """Saves a state and adds its evaluation, as the loop does."""
  writer.save(state)
  writer.finished(wait=True)
  writer.add_metrics(int(state.step), metrics)


def at_step(state, step):
  """The state with another step and parameters that show it."""
  host = parallel.fetch(state)
  params = jax.tree.map(lambda x: x + step, host.params)
  return host.replace(step=np.int32(step), params=params)
