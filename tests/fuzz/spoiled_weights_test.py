"""Spoils files of weights and checkpoints at random: read, or refused."""

import pickle
import random
import shutil
import tracemalloc

import jax
import numpy as np
import pytest
import safetensors.numpy

from solo_jax.checkpoints.converted import save_converted
from solo_jax.checkpoints.folders import find_checkpoint
from solo_jax.checkpoints.reading import read
from solo_jax.conversion import checkpoint_file
from solo_jax.errors import UserError
from tests.conversion.torch_writer import TorchWriter

MAX_BYTES = 64 * 2**20  # of memory, for files of a few kilobytes
WEIGHTS = {
  f"layer{i}.{name}": np.arange(n, dtype=np.float32).reshape(-1, 4)
  for i in range(6)
  for name, n in (("weight", 48), ("bias", 4))
}


def spoil(rng, content):
  """Returns the content changed in one of the ways that files are."""
  content = bytearray(content)
  start = rng.randrange(len(content))
  stop = min(len(content), start + rng.choice((1, 4, 8, 200)))
  how = rng.choice(
    ("bit", "byte", "cut", "zeros", "ones", "gone", "twice", "moved")
  )
  if how == "bit":
    content[start] ^= 1 << rng.randrange(8)
  elif how == "byte":
    content[start] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
  elif how == "cut":
    del content[start:]
  elif how in ("zeros", "ones"):
    value = b"\0" if how == "zeros" else b"\xff"
    content[start:stop] = value * (stop - start)
  elif how == "gone":
    del content[start:stop]
  else:
    part = content[start:stop]
    other = rng.randrange(len(content))
    content[other : other if how == "twice" else other + len(part)] = part
  return bytes(content)


def write(tmp_path, torch_writer, kind):
  path = tmp_path / f"x{kind.removeprefix('.old').removeprefix('.new')}"
  if kind == ".safetensors":
    safetensors.numpy.save_file(WEIGHTS, path)
  elif kind == ".pkl":
    path.write_bytes(pickle.dumps({"model": WEIGHTS}, protocol=2))
  elif kind == ".old.pth":
    torch_writer.stream(path, {"state_dict": WEIGHTS})
  else:
    torch_writer.zip(path, {"state_dict": WEIGHTS, "meta": {"epoch": 3}})
  return path


@pytest.mark.parametrize(
  "kind", [".new.pth", ".old.pth", ".safetensors", ".pkl"]
)
def test_spoiled_weights_are_read_or_refused(tmp_path, monkeypatch, kind):
  path = write(tmp_path, TorchWriter(monkeypatch), kind)
  content = path.read_bytes()
  assert checkpoint_file.read(path).arrays.keys() == WEIGHTS.keys()
  rng, outcomes = random.Random(0), {"read": 0, "refused": 0}
  tracemalloc.start()
  for _ in range(250):
    path.write_bytes(spoil(rng, content))
    try:
      arrays = checkpoint_file.read(path).arrays
      outcomes["read"] += 1
    except UserError as error:
      assert str(path) in str(error)
      outcomes["refused"] += 1
      continue
    assert all(isinstance(x, np.ndarray) for x in arrays.values())
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < MAX_BYTES
  assert min(outcomes.values()) > 10


def test_spoiled_checkpoints_are_the_same_or_refused(toy, tmp_path):
  """No file of a checkpoint can be changed without a word."""
  save_converted(
    str(tmp_path / "run"),
    variables=toy.init_toy_variables(),
    config=toy.make_toy_config(),
    class_names=("disc",),
    category_ids=(3,),
    origin={},
  )
  good = find_checkpoint(str(tmp_path / "run"))
  expected, rng = read(good), random.Random(0)
  files = [x for x in (tmp_path / "run").rglob("*") if x.is_file()]
  num_refused = 0
  for i in range(60):
    folder = tmp_path / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tmp_path / "run", folder)
    path = folder / files[i % len(files)].relative_to(tmp_path / "run")
    content = path.read_bytes()
    path.write_bytes(spoil(rng, content) if content else b"x")
    try:
      found = read(find_checkpoint(str(folder)))
    except UserError:
      num_refused += 1
      continue
    assert found["info"] == expected["info"]
    jax.tree.map(
      np.testing.assert_array_equal, found["state"], expected["state"]
    )
  assert 10 < num_refused < 60
