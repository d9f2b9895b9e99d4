"""A run with checkpoints that several tests read."""

import pytest

from tests.checkpoints.runs import at_step, open_writer, save


@pytest.fixture(scope="module")
def state(toy):
  return toy.make_toy_run(name="adamw", ema_decay=0.9)[0]


@pytest.fixture(scope="module")
def saved(toy, state, tmp_path_factory):
  """A run with checkpoints at steps 2 (the best), 6 and 8."""
  workdir = tmp_path_factory.mktemp("run")
  writer = open_writer(toy, workdir)
  for step, mask_ap in ((1, None), (2, 0.5), (4, 0.2), (5, None), (6, 0.4)):
    if mask_ap is None:
      writer.save(at_step(state, step))
    else:
      save(writer, at_step(state, step), {"mask_AP": mask_ap, "box_AP": None})
  writer.save(at_step(state, 8))
  writer.save(at_step(state, 8))  # again: nothing to do
  writer.close()
  return workdir
