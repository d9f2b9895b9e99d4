"""Tests of solo_jax/conversion/checkpoint_file.py."""

import collections

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from solo_jax.conversion import checkpoint_file
from solo_jax.errors import UserError

WEIGHTS = {
  "backbone.conv1.weight": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
  "head.bias": np.arange(2, dtype=np.float32),
}


def check(found, expected):
  assert list(found) == list(expected)
  for name, array in expected.items():
    assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("kind", ["zip", "stream"])
@pytest.mark.parametrize(
  ("content", "note"),
  [
    (WEIGHTS, None),
    ({"state_dict": WEIGHTS, "meta": {}}, "'state_dict'; ignored meta"),
    ({"model": WEIGHTS}, "weights under 'model'"),
    (
      {"model": WEIGHTS, "optimizer": {}, "iteration": 3},
      "'model'; ignored optimizer, iteration",
    ),
    ({f"module.{k}": v for k, v in WEIGHTS.items()}, "'module.' off"),
    (
      {"state_dict": {f"module.{k}": v for k, v in WEIGHTS.items()}},
      "'module.' off",
    ),
  ],
)
def test_weights_are_found_in_every_wrapper(
  tmp_path, torch_writer, kind, content, note
):
  path = tmp_path / "x.pth"
  getattr(torch_writer, kind)(path, collections.OrderedDict(content))
  source = checkpoint_file.read(path)
  check(source.arrays, WEIGHTS)
  assert source.class_names is None
  assert source.notes == () if note is None else note in source.notes[-1]


def test_prefix_of_some_names_stays(tmp_path, torch_writer):
  weights = WEIGHTS | {"module.x": np.zeros(1)}
  path = torch_writer.zip(tmp_path / "x.pth", weights)
  assert list(checkpoint_file.read(path).arrays) == list(weights)


def test_averages_of_mmengine(tmp_path, torch_writer):
  other = {f"module.{k}": v + 1 for k, v in WEIGHTS.items()}
  path = torch_writer.zip(
    tmp_path / "x.pth",
    {"state_dict": WEIGHTS, "ema_state_dict": other | {"steps": np.asarray(9)}},
  )
  source = checkpoint_file.read(path)
  check(source.arrays, WEIGHTS)
  assert "ignored 2 arrays called EMA" in source.notes[-1]
  source = checkpoint_file.read(path, use_ema=True)
  check(source.arrays, {k: v + 1 for k, v in WEIGHTS.items()})
  assert "used the 2 arrays called EMA" in source.notes[-1]


def test_averages_of_mmcv(tmp_path, torch_writer):
  """Only parameters have them; buffers have their plain name alone."""
  buffers = {"bn.running_mean": np.ones(3, np.float32)}
  averages = {
    "ema_backbone_conv1_weight": WEIGHTS["backbone.conv1.weight"] + 1,
    "ema_head_bias": WEIGHTS["head.bias"] + 1,
  }
  path = torch_writer.zip(
    tmp_path / "x.pth", {"state_dict": WEIGHTS | buffers | averages}
  )
  check(checkpoint_file.read(path).arrays, WEIGHTS | buffers)
  check(
    checkpoint_file.read(path, use_ema=True).arrays,
    {k: v + 1 for k, v in WEIGHTS.items()} | buffers,
  )


def test_a_checkpoint_without_averages_is_refused_with_ema(
  tmp_path, torch_writer
):
  path = torch_writer.zip(tmp_path / "x.pth", WEIGHTS)
  with pytest.raises(UserError, match="found none; convert without --ema"):
    checkpoint_file.read(path, use_ema=True)


@pytest.mark.parametrize(
  "meta",
  [
    {"CLASSES": ("cat", "dog")},
    {"dataset_meta": {"classes": ["cat", "dog"]}},
    {"dataset_meta": {"CLASSES": ("cat", "dog")}},
  ],
)
def test_class_names_of_the_training(tmp_path, torch_writer, meta):
  path = torch_writer.zip(
    tmp_path / "x.pth", {"meta": meta, "state_dict": WEIGHTS}
  )
  assert checkpoint_file.read(path).class_names == ("cat", "dog")


@pytest.mark.parametrize(
  ("content", "found"),
  [
    ({"epoch": 3}, r"a dict with keys \['epoch'\]"),
    ([1, 2], "a list"),
    ({"state_dict": {}}, r"a dict with keys \[\]"),
    ({"state_dict": {3: 4}}, r"a dict with keys \['3'\]"),
  ],
)
def test_no_weights_inside(tmp_path, torch_writer, content, found):
  path = torch_writer.zip(tmp_path / "x.pth", content)
  with pytest.raises(UserError, match=f"expected a state dict.*found {found}"):
    checkpoint_file.read(path)


def test_safetensors(tmp_path):
  path = tmp_path / "x.safetensors"
  weights = WEIGHTS | {"h": np.asarray([1.5, -2], ml_dtypes.bfloat16)}
  safetensors.numpy.save_file(weights, path)
  found = checkpoint_file.read(path).arrays
  check(dict(sorted(found.items())), dict(sorted(weights.items())))


@pytest.mark.parametrize(
  "damage",
  [
    lambda data: b"",
    lambda data: b"hello" * 100,
    lambda data: data[:40],
    lambda data: data[:-4],
    lambda data: b"\xff" * 7 + b"\x7f" + data[8:],  # header of 2^63 bytes
    lambda data: data.replace(b"[24,32]", b"[24,33]"),
    lambda data: data.replace(b"F32", b"X32"),
    lambda data: data.replace(b"[2]", b"[9]"),
  ],
)
def test_damaged_safetensors(tmp_path, damage):
  path = tmp_path / "x.safetensors"
  data = safetensors.numpy.save(WEIGHTS)
  path.write_bytes(damage(data))
  assert path.read_bytes() != data
  with pytest.raises(
    UserError,
    match=r"x\.safetensors: (not a .safet|no weig|arrays of type X32)",
  ):
    checkpoint_file.read(path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors", "pkl"])
@pytest.mark.parametrize(
  ("content", "kind"),
  [
    (b"", "empty"),
    (bytes(300), "nothing but zeros"),
    (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    (b"<!DOCTYPE html>\n<html>", "a page of HTML"),
    (b"<?xml version='1.0'?><Error>AccessDenied", "a page of HTML or XML"),
    (b"\x1f\x8b\x08\0", "packed with gzip: unpack it"),
  ],
)
def test_what_came_instead_of_weights(tmp_path, suffix, content, kind):
  path = tmp_path / f"x.{suffix}"
  path.write_bytes(content)
  with pytest.raises(UserError, match=f"no weights; the file is {kind}"):
    checkpoint_file.read(path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_missing_file(tmp_path, suffix):
  with pytest.raises(FileNotFoundError):
    checkpoint_file.read(tmp_path / f"x.{suffix}")
