import subprocess

import pytest
import toy_runs

from solo_jax.data import shapes


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("data")
  shapes.Shapes(data_dir=str(path), num_train=40, num_validation=4).prepare()
  return path


@pytest.fixture(scope="session")
def undisturbed(data_dir, tmp_path_factory):
  """Folder of a run of 24 steps that nothing happens to."""
  workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
  toy_runs.finish(data_dir, workdir)
  return workdir


@pytest.fixture
def mount():
  """Mounts small file systems in memory: mount(folder, options).

  Returns a function that changes the options. Skips if the tests have no right
  to do so.
  """
  mounted = []

  def call(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
      pytest.skip(f"{' '.join(arguments)}: {done.stderr.strip()}")

  def mount(folder, options):
    folder.mkdir(parents=True)
    call("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    mounted.append(folder)
    return lambda new: call("mount", "-o", f"remount,{new}", str(folder))

  yield mount
  for folder in reversed(mounted):
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
