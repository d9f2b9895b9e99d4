"""Methods that the package does not know, through every command.

And, among the slow tests, one that it knows, whose training draws
regions.
"""

import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
from rich.console import Console

from solo_jax import cli
from solo_jax.checkpoints import store
from solo_jax.data.records import open_records, read_sample
from solo_jax.data.shapes import Shapes
from solo_jax.errors import UserError
from solo_jax.exporting.writer import export_checkpoint
from solo_jax.inference.predictor import Predictor
from solo_jax.media.inputs import find_inputs
from solo_jax.media.prediction import predict_inputs
from solo_jax.scoring.checkpoint import Request, evaluate_checkpoint
from solo_jax.training.logging import read_rows
from solo_jax.training.loop import train_and_evaluate
from solo_jax.weights import load_model
from tests.exporting.small_exports import load_module
from tests.inspection.doctor_test import run as run_doctor
from tests.toy_methods import ROWS, make_config, register
from tests.toy_methods.losses import NUM_STEPS, losses_of_draws
from tests.training.topologies import ROOT, environment


@pytest.fixture(scope="module", autouse=True)
def rows():
  """The only place where the methods are registered."""
  with pytest.MonkeyPatch.context() as patch:
    register(patch.setitem, patch.setattr)
    yield


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("data")
  Shapes(data_dir=str(path), num_train=24, num_validation=4).prepare()
  return path


@pytest.fixture(scope="module")
def elsewhere(data_dir, tmp_path_factory):
  """Losses of the toy methods on eight devices, each with two micro-batches."""
  out = tmp_path_factory.mktemp("losses") / "losses.json"
  subprocess.run(
    [sys.executable, "-m", "tests.toy_methods.losses", str(data_dir), str(out)],
    env=environment(8),
    cwd=ROOT,
    check=True,
  )
  return json.loads(out.read_text())


def no_progress():
  return cli.make_progress(Console(file=io.StringIO()))


@dataclasses.dataclass(frozen=True)
class Trained:
  """A run of 30 steps."""

  name: str
  config: object
  workdir: object
  metrics: dict

  def rows(self):
    rows = read_rows(self.workdir / "metrics.jsonl")
    return [row for row in rows if "train/loss" in row]


@pytest.fixture(
  scope="module",
  params=[*ROWS, pytest.param("mask_rcnn", marks=pytest.mark.slow)],
)
def trained(request, rows, data_dir, tmp_path_factory):
  config = make_config(request.param, data_dir)
  workdir = tmp_path_factory.mktemp("run") / request.param
  metrics = train_and_evaluate(config, str(workdir))
  return Trained(request.param, config, workdir, metrics)


@pytest.fixture(scope="module")
def model(trained):
  return load_model(str(trained.workdir))


@pytest.fixture(scope="module")
def predictor(model):
  return Predictor(model, batch_size=1)


@pytest.fixture(scope="module")
def image(trained):
  dataset = trained.config.dataset
  records = open_records(dataset.data_dir, dataset.name, "validation")
  return np.asarray(read_sample(records[0]).image)


def test_training_lowers_the_loss(trained):
  losses = [row["train/loss"] for row in trained.rows()]
  assert len(losses) == 30
  assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])


def test_resumes_bit_for_bit(trained, tmp_path):
  workdir = tmp_path / "workdir"
  shutil.copytree(trained.workdir, workdir)
  shutil.rmtree(workdir / "checkpoints" / "30")
  assert (workdir / "checkpoints" / "15").exists()
  metrics = train_and_evaluate(trained.config, str(workdir))
  assert metrics == trained.metrics
  again = dataclasses.replace(trained, workdir=workdir)
  names = [x for x in trained.rows()[0] if re.search("loss|norm", x)]
  assert [[row[x] for x in names] for row in again.rows()] == [
    [row[x] for x in names] for row in trained.rows()
  ]
  jax.tree.map(
    np.testing.assert_array_equal,
    store.load(str(workdir)).variables,
    store.load(str(trained.workdir)).variables,
  )


def test_losses_are_those_of_eight_devices(trained, request):
  """With equal draws of points and proposals, and in micro-batches."""
  if trained.name == "mask_rcnn":
    pytest.skip("is in training/region_topology_test.py")
  elsewhere = request.getfixturevalue("elsewhere")
  expected = [row["train/loss"] for row in trained.rows()[:NUM_STEPS]]
  np.testing.assert_allclose(elsewhere[trained.name], expected, rtol=1e-5)


def test_the_loss_depends_on_the_seed_of_its_draws(trained, model):
  """Otherwise equal losses would show nothing about equal draws."""
  one, same, other = losses_of_draws(
    trained.config, model.variables, seeds=(0, 0, 1)
  )
  assert one == same
  assert abs(other / one - 1) > 1e-4


def test_evaluates_with_a_report(trained, tmp_path):
  request = Request(
    data_dir=trained.config.dataset.data_dir,
    path=str(trained.workdir),
    out=str(tmp_path / "results.json"),
    report_folder=str(tmp_path / "report"),
    score_threshold=trained.config.decode.score_threshold,
  )
  metrics = evaluate_checkpoint(request, no_progress())
  assert metrics.scalars() == trained.metrics
  assert json.loads((tmp_path / "results.json").read_text())
  text = (tmp_path / "report" / "report.html").read_text()
  assert f'<h1 id="title">{trained.name}' in text


def test_predicts_files(trained, predictor, image, tmp_path):
  cv2.imwrite(str(tmp_path / "scene.png"), image[..., ::-1])
  inputs = find_inputs([str(tmp_path / "scene.png")], None)
  _, problems = predict_inputs(
    predictor,
    inputs,
    tmp_path / "out",
    score_threshold=trained.config.decode.score_threshold,
    save=("overlay", "rle"),
    progress=no_progress(),
  )
  assert not problems
  found = predictor(image)
  assert len(found) and found.masks.shape[1:] == image.shape[:2]
  assert found.has_predicted_boxes == (trained.name != "toy_queries")


def test_tiles_of_a_large_image_are_merged(trained, model, image):
  rule = model.preprocessing | dict(tile_size=128, tile_overlap=32)
  tiled = Predictor(dataclasses.replace(model, preprocessing=rule))
  assert max(image.shape) <= 128
  found = tiled(np.tile(image, (2, 2, 1)))
  assert len(found)
  assert found.has_predicted_boxes == (trained.name != "toy_queries")
  assert found.masks.shape[1:] == (2 * image.shape[0], 2 * image.shape[1])
  limits = 2 * np.array([image.shape[1], image.shape[0]] * 2)
  assert (found.boxes_xyxy >= 0).all() and (found.boxes_xyxy <= limits).all()


def test_an_export_gives_the_same_detections(
  trained, predictor, image, tmp_path
):
  out = tmp_path / "exported"
  checkpoint = store.load(str(trained.workdir))
  export_checkpoint(checkpoint, out, image_size=image.shape[:2])
  found = load_module(out / "predictor.py").Predictor(out)(image)
  expected = predictor(image)
  assert len(found) == len(expected) > 0
  for i, detection in enumerate(found):
    np.testing.assert_allclose(detection.score, expected.scores[i], rtol=1e-4)
    assert detection.label == expected.labels[i]
    mask = detection.full_mask(image.shape[:2])
    assert (mask != expected.masks[i]).mean() < 2e-3
    if expected.has_predicted_boxes:
      np.testing.assert_allclose(
        detection.predicted_box_xyxy, expected.boxes_xyxy[i], atol=1e-2
      )


def test_names_what_it_lacks(trained, model, image):
  if trained.name == "mask_rcnn":
    assert len(Predictor(model, batch_size=1, flip=True)(image))
    return
  with pytest.raises(UserError, match=f"'{trained.name}'.*augmentation"):
    Predictor(model, batch_size=1, flip=True)


def test_is_inspected_as_far_as_it_goes(trained, tmp_path):
  """Without perfect outputs and a list of lost instances, by name."""
  content, _ = run_doctor(trained.config, tmp_path / "doctor")
  (given, *_) = content["ceilings"].values()
  if trained.name == "mask_rcnn":
    assert given["oracle"]["box_AP"] > 0.9
    return
  assert given["oracle"] is None and given["masks"]["mask_AR"] > 0.2
  assert given["fates"]["instances"] > 0
  for ability in ("perfect outputs", "list of the instances", "suggestions"):
    assert any(
      f"'{trained.name}'" in line and ability in line
      for line in content["findings"]
    )
  assert any("needs more changes" in line for line in content["findings"])
  assert (tmp_path / "doctor" / "training.png").exists()
  report = (tmp_path / "doctor" / "report.md").read_text()
  assert "Method.perfect_outputs" in report


def test_a_config_with_problems_is_refused(trained):
  config = trained.config.copy_and_resolve_references().unlock()
  config.decode.max_detections = 50
  config.network.update(
    {"anchor_sizes": (1, 2)} if trained.name == "mask_rcnn" else {}
  )
  with pytest.raises(
    UserError,
    match=r"network\.num_\w+ is \d+, fewer than|anchor_sizes is .*5 values",
  ):
    train_and_evaluate(config, "never_made")
