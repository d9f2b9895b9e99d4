"""Tests of solo_jax/convert.py, the command."""

import dataclasses
import json
import pathlib
import sys

import pytest
from absl import app, flags

from solo_jax import cached, convert, published, weights
from solo_jax.checkpoints import store
from solo_jax.conversion.families import find_family
from solo_jax.errors import UserError
from tests.conversion.converter_test import make_config, make_content
from tests.conversion.torch_writer import TorchWriter

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "solov2_coco.py"
FIXTURE = pytest.mark.golden("model_solov2_*.npz", limit=1)


@pytest.fixture
def torch_writer(monkeypatch):
  return TorchWriter(monkeypatch)


def parse(monkeypatch, *arguments):
  values = flags.FlagValues()
  convert.define_flags(values)
  monkeypatch.setattr(sys, "argv", ["convert", *arguments])
  values(sys.argv)
  monkeypatch.setattr(convert.flags, "FLAGS", values)


@FIXTURE
def test_main_writes_only_what_fits(
  golden, tmp_path, torch_writer, monkeypatch, capsys
):
  out = tmp_path / "out"
  path = torch_writer.zip(tmp_path / "x.pth", make_content(golden))
  monkeypatch.setattr(
    convert.weights,
    "convert_file",
    lambda *_, **__: pytest.fail("read before a flag"),
  )
  parse(monkeypatch, f"--out={out}")
  with pytest.raises(app.UsageError, match="--checkpoint is required"):
    convert.main()
  monkeypatch.undo()

  parse(
    monkeypatch, f"--out={out}", f"--checkpoint={path}", f"--config={CONFIG}"
  )
  with pytest.raises(UserError, match="does not fit the network"):
    convert.main()
  assert not out.exists()

  config = make_config(golden)
  monkeypatch.setattr(weights, "check_config", lambda _: None)
  values = convert.flags.FLAGS
  values["config"].value = config
  convert.main()
  assert f"written    {out}" in capsys.readouterr().out
  assert store.load(str(out)).config.method == "solov2"
  with pytest.raises(UserError, match="not an empty folder"):
    convert.main()


def test_lite0_is_found_in_its_package(monkeypatch, tmp_path):
  parse(monkeypatch, f"--out={tmp_path / 'out'}", "--family=lite0")
  weights = tmp_path / "lite0.pth"
  family = dataclasses.replace(
    find_family("lite0", ()), find_file=lambda: weights
  )
  monkeypatch.setattr(convert, "find_family", lambda name, arrays: family)
  with pytest.raises(FileNotFoundError, match="lite0.pth"):
    convert.main()


def test_the_list_shows_every_row_and_what_is_cached(
  monkeypatch, tmp_path, capsys
):
  monkeypatch.setenv("SOLO_JAX_CACHE", str(tmp_path))
  row = published.find("solov2_r50_3x")
  kept = tmp_path / "checkpoints" / cached.key(row.name, row) / "run"
  kept.mkdir(parents=True)
  (kept / "weights").write_bytes(bytes(3_000_000))
  parse(monkeypatch, "--list")
  convert.main()
  lines = capsys.readouterr().out.splitlines()
  shown = {line.split()[0]: line for line in lines[1:-1]}
  assert [*shown] == [row.name for row in published.PUBLISHED]
  for row in published.PUBLISHED:
    line = shown[row.name]
    assert row.licence in line and (row.source or row.page) in line
    assert row.ap is None or str(row.ap) in line.split()
    assert ("  3 MB  " in line) == (row.name == "solov2_r50_3x")
  assert str(tmp_path) in lines[-1] and "3 MB" in lines[-1]


def test_what_is_removed_is_named_and_counted(monkeypatch, tmp_path, capsys):
  monkeypatch.setenv("SOLO_JAX_CACHE", str(tmp_path))
  row = published.find("solov2_r50_3x")
  names = (
    cached.key(row.name, row),
    "solov2_r50_3x-0a1b2c3d",  # of an older version
    "solov2_r50_3x_official-0a1b2c3d",
    "owner-net-0a1b2c3d",
  )
  for name in names:
    (tmp_path / "checkpoints" / name).mkdir(parents=True)
    (tmp_path / "checkpoints" / name / "weights").write_bytes(bytes(2_000_000))
  for text, gone in (
    ("solov2_r50_3x", names[:2]),
    ("hf:owner/net", ()),
    (names[3], names[3:]),
    ("all", ("checkpoints",)),
  ):
    parse(monkeypatch, f"--remove={text}")
    if not gone:
      with pytest.raises(UserError, match="'hf:owner/net' is not in"):
        convert.main()
      continue
    convert.main()
    said = capsys.readouterr().out
    for name in gone:
      assert f"{name}: 2 MB" in said, text
      assert not (tmp_path / "checkpoints" / name).exists()
  assert not list(tmp_path.iterdir())
  with pytest.raises(UserError, match="'all' is not in"):
    convert.main()


@pytest.mark.golden("m2f_model_hf*.npz", limit=1)
def test_a_folder_of_transformers_needs_no_config(
  golden, monkeypatch, tmp_path, capsys
):
  out = tmp_path / "out"
  folder = golden.path.parent / golden.config["folder"]
  parse(monkeypatch, f"--out={out}", f"--checkpoint={folder}")
  convert.main()
  shown = capsys.readouterr().out
  assert "licence    CC BY-NC 4.0" in shown and "all filled" in shown
  checkpoint = store.load(str(out))
  said = json.loads((folder / "config.json").read_text())
  network, backbone = checkpoint.config.network, checkpoint.config.backbone
  assert network.num_queries == said["num_queries"]
  assert network.num_decoder_layers == said["decoder_layers"] - 1
  assert backbone.window_size == said["backbone_config"]["window_size"]
  assert checkpoint.class_names == tuple(said["id2label"].values())


def test_out_is_required(monkeypatch):
  parse(monkeypatch, "--checkpoint=x.pth")
  with pytest.raises(app.UsageError, match="--out is required"):
    convert.main()
