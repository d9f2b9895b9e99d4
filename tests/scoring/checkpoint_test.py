"""Tests of solo_jax/scoring/checkpoint.py, on an untrained network."""

import importlib.util
import io
import json
import pathlib
import re

import optax
import pytest
from rich.console import Console

from solo_jax import cli
from solo_jax.building import build_method
from solo_jax.checkpoints.state import create_train_state, init_variables
from solo_jax.checkpoints.store import CheckpointWriter
from solo_jax.data.shapes import CLASS_NAMES, Shapes
from solo_jax.errors import UserError
from solo_jax.scoring import checkpoint

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "solov2_shapes.py"


def make_config(data_dir):
  """The demo's, with a network that compiles in a second or two."""
  spec = importlib.util.spec_from_file_location("solov2_shapes", CONFIG)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config()
  config.dataset.data_dir = data_dir
  config.preprocessing.update(short_side=64, max_side=64)
  config.backbone.update(stage_sizes=(1, 1, 1, 1), widths=(8, 8, 8, 8))
  config.network.update(num_head_convs=1, head_channels=8, fpn_channels=8)
  config.network.update(mask_channels=8, kernel_channels=8)
  # An untrained network gives every class about 0.01 everywhere.
  config.decode.update(
    score_threshold=0.001,
    update_threshold=1e-9,
    max_candidates=20,
    max_detections=10,
  )
  config.evaluation.batch_size = 2
  return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Folder with prepared data and a run's checkpoint of step 0."""
  folder = tmp_path_factory.mktemp("eval")
  data_dir = str(folder / "data")
  Shapes(data_dir=data_dir, num_train=1, num_validation=3).prepare()
  config = make_config(data_dir)
  variables = init_variables(
    build_method(config).network, image_size=(64, 64), seed=0
  )
  state = create_train_state(variables, optax.identity(), use_ema=False)
  for name, class_names in (
    ("run", CLASS_NAMES),
    ("other", ("cat", *CLASS_NAMES[1:])),
  ):
    writer = CheckpointWriter(
      str(folder / name),
      config=config,
      class_names=class_names,
      category_ids=(1, 2, 3, 4, 5),
      data={"images": 1, "exif": "ignore", "fingerprint": "0"},
    )
    writer.save(state)
    writer.close()
  return folder


def evaluate(path, *, output=None, **request):
  """Evaluates; what is printed goes to `output`."""
  data_dir = str(pathlib.Path(path).parent / "data")
  return checkpoint.evaluate_checkpoint(
    checkpoint.Request(path=path, **{"data_dir": data_dir} | request),
    cli.make_progress(Console(file=output or io.StringIO())),
  )


def test_evaluates_and_writes_results(run, tmp_path, monkeypatch):
  """Also where its images were turned and those of the training were not."""
  out, output = tmp_path / "results.json", io.StringIO()
  monkeypatch.setattr(checkpoint.Records, "exif", "apply")
  metrics = evaluate(str(run / "run"), out=str(out), output=output)
  assert "prepared with --exif=ignore," in output.getvalue()
  assert 0 <= metrics.mask_AP < 0.1
  results = json.loads(out.read_text())
  assert results
  assert {x["image_id"] for x in results} <= {2, 3, 4}
  assert {x["category_id"] for x in results} <= {1, 2, 3, 4, 5}
  assert {tuple(x["segmentation"]["size"]) for x in results} == {(128, 128)}


def test_report_and_more_metrics(run, tmp_path):
  metrics = evaluate(
    str(run / "run"),
    report_folder=str(tmp_path / "new" / "report"),
    more_metrics=["microscopy", "boundary"],
    score_threshold=0.002,
  )
  assert {"boundary_AP", "dsb_AP", "SBD", "abs_DiC"} <= set(metrics.extra)
  text = (tmp_path / "new" / "report" / "report.html").read_text()
  (content,) = re.findall('id="data">(.*?)</script>', text, re.DOTALL)
  data = json.loads(content)
  assert data["metrics"].keys() == metrics.scalars().keys()
  assert '<h1 id="title">solov2 on shapes, validation</h1>' in text
  assert data["facts"]["step"] == "0" and data["score_threshold"] == 0.002
  assert {x["image_id"] for x in data["images"]} == {"2", "3", "4"}
  assert all(o["path"] for x in data["images"] for o in x["objects"])
  stages = data["stages"]
  assert list(stages)[:2] == ["reading", "preprocessing"]
  assert {"network, decoding", "masks", "metrics"} <= set(stages)
  assert max(stages.values()) <= data["total_seconds"]


def test_unknown_metric_is_refused(run):
  with pytest.raises(UserError, match="--metrics: unknown dice; known: bound"):
    evaluate(str(run / "run"), more_metrics=["dice"])


def test_another_split_and_data_dir(run, tmp_path):
  (tmp_path / "data").symlink_to(run / "data")
  out = tmp_path / "results.json"
  evaluate(
    str(run / "run" / "checkpoints" / "0"),
    data_dir=str(tmp_path / "data"),
    split="train",
    out=str(out),
  )
  assert {x["image_id"] for x in json.loads(out.read_text())} == {1}


def test_overrides_change_the_decoder(run, tmp_path):
  out = tmp_path / "results.json"
  evaluate(
    str(run / "run"),
    overrides="decode.max_detections=2,evaluation.batch_size=1",
    out=str(out),
  )
  images = [x["image_id"] for x in json.loads(out.read_text())]
  assert images and all(images.count(image) <= 2 for image in images)


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    ("decode.scor=1", "--set: unknown .* 'decode.scor'; known: decode."),
    ("loss.mask_weight=1", "--set: unknown config argument 'loss.mask_weight'"),
    ("decode.score_threshold=low", "score_threshold='low' is not a float"),
    ("decode.score_threshold=5", "score_threshold is 5.0; .* from 0 to 1"),
    ("decode.nms_kernel=box", "decode.nms_kernel is 'box'; it must be one of"),
    (
      "decode.max_detections=0",
      "decode.max_detections is 0; it must be a whole",
    ),
    (
      "decode.max_detections=200",
      "at most evaluation.max_detections, which is 100",
    ),
  ],
)
def test_wrong_overrides_are_refused(run, overrides, message):
  with pytest.raises(UserError, match=message):
    evaluate(str(run / "run"), overrides=overrides)


def test_only_the_process_that_writes_needs_the_folder(tmp_path, monkeypatch):
  monkeypatch.setattr("jax.process_index", lambda: 1)
  checkpoint._check_request(
    checkpoint.Request(
      path="run", data_dir="data", out=str(tmp_path / "none" / "results.json")
    )
  )


def test_missing_folder_of_the_results_is_reported_at_once(run, tmp_path):
  with pytest.raises(UserError, match="--out=.*no such folder; create"):
    evaluate(str(run / "run"), out=str(tmp_path / "none" / "results.json"))


def test_other_classes_are_refused(run):
  with pytest.raises(UserError, match=r"label 0: \(1, 'cat'\) in the check"):
    evaluate(str(run / "other"))


def test_missing_checkpoint_data_and_split_are_named(run, tmp_path):
  with pytest.raises(UserError, match="no checkpoint at"):
    evaluate(str(tmp_path / "nowhere"))
  with pytest.raises(UserError, match="'test'.*train, validation"):
    evaluate(str(run / "run"), split="test")


def test_checkpoint_does_not_choose_the_data(run, tmp_path):
  """Its config says where they were: only the user's flag opens a folder."""
  trained_in = str(run / "data")
  with pytest.raises(UserError, match="no dataset 'shapes' in") as error:
    evaluate(str(run / "run"), data_dir=str(tmp_path))
  assert f"pass --data_dir={trained_in}" in str(error.value)
