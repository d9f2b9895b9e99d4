"""Tests of solo_jax/inspection/doctor.py."""

import copy
import importlib.util
import io
import json
import pathlib

import cv2
import numpy as np
import pytest
from rich.console import Console

from solo_jax import cli
from solo_jax.building import check_config
from solo_jax.data.coco_instances import CocoInstances, find_coco
from solo_jax.data.label_pairs import find_source
from solo_jax.data.labeled_images import LabeledImages
from solo_jax.errors import UserError
from solo_jax.inspection import diagnosis, pictures
from solo_jax.inspection.doctor import inspect
from solo_jax.inspection.suggested_config import Suggestion
from tests.config_test import load

DATA = pathlib.Path(__file__).parents[3] / "shared" / "data"


def run(config, out=None, num_images=0, num_oracle_images=0, width=200):
  console = Console(file=io.StringIO(), width=width, markup=False)
  content = inspect(
    config,
    out=out,
    num_images=num_images,
    num_oracle_images=num_oracle_images,
    console=console,
    progress=cli.make_progress(Console(stderr=True, markup=False)),
  )
  return content, console.file.getvalue()


def load_file(path):
  spec = importlib.util.spec_from_file_location("suggested_config", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config()


def spoiled_config(data_dir):
  """The demo's configuration with a coarse grid and hard targets."""
  config = load("solov2_shapes").unlock()
  config.dataset.data_dir = data_dir
  config.dataset.num_classes = 80
  config.network.num_grids = (4, 3)
  config.transforms.mask_rule = "published"
  return config


def test_inspects_suggests_and_writes(scenes, tmp_path):
  out = tmp_path / "doctor"
  content, printed = run(spoiled_config(scenes.data_dir), out, width=90)
  ceilings = content["ceilings"]
  before = ceilings["this config"]["oracle"]["mask_AP"]
  after = ceilings["suggestion"]["oracle"]["mask_AP"]
  assert after > before + 0.1
  assert "dataset.num_classes is 80, the dataset has 5" in printed
  assert f"{after:.3f}" in printed and "network.num_grids" in printed
  assert json.loads((out / "report.json").read_text()) == content
  suggested = load_file(out / "suggested_config.py")
  check_config(suggested)
  changed = content["changes"]["network.num_grids"]["suggested"]
  assert list(suggested.network.num_grids) == changed
  assert "The cost of the suggestion: a training step sees" in " ".join(
    printed.split()
  )
  command = (
    f"python -m solo_jax.train --config={out}/suggested_config.py --work"
  )
  assert command in printed
  markdown = (out / "report.md").read_text()
  for name in ("training", "lost", "suggested"):
    assert cv2.imread(str(out / f"{name}.png")) is not None
    assert f"({name}.png)" in markdown


def suggesting(**changed):
  """Stands for `suggest`; changes only these fields."""

  def suggest(config, train, statistics, *, on_image):
    made = Suggestion(copy.deepcopy(dict(config)))
    for key, value in changed.items():
      made.set(key.replace("__", "."), value, "for a test")
    return made

  return suggest


def test_a_suggestion_that_allows_less_is_not_recommended(
  scenes,
  tmp_path,
  monkeypatch,
):
  coarser = suggesting(network__num_grids=(4, 3))
  monkeypatch.setattr(diagnosis, "suggest", coarser)
  drawn = []
  monkeypatch.setattr(
    pictures,
    "draw_frames",
    lambda *_, interpolation, **__: (
      drawn.append(interpolation) or np.zeros((8, 8, 3), np.uint8)
    ),
  )
  config = load("solov2_shapes").unlock()
  config.dataset.data_dir = scenes.data_dir
  config.preprocessing.interpolation = "antialias"
  config.transforms.max_instances = 4  # so that there is something to draw
  out = tmp_path / "doctor"
  content, printed = run(config, out)
  before, after = (
    content["ceilings"][key]["oracle"]["mask_AP"]
    for key in ("this config", "suggestion")
  )
  assert after < before
  warning = (
    f"warning: the suggestion allows less, oracle AP {after:.3f}; this "
    f"config allows {before:.3f}"
  )
  assert content["findings"][-1].startswith(warning)
  assert warning in printed and warning in (out / "report.md").read_text()
  assert "train with the suggestion" not in printed
  source = (out / "suggested_config.py").read_text()
  assert warning in " ".join(source.split())
  check_config(load_file(out / "suggested_config.py"))
  assert drawn == ["bilinear", "bilinear", "antialias"]


def test_nothing_to_change(scenes, tmp_path, monkeypatch):
  monkeypatch.setattr(diagnosis, "suggest", suggesting())
  config = load("solov2_shapes").unlock()
  config.dataset.data_dir = scenes.data_dir
  content, printed = run(config, tmp_path / "doctor", num_oracle_images=2)
  assert list(content["ceilings"]) == ["this config"]
  assert "Report and pictures" in printed
  assert "train with the suggestion" not in printed
  assert "Nothing to change" in printed
  assert not (tmp_path / "doctor" / "suggested.png").exists()


def test_a_configuration_with_mistakes_is_refused(scenes):
  config = spoiled_config(scenes.data_dir)
  config.network.num_grids = (4,)
  with pytest.raises(UserError, match="network.num_grids has 1 entries"):
    run(config)


@pytest.fixture
def nuclei(tmp_path):
  """Eight real images of nuclei, prepared."""
  if not DATA.exists():
    pytest.skip(f"no nuclei at {DATA}")
  source = DATA / "nuclei"
  few, rest = tmp_path / "few", json.loads((source / "index.json").read_text())
  chosen = []
  for split in ("train", "val"):
    of_split = [e for e in rest if e["split"] == split and e["height"] == 256]
    chosen += sorted(of_split, key=lambda e: -e["instances"])[:4]
  for folder in ("images", "labels"):
    (few / folder).mkdir(parents=True)
    for entry in chosen:
      (path,) = (source / folder).glob(f"{entry['id']}.*")
      (few / folder / path.name).symlink_to(path)
  (few / "index.json").write_text(json.dumps(chosen))
  data_dir = str(tmp_path / "data")
  found = find_source(str(few))
  LabeledImages(data_dir=data_dir, source=found, name="few").prepare()
  return data_dir


@pytest.mark.parametrize(
  "name",
  [
    "solov2_shapes",
    pytest.param("associative_embedding_shapes", marks=pytest.mark.slow),
  ],
)
def test_nuclei_are_lost_until_the_suggestion(nuclei, name):
  config = load(name).unlock()
  config.dataset.data_dir = nuclei
  config.dataset.name = "labeled_images/few"
  content, _ = run(config)
  ceilings = content["ceilings"]
  before, after = (
    ceilings[key]["oracle"]["mask_AP"] for key in ("this config", "suggestion")
  )
  assert before < 0.6 < 0.8 < after


@pytest.mark.slow
def test_a_suggestion_raises_the_ceiling_of_real_photographs(tmp_path):
  if not DATA.exists():
    pytest.skip(f"no coco_sample at {DATA}")
  source = DATA / "coco_sample"
  data_dir = str(tmp_path / "data")
  CocoInstances(
    data_dir=data_dir, name="sample", splits=find_coco(str(source))
  ).prepare()
  config = load("solov2_coco").unlock()
  config.dataset.data_dir = data_dir
  config.dataset.name = "coco_instances/sample"
  content, _ = run(config, tmp_path / "out", num_oracle_images=12)
  before, after = (
    content["ceilings"][key]["oracle"]["mask_AP"]
    for key in ("this config", "suggestion")
  )
  assert after > before + 0.02
  check_config(load_file(tmp_path / "out" / "suggested_config.py"))
