"""Tests of launch/: what the scripts would run, with fakes of what they call.

That the local one trains is shown in tests/training/topology_test.py.
"""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from absl import flags

from solo_jax import cli, train

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
FLAGS = ("--config=configs/solov2_coco.py:backbone=r50,schedule=3x",)


def run(script, *arguments, **environment):
  return subprocess.run(
    ["bash", str(LAUNCH / script), *arguments],
    capture_output=True,
    text=True,
    env={"PATH": "/usr/bin:/bin"} | environment,
    timeout=60,
  )


def fake_program(path, body):
  path.write_text(f"#!/bin/bash\n{body}\n")
  path.chmod(0o755)
  return str(path)


def test_local_processes_differ_in_their_number_only():
  done = run("local_multiprocess.sh", "--dry-run", "3", *FLAGS, "--workdir=a b")
  commands = [shlex.split(line) for line in done.stdout.splitlines()]
  assert len(commands) == 3 and done.returncode == 0
  for i, words in enumerate(commands):
    assert words[:2] == ["env", f"JAX_LOCAL_DEVICE_IDS={i}"]
    assert words[2:5] == ["python", "-m", "solo_jax.train"]
    assert words[-1] == f"--process_id={i}"
    assert words[2:-1] == commands[0][2:-1]
  assert {FLAGS[0], "--workdir=a b", "--num_processes=3"} < set(commands[0])


def test_logs_of_a_run_on_a_bucket_are_here(tmp_path):
  python = fake_program(tmp_path / "python", "echo there")
  script = LAUNCH / "local_multiprocess.sh"
  subprocess.run(
    ["bash", script, "1", "--workdir=gs://bucket/runs/three"],
    env={"PATH": "/usr/bin:/bin", "PYTHON": python},
    cwd=tmp_path,
    check=True,
  )
  assert (tmp_path / "three.process0.log").read_text() == "there\n"


def test_local_processes_run_and_log(tmp_path):
  python = fake_program(tmp_path / "python", 'echo "got $*"')
  workdir = tmp_path / "runs" / "two"
  done = run(
    "local_multiprocess.sh", "2", f"--workdir={workdir}", PYTHON=python
  )
  assert done.returncode == 0, done.stderr
  for i in range(2):
    log = pathlib.Path(f"{workdir}.process{i}.log").read_text()
    assert log.startswith("got -m solo_jax.train")
    assert log.strip().endswith(f"--process_id={i}")


def test_a_process_that_fails_stops_the_others(tmp_path):
  body = '[[ "$*" == *process_id=1 ]] && exit 7; exec sleep 50'
  python = fake_program(tmp_path / "python", body)
  start = time.monotonic()
  done = run(
    "local_multiprocess.sh", "2", f"--workdir={tmp_path / 'w'}", PYTHON=python
  )
  assert done.returncode == 7
  assert "a process failed (exit code 7)" in done.stderr
  assert time.monotonic() - start < 40


BUSY = """
count=0
trap 'count=$((count + 1)); echo "signal $count"' TERM INT
echo ready
until ((count == {enough})); do sleep 0.1; done
sleep 1 # saving
echo saved
exit 143"""


def wait_for(files, text):
  deadline = time.monotonic() + 30
  while not all(x.exists() and x.read_text() == text for x in files):
    assert time.monotonic() < deadline
    time.sleep(0.1)


@pytest.fixture
def start_busy(tmp_path):
  """Starts two processes that count signals; kills those that are left."""
  logs = [tmp_path / f"w.process{i}.log" for i in range(2)]
  scripts = []

  def start(enough):
    body = BUSY.format(enough=enough)
    script = subprocess.Popen(
      [
        *("bash", LAUNCH / "local_multiprocess.sh", "2"),
        f"--workdir={tmp_path / 'w'}",
      ],
      env={
        "PATH": "/usr/bin:/bin",
        "PYTHON": fake_program(tmp_path / "python", body),
      },
      stdout=subprocess.PIPE,
      text=True,
      start_new_session=True,
      # A job in the background starts with SIGINT ignored, and so do its own.
      preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    scripts.append(script)
    wait_for(logs, "ready\n")
    return script, logs

  yield start
  for script in scripts:
    if script.poll() is None:
      subprocess.run(["pkill", "-KILL", "-s", str(script.pid)], check=False)
    script.wait(30)
    script.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_each_process_gets_one_signal_and_may_save(start_busy, number):
  """A second one would end it at once.

  To the script and its tee, as from a terminal or `timeout`.
  """
  script, logs = start_busy(enough=1)
  os.killpg(script.pid, number)
  output = script.communicate(timeout=30)[0]
  assert script.returncode == 128 + number
  for log in logs:
    assert log.read_text() == "ready\nsignal 1\nsaved\n"
  assert output == "ready\nsignal 1\nsaved\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_is_passed_on(start_busy, number):
  script, logs = start_busy(enough=2)
  os.killpg(script.pid, number)
  wait_for(logs, "ready\nsignal 1\n")
  os.killpg(script.pid, number)
  script.communicate(timeout=30)
  assert script.returncode == 128 + number
  for log in logs:
    assert log.read_text() == "ready\nsignal 1\nsignal 2\nsaved\n"


SRUN = [
  *("srun", "--kill-on-bad-exit=1", "python", "-m", "solo_jax.train"),
  "--distributed",
]


def test_slurm_starts_one_process_a_task():
  done = run("slurm.sbatch", "--dry-run", *FLAGS, "--workdir=a b")
  assert shlex.split(done.stdout) == [*SRUN, *FLAGS, "--workdir=a b"]


def test_slurm_starts_as_many_tasks_as_a_node_has_gpus():
  """JAX gives each task the one GPU of its local number."""
  lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
  options = dict(
    line.removeprefix("#SBATCH --").partition("=")[::2]
    for line in lines
    if line.startswith("#SBATCH")
  )
  assert options["ntasks-per-node"] == options["gpus-per-node"]
  assert options["signal"] == "TERM@120" and "requeue" in options


@pytest.mark.parametrize("code", [0, 1, 143])
def test_slurm_queues_a_stopped_run_again(tmp_path, code):
  for name, body in (
    ("srun", f"echo srun $*; exit {code}"),
    ("scontrol", "echo scontrol $*"),
  ):
    fake_program(tmp_path / name, body)
  done = run(
    "slurm.sbatch",
    *FLAGS,
    "--workdir=w",
    PATH=f"{tmp_path}:/usr/bin:/bin",
    SLURM_JOB_ID="17",
  )
  assert done.returncode == code
  expected = [" ".join([*SRUN, *FLAGS, "--workdir=w"])]
  if code == 143:  # stopped by SIGTERM
    expected.append("scontrol requeue 17")
  assert done.stdout.splitlines() == expected


def test_tpu_pod_quotes_what_the_shell_there_would_split():
  arguments = ("pod", "zone", *FLAGS, "--workdir=gs://b/a b")
  done = run("tpu_pod.sh", "--dry-run", *arguments, DIRECTORY="my clone")
  *words, remote = shlex.split(done.stdout)
  assert words == [
    *("gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod"),
    *("--zone=zone", "--worker=all"),
  ]
  assert shlex.split(remote.removeprefix("--command=")) == [
    *("cd", "my clone", "&&", "python3", "-m", "solo_jax.train"),
    *("--distributed", *FLAGS, "--workdir=gs://b/a b"),
  ]


def test_tpu_pod_runs_what_it_prints(tmp_path):
  fake_program(tmp_path / "gcloud", 'echo "${@: -1}"')
  arguments = ("pod", "zone", *FLAGS, "--workdir=gs://b/w")
  done = run("tpu_pod.sh", *arguments, PATH=f"{tmp_path}:/usr/bin:/bin")
  printed = run("tpu_pod.sh", "--dry-run", *arguments).stdout
  assert done.stdout.strip() == shlex.split(printed)[-1]


@pytest.mark.parametrize(
  "script", ["local_multiprocess.sh", "tpu_pod.sh", "slurm.sbatch"]
)
def test_missing_arguments_are_reported(script):
  done = run(script)
  assert done.returncode == 2
  assert done.stderr.startswith("usage:")


@pytest.mark.parametrize(
  "script", ["local_multiprocess.sh", "tpu_pod.sh", "slurm.sbatch"]
)
def test_shellcheck_finds_nothing(script):
  local = os.path.join(os.path.dirname(sys.executable), "shellcheck")
  shellcheck = shutil.which("shellcheck") or shutil.which(local)
  if shellcheck is None:
    pytest.skip("shellcheck is not installed")
  done = subprocess.run(
    [shellcheck, str(LAUNCH / script)], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def manifest():
  """The objects of the manifest by kind."""
  text = (LAUNCH / "kubernetes_jobset.yaml").read_text()
  objects = list(yaml.safe_load_all(text))
  assert all(x["apiVersion"] and x["metadata"]["name"] for x in objects)
  return {x["kind"]: x for x in objects}


def test_manifest_starts_indexed_pods_together(manifest):
  """As JAX reads them: parallelism processes, numbered by completion index."""
  (train_job,) = manifest["JobSet"]["spec"]["replicatedJobs"]
  assert train_job["replicas"] == 1
  job = train_job["template"]["spec"]
  assert job["parallelism"] == job["completions"] > 1
  assert job["completionMode"] == "Indexed"
  assert job["backoffLimit"] == 0  # one fails: the set starts again
  assert manifest["JobSet"]["spec"]["failurePolicy"]["maxRestarts"] > 0
  pod = job["template"]["spec"]
  assert pod["restartPolicy"] == "Never"
  mounted = {x["name"] for x in pod["containers"][0]["volumeMounts"]}
  assert mounted == {x["name"] for x in pod["volumes"]}


def test_manifest_lets_jax_ask_for_the_pods(manifest):
  """The calls of jax._src.clusters.k8s_cluster, for the account of the pods."""
  (train_job,) = manifest["JobSet"]["spec"]["replicatedJobs"]
  pod = train_job["template"]["spec"]["template"]["spec"]
  name = pod["serviceAccountName"]
  assert manifest["ServiceAccount"]["metadata"]["name"] == name
  binding = manifest["RoleBinding"]
  assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name}]
  assert binding["roleRef"]["name"] == manifest["Role"]["metadata"]["name"]
  allowed = {
    (resource, verb)
    for rule in manifest["Role"]["rules"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
  }
  assert {("pods", "list"), ("jobs", "get"), ("services", "list")} <= allowed


def test_manifest_runs_a_command_that_parses(manifest, monkeypatch):
  (train_job,) = manifest["JobSet"]["spec"]["replicatedJobs"]
  pod = train_job["template"]["spec"]["template"]["spec"]
  (container,) = pod["containers"]
  assert container["command"][:3] == ["python", "-m", "solo_jax.train"]
  monkeypatch.chdir(ROOT)
  values = flags.FlagValues()
  train.define_flags(values)
  monkeypatch.setattr(sys, "argv", ["train", *container["command"][3:]])
  values(sys.argv)
  assert values.config.dataset.data_dir.startswith("gs://")
  assert values.workdir.startswith("gs://")
  assert cli.process_address(values) == (None, None, None)
