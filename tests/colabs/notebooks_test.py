"""Runs every notebook of colabs/, on a tiny setting."""

import base64
import importlib.util
import io
import json
import os
import pathlib
import re
import subprocess
import sys

import PIL.Image
import pytest

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
GIVEN = ("convert_and_evaluate", "quickstart")  # start from weights
TRAINED = [p for p in NOTEBOOKS if p.stem not in GIVEN]
HEAD = """\
import subprocess, sys, types

# What shows pages in a notebook; here their beginning is printed.
shown = types.ModuleType("IPython.display")
shown.IFrame = lambda address, **size: address[:40]
shown.display = print
sys.modules["IPython.display"] = shown

def _shell(command):
  command = command.replace("python ", sys.executable + " ", 1)
  subprocess.run(command, shell=True, check=True)

"""


def load(path):
  return json.loads(path.read_text())


def to_script(notebook):
  """Joins the code as plain Python; what installs packages is left out."""
  parts = [HEAD]
  for cell in notebook["cells"]:
    if cell["cell_type"] == "code" and "install" not in cell["metadata"].get(
      "tags", ()
    ):
      # IPython puts variables into a command as an f-string does.
      parts.append(
        re.sub(
          r"^( *)!(.*)$",
          lambda match: f"{match[1]}_shell(f{match[2]!r})",
          "".join(cell["source"]),
          flags=re.MULTILINE,
        )
      )
  return "\n\n".join(parts)


def run(path, folder, **environment):
  (folder / "configs").symlink_to(ROOT / "configs")
  (folder / "notebook.py").write_text(to_script(load(path)))
  environment = os.environ | environment
  environment |= dict(SOLO_JAX_TINY="1", MPLBACKEND="Agg", PYTHONPATH=str(ROOT))
  result = subprocess.run(
    [sys.executable, "notebook.py"],
    cwd=folder,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
  return result.stdout


def test_at_least_five_notebooks_are_tested():
  assert len(NOTEBOOKS) >= 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped_and_the_badge_opens_it(path):
  notebook = load(path)
  for cell in notebook["cells"]:
    assert not cell.get("outputs") and not cell.get("execution_count")
  first = "".join(notebook["cells"][0]["source"])
  assert f"/blob/main/colabs/{path.name})" in first
  install = [c for c in notebook["cells"] if "tags" in c["metadata"]]
  assert "requirements.lock" in "".join(install[0]["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_start_with_a_small_picture(path):
  """A picture in the text, as outputs are stripped; small, as it is in Git."""
  first, *others = load(path)["cells"]
  (name,) = first["attachments"]
  assert f"](attachment:{name})" in "".join(first["source"])
  content = first["attachments"][name]["image/jpeg"]
  assert len(content) <= 60_000
  picture = PIL.Image.open(io.BytesIO(base64.b64decode(content)))
  assert picture.format == "JPEG" and picture.width >= 600
  assert not any("attachments" in cell for cell in others)


def test_badges_and_clones_name_one_repository():
  text = "".join(path.read_text() for path in NOTEBOOKS)
  badges = re.findall(
    r"colab\.research\.google\.com/github/([^/]+/[^/]+)/", text
  )
  clones = re.findall(r"git clone --quiet https://github.com/([\w/-]+)", text)
  assert len(badges) == len(clones) == len(NOTEBOOKS)
  assert len(set(badges + clones)) == 1


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
  """The drawn scenes, prepared once."""
  return tmp_path_factory.mktemp("data")


@pytest.mark.slow
@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path, shapes, tmp_path):
  (tmp_path / "data").symlink_to(shapes)
  printed = run(path, tmp_path)
  expected = dict(
    associative_embedding="mean_shift ",
    finetune_own_data="'id': 42",
    inside_solov2="detections; ",
    mask2former="queries [",
    train_shapes="mask_AP",
  )
  assert expected[path.stem] in printed
  if path.stem == "finetune_own_data":
    assert (tmp_path / "doctor" / "report.html").exists()
    assert "data:text/html;base64," in printed


@pytest.mark.slow
@pytest.mark.golden("model_solov2_*.npz", limit=1)
def test_a_checkpoint_is_converted(golden, tmp_path, monkeypatch):
  """A small network of mmdetection's layout, with a config of its sizes."""
  spec = importlib.util.spec_from_file_location(
    "convert_test", ROOT / "tests" / "convert_test.py"
  )
  convert_test = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(convert_test)
  from solo_jax.config import to_json

  writer = convert_test.TorchWriter(monkeypatch)
  file = writer.zip(tmp_path / "s.pth", convert_test.make_content(golden))
  config = tmp_path / "small.py"
  text = to_json(convert_test.make_config(golden))
  config.write_text(
    "from solo_jax.config import from_json\n\n\n"
    f"def get_config(arg=''):\n  return from_json({text!r})\n"
  )
  printed = run(
    ROOT / "colabs" / "convert_and_evaluate.ipynb",
    tmp_path,
    SOLO_JAX_FILE=str(file),
    SOLO_JAX_CONFIG=str(config),
  )
  assert "7 classes" in printed and "no coco" in printed


@pytest.mark.slow
@pytest.mark.golden("model_solov2_*.npz", limit=1)
def test_the_quick_start_finds_objects(golden, tmp_path, monkeypatch):
  """With the folder of a small network in place of a name."""
  import cv2

  from tests.conversion.converter_test import (
    convert,
    make_config,
    make_content,
    save,
  )
  from tests.conversion.torch_writer import TorchWriter

  file = TorchWriter(monkeypatch).zip(tmp_path / "s.pth", make_content(golden))
  config = make_config(golden)
  save(tmp_path / "small", convert(file, config), config)
  cv2.imwrite(str(tmp_path / "photo.jpg"), golden["image_bgr_uint8"])
  printed = run(
    ROOT / "colabs" / "quickstart.ipynb",
    tmp_path,
    SOLO_JAX_NAME=str(tmp_path / "small"),
  )
  assert "1 image in" in printed
