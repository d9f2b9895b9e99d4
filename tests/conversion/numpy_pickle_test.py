"""Tests of solo_jax/conversion/numpy_pickle.py."""

import io
import os
import pickle
import tracemalloc

import numpy as np
import pytest

from solo_jax.conversion import checkpoint_file
from solo_jax.conversion.numpy_pickle import load, read
from solo_jax.conversion.pickle_machine import RefusedError
from solo_jax.errors import UserError


def loads(value, protocol=2):
  return load(io.BytesIO(pickle.dumps(value, protocol=protocol)))


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", ["<f4", "<f8", "<f2", "<i8", "|u1", "|b1"])
def test_arrays_come_back(protocol, kind):
  rng = np.random.default_rng(0)
  plain = (100 * rng.random((3, 4, 2))).astype(kind)
  value = {
    "model": {
      "plain": plain,
      "fortran": np.asfortranarray(plain),
      "scalar": np.asarray(plain[0, 0, 0]),
      "empty": plain[:0],
      "again": plain,
    },
    "__author__": "somebody",
  }
  found = loads(value, protocol)
  assert found["__author__"] == "somebody"
  for name, array in value["model"].items():
    np.testing.assert_array_equal(found["model"][name], array)
    assert found["model"][name].dtype == array.dtype


def test_an_array_pickled_by_python_2_is_read():
  # numpy 1 under Python 2: the content is a string, the module numpy.core.
  data = (
    b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\n"
    b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
    b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89U\x08\x00\x00\x80?\x00\x00\x00\xc0tbs."
  )
  np.testing.assert_array_equal(load(io.BytesIO(data))["w"], [1.0, -2.0])


@pytest.mark.parametrize("protocol", [2, 3])
def test_memory_is_that_of_the_arrays(tmp_path, protocol):
  rng = np.random.default_rng(0)
  size = 2**20
  value = {f"w{i}": rng.random(size, np.float32) for i in range(8)}
  path = tmp_path / "model.pkl"
  path.write_bytes(pickle.dumps(value, protocol=protocol))
  expected = value.pop("w7")[-1]
  del value
  tracemalloc.start()
  found = read(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert found["w7"][-1] == expected
  # All arrays once, and what one takes while it is read.
  assert peak < (8 + 4) * 4 * size


class Call:
  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


class Typed(np.ndarray):
  """A subclass, which a file could name."""


@pytest.mark.parametrize(
  ("value", "message"),
  [
    (Call(os.system, "true"), "system"),
    (np.asarray([{}], object), "'O8'"),
    (np.asarray(["text"]), "'U4'"),
    (np.zeros(2, [("a", "f4")]), "'V4'"),
    (np.zeros(2, ">f4"), "big-endian"),
    (np.zeros(2).view(Typed), "Typed"),
    (Call(bytes, "x", "utf8"), "bytes"),
  ],
)
def test_refuses_all_but_plain_numbers(value, message):
  with pytest.raises(RefusedError, match=message):
    loads({"w": value})


def spoiled(old, new):
  """A file of one array of 2 x 3 float32, with other bytes in it."""
  data = pickle.dumps({"w": np.zeros((2, 3), np.float32)}, protocol=3)
  assert data.count(old) == 1
  return io.BytesIO(data.replace(old, new))


def test_shapes_must_be_those_of_the_content():
  for shape in (
    b"K\x02K\x04\x86",
    b"K\x02K\x02\x86",
    b"K\x02J\xff\xff\xff\x7f\x86",
  ):
    with pytest.raises(RefusedError, match="24 bytes"):
      load(spoiled(b"K\x02K\x03\x86", shape))
  with pytest.raises(ValueError, match="shape"):
    load(spoiled(b"K\x02K\x03\x86", b"K\x02J\xff\xff\xff\xff\x86"))


def test_an_array_needs_content():
  data = pickle.dumps({"w": np.zeros(2, np.float32)}, protocol=3)
  start = data.index(b"(K\x01K\x02\x85")  # its state, up to BUILD
  end = data.rindex(b"b")
  with pytest.raises(ValueError, match="'w' has no content"):
    load(io.BytesIO(data[:start] + data[end + 1 :]))


def test_long_content_is_not_kept_for_a_second_use():
  content = bytes(2**16 + 1)
  with pytest.raises(RefusedError, match="bytes twice"):
    loads([content, content], protocol=3)


def test_damaged_and_hostile_files_are_named(tmp_path):
  data = pickle.dumps({"w": np.arange(99, dtype=np.float32)}, protocol=2)
  path = tmp_path / "weights.pkl"
  for length in (0, 1, 20, len(data) // 2, len(data) - 1):
    path.write_bytes(data[:length])
    with pytest.raises(UserError, match=r"weights\.pkl: truncated or damaged"):
      read(path)
  path.write_bytes(pickle.dumps(Call(os.system, "true")))
  with pytest.raises(UserError, match=r"weights\.pkl: refused"):
    read(path)


def test_the_checkpoint_reader_takes_them(tmp_path):
  path = tmp_path / "model_final.pkl"
  weights = {"a.weight": np.ones((2, 3), np.float32)}
  path.write_bytes(pickle.dumps({"model": weights, "__author__": "x"}))
  # The newest protocol has another layout, which no published file uses.
  path.write_bytes(pickle.dumps({"model": weights}, protocol=2))
  found = checkpoint_file.read(path)
  np.testing.assert_array_equal(found.arrays["a.weight"], weights["a.weight"])
