"""Tests of setup.py: what is in an installed package."""

import pathlib
import runpy
import shutil
import subprocess
import sys
import zipfile

import pytest

setuptools = pytest.importorskip("setuptools")
ROOT = pathlib.Path(__file__).parents[1]


def test_packages_and_their_folders(monkeypatch):
  given = {}
  monkeypatch.setattr(
    setuptools, "setup", lambda **values: given.update(values)
  )
  monkeypatch.chdir(ROOT)
  runpy.run_path("setup.py")
  folders = {
    name: given["package_dir"].get(name, name.replace(".", "/"))
    for name in given["packages"]
  }
  assert folders["solo_jax.configs"] == "configs"
  sources = {x.parent for x in pathlib.Path("solo_jax").rglob("*.py")}
  assert sources == {
    pathlib.Path(x) for x in folders.values() if x != "configs"
  }


@pytest.mark.skipif(
  int(setuptools.__version__.split(".")[0]) < 77,
  reason="an older setuptools does not know the licence's form",
)
def test_a_wheel_has_the_configs_and_the_names(tmp_path):
  source = tmp_path / "source"  # a build leaves files next to what it builds
  for name in ("solo_jax", "configs"):
    shutil.copytree(ROOT / name, source / name)
  for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
    shutil.copy(ROOT / name, source)
  subprocess.run(
    [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    + ["--no-build-isolation", f"--wheel-dir={tmp_path}", str(source)],
    check=True,
  )
  (wheel,) = tmp_path.glob("*.whl")
  names = zipfile.ZipFile(wheel).namelist()
  for path in (ROOT / "configs").glob("*.py"):
    assert f"solo_jax/configs/{path.name}" in names
  assert "solo_jax/published.csv" in names
  assert "solo_jax/evaluation/report.html" in names
