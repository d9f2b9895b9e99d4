"""Tests of solo_jax/conversion/torch_file.py.

checkpoint_zip.pth and checkpoint_stream.pth were written by torch 2.13.0:

  b = torch.arange(6.).reshape(2, 3)
  state_dict = collections.OrderedDict(
    a=b.t(), b=b[1:], h=torch.tensor([1.5, -2], dtype=torch.bfloat16),
    f=torch.tensor([1.5], dtype=torch.half), n=torch.tensor(7),
    e=torch.zeros(0, 3), t=torch.tensor([True, False]),
    p=torch.nn.Parameter(torch.ones(2)),
    d=torch.tensor([1.], dtype=torch.float64))
  state_dict._metadata = {'x': 1}
  meta = {'epoch': 12, 's': [1, (2,)], 'size': torch.Size([1, 2])}
  checkpoint = {'meta': meta, 'state_dict': state_dict}
  torch.save(checkpoint, 'checkpoint_zip.pth')
  torch.save(checkpoint, 'checkpoint_stream.pth',
             _use_new_zipfile_serialization=False)
"""

import copy
import io
import pathlib
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from solo_jax.conversion import torch_file
from solo_jax.errors import UserError

HERE = pathlib.Path(__file__).parent
CHECKPOINTS = ["checkpoint_zip.pth", "checkpoint_stream.pth"]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_reads_what_torch_wrote(name):
  content = torch_file.read(HERE / name)
  assert content["meta"] == {"epoch": 12, "s": [1, (2,)], "size": (1, 2)}
  arrays = content["state_dict"]
  expected = dict(
    a=np.arange(6, dtype=np.float32).reshape(2, 3).T,  # strided
    b=np.asarray([[3, 4, 5]], np.float32),  # with an offset
    h=np.asarray([1.5, -2], ml_dtypes.bfloat16),
    f=np.asarray([1.5], np.float16),
    n=np.asarray(7),
    e=np.zeros((0, 3), np.float32),
    t=np.asarray([True, False]),
    p=np.ones(2, np.float32),
    d=np.ones(1),
  )
  assert list(arrays) == list(expected)
  for key, value in expected.items():
    assert arrays[key].dtype == value.dtype, key
    np.testing.assert_array_equal(arrays[key], value, err_msg=key)


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 0.999])
def test_truncated_file(tmp_path, name, share):
  data = (HERE / name).read_bytes()
  path = tmp_path / "cut.pth"
  path.write_bytes(data[: int(len(data) * share)])
  with pytest.raises(UserError, match=r"cut\.pth: truncated or damaged"):
    torch_file.read(path)


@pytest.mark.parametrize("data", [b"", b"hello" * 100, b"\x80\x02N."])
def test_a_file_of_another_format_is_named(tmp_path, data):
  path = tmp_path / "notes.pth"
  path.write_bytes(data)
  with pytest.raises(UserError, match=r"notes\.pth: not a file written by"):
    torch_file.read(path)


def test_zip_of_something_else(tmp_path):
  path = tmp_path / "photos.pth"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a.txt", "a")
  with pytest.raises(UserError, match="zip archive with 0 data.pkl"):
    torch_file.read(path)


def test_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError):
    torch_file.read(tmp_path / "none.pth")


def write_zip(path, pickled, storage=b""):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", pickled)
    archive.writestr("archive/data/0", storage)


class Attack:
  def __reduce__(self):
    return pathlib.Path.write_text, (pathlib.Path("attacked"), "yes")


def test_code_is_refused_by_name_and_not_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  write_zip(tmp_path / "bad.pth", pickle.dumps({"state_dict": Attack()}))
  with pytest.raises(
    UserError, match=r"bad\.pth: refused to load.*object (pathlib|builtins)\."
  ):
    torch_file.read(tmp_path / "bad.pth")
  assert not (tmp_path / "attacked").exists()


def test_bare_pickle_of_a_model_zoo(tmp_path):
  path = tmp_path / "R-50.pkl"
  weights = {"conv1_w": np.zeros((2, 2), np.float32)}
  path.write_bytes(pickle.dumps({"model": weights}, protocol=2))
  with pytest.raises(
    UserError, match="bare pickle, as in detectron2's model zoo"
  ):
    torch_file.read(path)


def test_code_in_a_stream_is_refused(tmp_path):
  stream = io.BytesIO()
  for part in (
    torch_file.STREAM_NUMBER,
    torch_file.STREAM_VERSION,
    {"little_endian": True},
    Attack(),
  ):
    pickle.dump(part, stream, protocol=2)
  (tmp_path / "bad.pth").write_bytes(stream.getvalue())
  with pytest.raises(UserError, match="refused to load"):
    torch_file.read(tmp_path / "bad.pth")


def tensor_pickle(*, size, shape, stride, offset=0):
  """The pickle of one float32 tensor over storage '0', as torch writes it."""
  return (
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
    b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu"
    + b"K%ctQ" % size
    + b"K%cK%c\x85K%c\x85\x89NtR." % (offset, shape, stride)
  )


def test_hand_made_tensor(tmp_path):
  storage = np.arange(4, dtype=np.float32).tobytes()
  path = tmp_path / "one.pth"
  pickled = tensor_pickle(size=4, shape=2, stride=2, offset=1)
  write_zip(path, pickled, storage)
  np.testing.assert_array_equal(torch_file.read(path), [1, 3])


@pytest.mark.parametrize(
  "tensor",
  [
    dict(size=4, shape=9, stride=1),
    dict(size=4, shape=4, stride=1, offset=1),
    dict(size=4, shape=3, stride=2),
    dict(size=4, shape=200, stride=0),  # one element, 200 times
  ],
)
def test_tensor_beyond_its_storage(tmp_path, tensor):
  path = tmp_path / "wild.pth"
  write_zip(path, tensor_pickle(**tensor), bytes(16))
  with pytest.raises(UserError, match=r"refused .* does not fit its storage"):
    torch_file.read(path)


def test_storage_of_another_size(tmp_path):
  path = tmp_path / "short.pth"
  write_zip(path, tensor_pickle(size=8, shape=8, stride=1), bytes(16))
  with pytest.raises(UserError, match="has 16 bytes, not 8 elements"):
    torch_file.read(path)


def test_absurd_tensor_takes_no_memory(tmp_path):
  big = b"\x8a\x07" + b"\xff" * 6 + b"\x7f"  # 2^55 - 1
  pickled = tensor_pickle(size=4, shape=7, stride=1)
  path = tmp_path / "huge.pth"
  write_zip(path, pickled.replace(b"K\x07", big), bytes(16))
  with pytest.raises(UserError, match="36028797018963967.* does not fit"):
    torch_file.read(path)
  write_zip(path, pickled.replace(b"K\x04", big), bytes(16))
  with pytest.raises(UserError, match="has 16 bytes, not 360287970"):
    torch_file.read(path)


def test_absurd_storage_of_a_stream_takes_no_memory(tmp_path):
  big = b"\x8a\x07" + b"\xff" * 6 + b"\x7f"
  header = torch_file.STREAM_NUMBER, torch_file.STREAM_VERSION, {}
  data = b"".join(pickle.dumps(part, protocol=2) for part in header)
  data += tensor_pickle(size=4, shape=7, stride=1).replace(b"K\x04", big)
  data += pickle.dumps(["0"], protocol=2) + b"\xff" * 6 + b"\x7f\0" + bytes(16)
  path = tmp_path / "huge.pth"
  path.write_bytes(data)
  with pytest.raises(UserError, match="bytes are missing"):
    torch_file.read(path)


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
  path = tmp_path / "bomb.pth"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("a/data.pkl", tensor_pickle(size=4, shape=4, stride=1))
    archive.writestr("a/data/0", bytes(50_000_000))
  assert path.stat().st_size < 100_000
  with pytest.raises(UserError, match=r"bomb\.pth: .*entries are compressed"):
    torch_file.read(path)


def test_entries_that_share_their_bytes_are_refused(tmp_path):
  """A bomb without compression: many entries over the same bytes."""
  path = tmp_path / "overlap.pth"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a/data.pkl", pickle.dumps({}, protocol=2))
    archive.writestr("a/data/0", bytes(10_000))
    for i in range(1, 50):
      entry = copy.copy(archive.getinfo("a/data/0"))
      entry.filename = entry.orig_filename = f"a/data/{i}"
      archive.filelist.append(entry)
    archive._didModify = True
  assert path.stat().st_size < 20_000
  with pytest.raises(UserError, match="claim more bytes than the file has"):
    torch_file.read(path)


@pytest.mark.parametrize(
  "name", ["../../evil", "/etc/evil", "a/../../evil", "..\\evil"]
)
def test_entry_that_climbs_out_is_refused(tmp_path, name):
  path = tmp_path / "in" / "climb.pth"
  path.parent.mkdir()
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a/data.pkl", pickle.dumps({}, protocol=2))
    archive.writestr(name, "x")
  with pytest.raises(UserError, match="points outside of it"):
    torch_file.read(path)
  assert [x.name for x in tmp_path.rglob("*")] == ["in", "climb.pth"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path):
  path = tmp_path / "twice.pth"
  with zipfile.ZipFile(path, "w") as archive:
    for value in ({}, {"a": 1}):
      archive.writestr("a/data.pkl", pickle.dumps(value, protocol=2))
  with pytest.raises(UserError, match="two entries with the same name"):
    torch_file.read(path)


def test_damaged_storage_is_noticed(tmp_path):
  path = tmp_path / "flipped.pth"
  values = np.arange(64, dtype=np.float32).tobytes()
  write_zip(path, tensor_pickle(size=64, shape=64, stride=1), values)
  data = path.read_bytes()
  path.write_bytes(data.replace(values, values[::-1]))
  with pytest.raises(UserError, match="damaged.*CRC"):
    torch_file.read(path)


@pytest.mark.parametrize("kind", ["zip", "stream"])
def test_optimizer_is_left_unread(tmp_path, torch_writer, kind):
  moments = {"state": {0: {"momentum": np.ones(3)}}}
  weights = {"w": np.arange(6.0).reshape(2, 3), "n": np.asarray(3)}
  path = getattr(torch_writer, kind)(
    tmp_path / "x.pth", {"optimizer": moments, "state_dict": weights}
  )
  content = torch_file.read(path)
  for name, array in weights.items():
    np.testing.assert_array_equal(content["state_dict"][name], array)
  assert not isinstance(
    content["optimizer"]["state"][0]["momentum"], np.ndarray
  )
