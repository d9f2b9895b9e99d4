import pathlib
import runpy
import types

import jax
import numpy as np
import pytest

from solo_jax.training import setup

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


@pytest.fixture
def config():
  return runpy.run_path(str(CONFIGS / "solov2_shapes.py"))["get_config"]("")


@pytest.fixture
def two_classes(monkeypatch):
  """Records with two classes, whatever is opened."""
  records = types.SimpleNamespace(class_names=("cat", "dog"))
  monkeypatch.setattr(setup, "open_records", lambda *_: records)
  return records


def test_class_count_must_match_the_data(config, two_classes):
  with pytest.raises(ValueError, match=r"num_classes=5, but .* has 2 classes"):
    setup.open_data(config, "train")
  config.dataset.num_classes = 2
  assert setup.open_data(config, "train") is two_classes


def test_missing_records_name_the_command(config, tmp_path):
  config.dataset.data_dir = str(tmp_path)
  with pytest.raises(FileNotFoundError, match="solo_jax.prepare"):
    setup.open_data(config, "train")


def test_batches_follow_the_config_and_are_closed(config, monkeypatch):
  seen = {}

  def train_batches(records, **options):
    seen.update(options)
    try:
      while True:
        yield np.zeros((8 * jax.device_count(), 3), np.float32)
    finally:
      seen["closed"] = True

  monkeypatch.setattr(setup.pipeline, "train_batches", train_batches)
  batches = setup.iterate_batches(config, None, 7)
  assert next(batches).shape == (jax.device_count(), 8, 3)
  batches.close()
  assert seen["closed"] and seen["step"] == 7
  assert seen["batch_size"] == config.training.batch_size
  assert seen["process_count"] == 1
  assert seen["transforms"] == config.transforms.to_dict()


def test_optimizer_and_schedule_follow_the_config(config):
  params = {"head": {"kernel": np.ones((2, 2), np.float32)}}
  optimizer, learning_rate = setup.build_optimizer(config, params, 0.5)
  np.testing.assert_allclose(learning_rate(config.optimizer.warmup_steps), 0.5)
  np.testing.assert_allclose(
    learning_rate(config.training.num_steps), 0.0, atol=1e-8
  )
  updates, _ = optimizer.update(params, optimizer.init(params), params)
  # Adam's first direction is the gradient's sign; decay adds 0.05 x weight.
  np.testing.assert_allclose(
    updates["head"]["kernel"], 1 + config.optimizer.weight_decay, rtol=1e-4
  )


def test_without_pretrained_weights():
  variables = {"params": {"backbone": {}}, "batch_stats": {}}
  assert setup.load_pretrained(variables, None) is variables


def test_missing_weight_file():
  variables = {"params": {"backbone": {}}, "batch_stats": {"backbone": {}}}
  with pytest.raises(FileNotFoundError, match="weights='none.pth' is neither"):
    setup.load_pretrained(variables, "none.pth")


@pytest.mark.parametrize("kind", ["efficientnet_lite", "torchvision"])
def test_pretrained_backbone_replaces_the_random_one(
  monkeypatch, tmp_path, kind
):
  variables = {
    "params": {"backbone": {"w": 1}, "head": {"w": 2}},
    "batch_stats": {"backbone": {"m": 3}},
  }
  loaded = {"params": {"w": 10}, "batch_stats": {"m": 30}}
  monkeypatch.setattr(getattr(setup, kind), "load_backbone", lambda *_: loaded)
  path = tmp_path / "resnet50.pth"
  path.touch()
  weights = str(path) if kind == "torchvision" else "efficientnet_lite0"
  assert setup.load_pretrained(variables, weights) == {
    "params": {"backbone": {"w": 10}, "head": {"w": 2}},
    "batch_stats": {"backbone": {"m": 30}},
  }


def test_weights_of_another_network_are_refused(config):
  variables = {"params": {"backbone": {"conv1": np.ones(3)}}, "batch_stats": {}}
  with pytest.raises(ValueError, match="weights of solov2.*do not fit"):
    setup.build_predictor(config, variables, batch_size=1)


def test_description_applies_the_linear_rule(config, monkeypatch):
  lines = []
  log = types.SimpleNamespace(section=lines.append, message=lines.append)
  variables = {"params": {"w": np.zeros((3, 5))}}
  config.training.batch_size = 16
  config.optimizer.learning_rate = 0.004
  config.optimizer.reference_batch_size = 8
  setup.describe(log, config, range(160), range(20), variables, 0.008)
  text = "\n".join(lines)
  assert "learning rate 0.004 x 16 / 8 images = 0.008" in text
  assert "160 images to train on, 20 to evaluate, 5 classes" in text
  assert "15 parameters" in text
  assert f"{config.training.num_steps / 10:.1f} epochs" in text
