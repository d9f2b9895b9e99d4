"""A dataset, and runs on it that tests of several files compare with."""

import pytest

from solo_jax.data import shapes
from tests.training.topologies import train_steps


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("data")
  shapes.Shapes(data_dir=str(path), num_train=40, num_validation=11).prepare()
  return path


@pytest.fixture(scope="session")
def runs(data_dir, tmp_path_factory):
  """A function of a topology: (workdir, rows) of a run on it."""
  done = {}

  def run(topology):
    if topology not in done:
      workdir = tmp_path_factory.mktemp("run") / "workdir"
      done[topology] = workdir, train_steps(data_dir, workdir, topology)
    return done[topology]

  return run
