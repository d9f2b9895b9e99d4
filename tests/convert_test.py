"""Tests of solo_jax/convert.py, the command."""

import dataclasses
import pathlib
import sys

import pytest
from absl import app, flags

from solo_jax import convert
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
    convert,
    "convert_checkpoint",
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
  monkeypatch.setattr(convert, "check_config", lambda _: None)
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
