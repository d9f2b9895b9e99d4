"""One of two processes dies or is asked to stop."""

import signal
import socket
import time

import pytest
import toy_runs

pytestmark = pytest.mark.slow

# JAX's heartbeat takes 100 s to miss a process; most ends are seen at once.
BOUND = 150


@pytest.fixture
def start_pair(data_dir):
  """Starts the two processes of a run; ends them with the test."""
  started = []

  def start(workdir, **environment):
    with socket.socket() as free:
      free.bind(("localhost", 0))
      port = free.getsockname()[1]
    pair = [
      toy_runs.start(
        data_dir,
        workdir,
        "--distributed",
        f"--coordinator=localhost:{port}",
        "--num_processes=2",
        f"--process_id={i}",
        "--config.training.eval_every_steps=10",
        log=f"{workdir}.{i}.log",
        **environment,
      )
      for i in range(2)
    ]
    started.extend(pair)
    return pair

  yield start
  for run in started:
    run.kill()


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory):
  return tmp_path_factory.mktemp("pairs")


@pytest.fixture
def undisturbed(start_pair, module_folder):
  """Folder of a pair that nothing happens to."""
  workdir = module_folder / "undisturbed"
  if not workdir.exists():
    for run in start_pair(workdir):
      assert run.wait() == 0, run.output
  return workdir


@pytest.mark.parametrize(
  ("victim", "moment"), [(0, "steps"), (1, "steps"), (1, "writing")]
)
def test_other_process_exits_and_the_pair_resumes(
  start_pair, undisturbed, tmp_path, victim, moment
):
  workdir = tmp_path / "run"
  pair = start_pair(workdir)
  pair[0].wait_for("step 8 is saved")
  if moment == "writing":
    pair[0].wait_until(lambda: toy_runs.has_unfinished(workdir))
  assert pair[victim].kill() == -signal.SIGKILL
  begin, other = time.monotonic(), pair[1 - victim]
  assert other.wait() != 0
  seconds = time.monotonic() - begin
  print(f"process {1 - victim} ended {seconds:.1f} s after {victim}, {moment}")
  assert seconds < BOUND
  # Ours, or JAX's own where its service notices before the collective does.
  assert (
    "another process of this run has exited" in other.output
    or "another task died" in other.output
  ), other.output
  assert "Traceback" not in other.output
  saved = max(toy_runs.steps_reported(pair[0].output))
  pair = start_pair(workdir)
  for run in pair:
    assert run.wait() == 0, run.output
  assert toy_runs.resumed_from(pair[0].output) >= saved
  toy_runs.assert_same_end(workdir, undisturbed)


@pytest.mark.parametrize("moment", ["steps", "evaluation"])
def test_pair_stops_together_when_one_is_asked_to(
  start_pair, undisturbed, tmp_path, moment
):
  """Process 0 gets no signal; schedulers signal every task."""
  workdir = tmp_path / "run"
  pair = start_pair(workdir, TOY_EVALUATION_SECONDS="3")
  if moment == "steps":
    pair[1].wait_until(lambda: toy_runs.last_step(workdir) >= 5)
  else:
    pair[1].wait_for("evaluating")
  pair[1].process.send_signal(signal.SIGTERM)
  for run in pair:
    assert run.wait() == 143, run.output
  saved = max(toy_runs.steps_reported(pair[0].output))
  assert saved == toy_runs.last_step(workdir) < 24
  assert saved == toy_runs.steps_saved(workdir)[-1]
  if moment == "evaluation":
    assert "evaluated step 10" in pair[0].output
  pair = start_pair(workdir)
  for run in pair:
    assert run.wait() == 0, run.output
  assert toy_runs.resumed_from(pair[0].output) == saved
  toy_runs.assert_same_end(workdir, undisturbed)
