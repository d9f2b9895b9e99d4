"""Tests of solo_jax/conversion/pickle_machine.py."""

import collections
import io
import os
import pathlib
import pickle
import time

import pytest

from solo_jax.conversion.pickle_machine import ReadOver, RefusedError, load


def loads(data):
  return load(io.BytesIO(data))[0]


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_reads_plain_containers_as_pickle_does(protocol):
  shared = [1, "b"]
  value = {
    "a": [None, True, False, 0, 255, -1, 65535, 2**31, 2**62, -(2**70)],
    "b": (1.5, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "c": {7: "x" * 300, 2.5: "ü", None: {}, True: []},
    "d": [shared, shared],
    "e": collections.OrderedDict(x=1, y=[2]),
  }
  found = loads(pickle.dumps(value, protocol=protocol))
  assert found == value
  assert found["d"][0] is found["d"][1]


def test_protocol_0_and_python_2():
  value = {"a": [1, 2.5, "b", None, (True, False)]}
  assert loads(pickle.dumps(value, protocol=0)) == value
  # OrderedDict([['k', 'v']]) as Python 2 writes it.
  data = b"\x80\x02ccollections\nOrderedDict\n(]U\x01kU\x01v\x86a\x85R."
  data = data.replace(b"(]", b"]")
  assert loads(data) == {"k": "v"}


def test_sets_and_bytes():
  assert loads(pickle.dumps([{7}, frozenset([8]), b"\0"], protocol=4)) == [
    [7],
    [8],
    b"\0",
  ]


def test_reading_leaves_the_file_behind_the_pickle():
  file = io.BytesIO(pickle.dumps([1]) + pickle.dumps("second") + b"rest")
  assert load(file)[0] == [1] and load(file)[0] == "second"
  assert file.read() == b"rest"


class Call:
  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize(
  "hostile",
  [
    Call(os.system, "touch attacked"),
    Call(pathlib.Path.write_text, pathlib.Path("attacked"), "x"),
    Call(eval, "open('attacked', 'w')"),
    Call(getattr, "a", "b"),
    Call(exec, "1"),
    os.system,
    io.BytesIO,
  ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_other_python_objects_are_refused_and_not_run(
  hostile, protocol, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  data = pickle.dumps({"state_dict": [hostile]}, protocol=protocol)
  with pytest.raises(RefusedError, match=r"Python object [a-z_]+\.\w"):
    loads(data)
  assert not list(tmp_path.iterdir())


def test_values_of_training_logs_are_read_over():
  data = pickle.dumps({"c": collections.Counter(a=2), "d": 3}, protocol=2)
  assert loads(data) == {"c": ReadOver(), "d": 3}


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"\x80\x02ctorch\nFloatStorage\n}U\x01aK\x01sb.", "attributes of a Name"),
    (b"\x80\x02Vabc\n}b.", "attributes of a str"),
    (b"(U\x01aiposix\nsystem\n.", "opcode INST"),
    (b"(ctorch\nSize\no.", "opcode OBJ"),
    (b"\x82\x01.", "opcode EXT1"),
    (b"Ppersistent\n.", "opcode PERSID"),
    (b"\x80\x02}(K\x01K\x02\x86K\x03u.", "key of type tuple"),
    (b"\x80\x02\x8a\x1f" + b"\x7f" * 31 + b".", "integer that is too large"),
  ],
)
def test_refuses_what_no_state_dict_needs(data, message):
  with pytest.raises(RefusedError, match=message):
    loads(data)


@pytest.mark.parametrize(
  "data",
  [
    b"",
    b"\x80\x02]",  # no end
    b"0.",  # takes from an empty stack
    b"(\x86.",  # takes through a mark
    b"t.",  # no mark
    b"h\x07.",  # nothing stored under 7
    b"K\x01K\x02a.",  # appends to a number
    b"K\x01K\x02K\x03s.",  # sets an item of a number
    b"(K\x01d.",  # a key without a value
    b"K\x01)R.",  # calls a number
    b"ctorch\nFloatStorage\n)R.",
    b"ctorch\nSize\n]\x85R0.",  # leaves nothing
    b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    b"(K\x01K\x02tQ.",  # refers to no storage
  ],
)
def test_a_damaged_pickle_raises(data):
  with pytest.raises((ValueError, LookupError)):
    loads(data)


def storage(key=b"U\x010", size=b"K\x04"):
  return (
    b"(U\x07storagectorch\nFloatStorage\n" + key + b"U\x03cpu" + size + b"tQ"
  )


def test_storages_are_listed():
  content, storages = load(io.BytesIO(b"\x80\x02" + storage() + b"."))
  assert storages == {"0": content} and content.size == 4


@pytest.mark.parametrize("key", ["../../etc/passwd", "a/b", "", "..", "0\\1"])
def test_a_storage_key_that_leads_out_is_refused(key):
  name = b"X" + len(key).to_bytes(4, "little") + key.encode()
  with pytest.raises(RefusedError, match="storage called"):
    loads(b"\x80\x02" + storage(key=name) + b".")


@pytest.mark.parametrize("size", [b"J\xff\xff\xff\xff", b"G" + bytes(8), b"N"])
def test_a_storage_needs_a_size(size):
  with pytest.raises(ValueError, match="has no size"):
    loads(b"\x80\x02" + storage(size=size) + b".")


def test_a_storage_has_one_size():
  data = b"\x80\x02" + storage() + storage(size=b"K\x05") + b"\x86."
  with pytest.raises(ValueError, match="two types or sizes"):
    loads(data)


def test_a_tensor_needs_counts():
  start = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage()
  with pytest.raises(ValueError, match="tensor without"):
    loads(start + b"J\xff\xff\xff\xff))tR.")  # offset -1
  with pytest.raises(ValueError, match="tensor without"):
    loads(start + b"K\x00K\x02\x85)tR.")  # a size without a stride


@pytest.mark.parametrize("size", [b"K\x01", b"\x8a\x0f" + b"\x7f" * 15])
@pytest.mark.parametrize("count", [33, 100_000])
def test_a_tensor_has_few_dimensions(size, count):
  """The product of a hundred thousand large numbers takes forever."""
  sizes = b"(" + size * count + b"t"
  data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + b"K\x00"
  with pytest.raises(RefusedError, match=f"tensor of {count} dimensions"):
    loads(data + sizes + sizes + b"tR.")


@pytest.mark.parametrize("part", [b"}\x94", b"]", b")\x94", b"K\x01\x85"])
def test_the_number_of_parts_of_a_pickle_is_limited(part, monkeypatch):
  """Each takes a hundred bytes of memory."""
  monkeypatch.setattr("solo_jax.conversion.pickle_machine.MAX_OPCODES", 1000)
  loads(b"\x80\x04" + part * 400 + b".")
  with pytest.raises(RefusedError, match="more than 1,000 parts"):
    loads(b"\x80\x04" + part * 1001 + b".")


def test_hostile_sizes_cost_nothing():
  """Each would take gigabytes or minutes in Python's own unpickler."""
  start = time.process_time()
  for data in (
    b"\x80\x02Nr\xff\xff\xff\x7f.",  # stored under index 2^31
    b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",  # frame of 2^63 bytes
  ):
    loads(data)
  with pytest.raises(ValueError, match="expected"):
    loads(b"\x80\x02B\xff\xff\xff\x7fab.")  # 2 GB of bytes announced
  bomb = b"\x80\x02N"  # tuples of tuples, 2^64 leaves when followed
  for i in range(64):
    bomb += b"q%c0h%ch%c\x86" % (i, i, i)
  assert isinstance(loads(bomb + b"."), tuple)
  with pytest.raises(RefusedError, match="key of type tuple"):
    loads(b"\x80\x02}" + bomb[2:] + b"Ns.")
  with pytest.raises(RefusedError, match="entries"):
    pairs = b"\x80\x02](" + b"U\x01aN\x86" * 5000 + b"eq\x000"
    copy = b"ccollections\nOrderedDict\nh\x00\x85R0"
    loads(pairs + copy * 100 + b"N.")
  assert time.process_time() - start < 5


def test_a_huge_pickle_is_refused(monkeypatch):
  monkeypatch.setattr("solo_jax.conversion.pickle_machine.MAX_PICKLE_BYTES", 99)
  with pytest.raises(RefusedError, match="pickle of more than"):
    loads(pickle.dumps(list(range(100))))
