"""Tests of solo_jax/__main__.py."""

import importlib
import os
import pathlib
import subprocess
import sys

import pytest

from solo_jax import __main__ as solo


def run(*arguments, columns="80"):
  return subprocess.run(
    [sys.executable, "-m", "solo_jax", *arguments],
    capture_output=True,
    text=True,
    env=os.environ | {"COLUMNS": columns},
  )


def test_every_command_is_a_module_and_every_module_a_command():
  folder = pathlib.Path(solo.__file__).parent
  modules = {
    path.stem
    for path in folder.glob("*.py")
    if '__name__ == "__main__"' in path.read_text() and path.stem[0] != "_"
  }
  assert modules == {module for module, _ in solo.COMMANDS.values()}
  for module in modules:
    assert hasattr(importlib.import_module(f"solo_jax.{module}"), "main")


def test_the_list_fits_a_terminal(capsys):
  solo.main(["solo"])
  lines = capsys.readouterr().out.splitlines()
  assert max(map(len, lines)) <= 78
  for name in ("prepare", "inspect", "page"):
    assert any(line.startswith(f"  solo {name} ") for line in lines)


def test_an_unknown_command(capsys):
  with pytest.raises(SystemExit) as error:
    solo.main(["solo", "trian"])
  assert error.value.code == 2
  assert "no command 'trian'" in capsys.readouterr().err


def test_a_command_runs_as_its_module(tmp_path):
  done = run("predict", "--checkpoint=nowhere", f"--out={tmp_path}", "a.png")
  assert done.returncode == 1 and "Traceback" not in done.stderr
  assert done.stderr.startswith("predict: ")
