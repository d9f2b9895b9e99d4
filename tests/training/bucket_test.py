"""The same run with data and checkpoints in object storage."""

import json
import socket
import subprocess
import sys
import time

import pytest

from solo_jax.training.logging import read_rows
from tests.training.topologies import (
  NUM_STEPS,
  ROOT,
  RUN,
  SOLOV2,
  TIMEOUT,
  environment,
  find_port,
  train,
)

# What Google's storage has and the emulator has not: ranges of the last bytes,
# with which ArrayRecord starts, and generations, without which Orbax's
# TensorStore does not write a file twice.
EMULATOR = """
import re, sys
from gcp_storage_emulator import exceptions, server
from gcp_storage_emulator.handlers import objects
plain = objects.download
def download(request, response, storage, *args, **kwargs):
  place = request.params["bucket_name"], request.params["object_id"]
  try:
    generation = storage.get_file_obj(*place)["generation"]
    response["x-goog-generation"] = generation
    last = re.fullmatch(r"bytes=-(\\d+)", request.get_header("range", "") or "")
    if last:
      start = max(0, len(storage.get_file(*place)) - int(last[1]))
      request.get_header = lambda *_: f"bytes={start}-"
  except exceptions.NotFound:
    pass
  return plain(request, response, storage, *args, **kwargs)
objects.download = download
for _, methods in server.HANDLERS:
  if methods.get("GET") is plain:
    methods["GET"] = download
server.create_server(
  "localhost", int(sys.argv[1]), True, default_bucket="bucket"
).run()
"""
COPY = """
import sys
from etils import epath
def copy(source, target):
  for path in source.iterdir():
    if path.is_dir():
      copy(path, target / path.name)
    else:
      (target / path.name).parent.mkdir(parents=True, exist_ok=True)
      (target / path.name).write_bytes(path.read_bytes())
copy(*map(epath.Path, sys.argv[1:]))
"""
DELETE = """
import sys
from etils import epath
epath.Path(sys.argv[1]).rmtree()
"""


@pytest.fixture
def storage(monkeypatch):
  """Google's object storage, emulated, for gs:// of all libraries."""
  pytest.importorskip("gcsfs", reason="pip install gcsfs")
  pytest.importorskip(
    "gcp_storage_emulator", reason="pip install gcp-storage-emulator"
  )
  port = find_port()
  for name in (
    "STORAGE_EMULATOR_HOST",  # gcsfs
    "CLOUD_STORAGE_EMULATOR_ENDPOINT",  # ArrayRecord
    "TENSORSTORE_GCS_HTTP_URL",  # Orbax
  ):
    monkeypatch.setenv(name, f"http://localhost:{port}")
  server = subprocess.Popen(
    [sys.executable, "-c", EMULATOR, str(port)],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  while server.poll() is None:
    try:
      socket.create_connection(("localhost", port)).close()
      break
    except OSError:
      time.sleep(0.2)
  yield
  server.kill()
  server.wait()


def run_python(*command):
  return subprocess.run(
    [sys.executable, *map(str, command)],
    env=environment(1),
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
    timeout=TIMEOUT,
  ).stdout


@pytest.mark.slow
def test_data_and_run_on_a_bucket(runs, data_dir, tmp_path, storage):
  """Bit for bit the run on disk, also when it continues from the bucket."""
  workdir, expected = runs((1, 1))
  data, run = "gs://bucket/data", "gs://bucket/run"
  run_python("-c", COPY, data_dir, data)
  train(data, run, (1, 1), *RUN, *SOLOV2)
  run_python("-c", DELETE, f"{run}/checkpoints/{NUM_STEPS}")
  train(data, run, (1, 1), *RUN, *SOLOV2)
  run_python("-c", COPY, run, tmp_path / "run")
  rows = read_rows(tmp_path / "run" / "metrics.jsonl")
  losses = [x["train/loss"] for x in rows if "train/loss" in x]
  assert losses == [x["train/loss"] for x in expected]
  assert {x.name for x in (tmp_path / "run" / "checkpoints").iterdir()} == {
    "3",
    "6",
  }
  out = run_python(
    *("-m", "solo_jax.eval"), f"--checkpoint={run}", f"--data_dir={data}"
  )
  metrics = json.loads(out.splitlines()[-1])
  last = read_rows(workdir / "metrics.jsonl")[-1]
  assert metrics == {name: last[f"val/{name}"] for name in metrics}
