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

import io
import pathlib
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from solo_jax.conversion import torch_file

HERE = pathlib.Path(__file__).parent
CHECKPOINTS = ["checkpoint_zip.pth", "checkpoint_stream.pth"]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_reads_what_torch_wrote(name):
  content = torch_file.read(HERE / name)
  assert content["meta"] == {"epoch": 12, "s": [1, (2,)], "size": (1, 2)}
  arrays = torch_file.read_state_dict(HERE / name)
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
  with pytest.raises(ValueError, match=r"cut\.pth: truncated or damaged"):
    torch_file.read(path)


@pytest.mark.parametrize("data", [b"", b"hello" * 100, b"\x80\x02N."])
def test_other_format(tmp_path, data):
  path = tmp_path / "notes.pth"
  path.write_bytes(data)
  with pytest.raises(ValueError, match=r"notes\.pth: not a file written by"):
    torch_file.read(path)


def test_zip_of_something_else(tmp_path):
  path = tmp_path / "photos.pth"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a.txt", "a")
  with pytest.raises(ValueError, match="zip archive with 0 data.pkl"):
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
    ValueError, match=r"bad\.pth: refused to load.*object (pathlib|builtins)\."
  ):
    torch_file.read(tmp_path / "bad.pth")
  assert not (tmp_path / "attacked").exists()


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
  with pytest.raises(ValueError, match="refused to load"):
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
    dict(size=8, shape=8, stride=1),  # the storage has 4
  ],
)
def test_tensor_beyond_its_storage(tmp_path, tensor):
  path = tmp_path / "wild.pth"
  write_zip(path, tensor_pickle(**tensor), bytes(16))
  with pytest.raises(ValueError, match="truncated or damaged"):
    torch_file.read(path)


@pytest.mark.parametrize(
  ("content", "found"),
  [
    ({"epoch": 3}, r"a dict with keys \['epoch'\]"),
    ([1, 2], "a list"),
    ({"state_dict": {}}, r"a dict with keys \[\]"),
  ],
)
def test_no_weights_inside(tmp_path, content, found):
  path = tmp_path / "meta.pth"
  write_zip(path, pickle.dumps(content, protocol=2))
  with pytest.raises(ValueError, match=f"expected a state dict.*found {found}"):
    torch_file.read_state_dict(path)
