"""Tests of solo_jax/training/setup.py."""

import copy
import functools
import pathlib
import runpy
import types

import jax
import numpy as np
import pytest

from solo_jax import building
from solo_jax.checkpoints import converted
from solo_jax.errors import UserError
from solo_jax.training import setup
from tests.random_variables import random_variables

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
  with pytest.raises(UserError, match=r"num_classes=5, but .* has 2 classes"):
    setup.open_data(config, "train")
  config.dataset.num_classes = 2
  assert setup.open_data(config, "train") is two_classes


def test_a_semantic_branch_without_stuff_maps_is_refused():
  records = types.SimpleNamespace(
    has_stuff=False, whole_split="train", path="data/x"
  )
  setup.check_stuff(types.SimpleNamespace(num_stuff_classes=0), records)
  with pytest.raises(UserError, match="of data/x has no stuff maps.*=false"):
    setup.check_stuff(types.SimpleNamespace(num_stuff_classes=3), records)


def test_missing_records_name_the_command(config, tmp_path):
  config.dataset.data_dir = str(tmp_path)
  with pytest.raises(UserError, match="solo_jax.prepare"):
    setup.open_data(config, "train")


def test_batches_follow_the_config_and_are_closed(config, monkeypatch):
  seen = {}

  def train_batches(records, reading, **options):
    seen.update(options, **vars(reading))
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
  config.optimizer.name = "adamw"
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


def test_weights_of_another_network_are_refused(config):
  variables = {"params": {"backbone": {"conv1": np.ones(3)}}, "batch_stats": {}}
  with pytest.raises(UserError, match="weights of solov2.*do not fit"):
    building.check_variables(config, variables)


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


def test_images_without_instances_are_not_described_as_trained_on(config):
  class SomeEmpty(list):
    num_objects = np.array([3, 0, 1, 0, 2])

  lines = []
  log = types.SimpleNamespace(section=lines.append, message=lines.append)
  config.dataset.keep_empty = False
  config.training.num_steps, config.training.batch_size = 6, 1
  setup.describe(log, config, SomeEmpty("abcde"), "ab", {"params": {}}, 0.008)
  text = "\n".join(lines)
  assert "3 images to train on (2 without instances left out, " in text
  assert "2.0 epochs" in text
  nothing = SomeEmpty("abcde")
  nothing.num_objects = np.zeros(5, int)  # the pipeline's error comes next
  setup.describe(log, config, nothing, "ab", {"params": {}}, 0.008)
  assert "0 images to train on (5 without instances left out, " in "".join(
    lines[-5:]
  )


def init(config):
  network = building.build_method(config).network
  image, size = np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 2), 64)
  return random_variables(
    functools.partial(network.init, train=False), image, size
  )


def test_starting_from_a_checkpoint_with_other_classes(config, tmp_path):
  """A converted or trained network gives all but its class head."""
  small(config)
  old = copy.deepcopy(config)
  old.dataset.num_classes = 80
  old.preprocessing.std = (1.0, 1.0, 1.0)
  saved = jax.tree.map(lambda x: np.asarray(x) + 1, init(old))
  converted.save_converted(
    str(tmp_path / "old"),
    variables=saved,
    config=old,
    class_names=("x",) * 80,
    category_ids=tuple(range(80)),
    origin={},
  )
  config.training.init_from = str(tmp_path / "old")
  config.backbone.weights = "efficientnet_lite0"
  fresh = init(config)
  found, lines, modules = setup.load_initial(config, fresh)
  assert modules == ("category",)
  for name in fresh["params"]:
    expected = (fresh if name == "category" else saved)["params"][name]
    jax.tree.map(np.testing.assert_array_equal, found["params"][name], expected)
  jax.tree.map(
    np.testing.assert_array_equal, found["batch_stats"], saved["batch_stats"]
  )
  channels = config.network.head_channels
  assert set(lines[1:]) == {
    f"  fresh: params/category/kernel (3, 3, {channels}, 5), "
    f"saved (3, 3, {channels}, 80)",
    "  fresh: params/category/bias (5,), saved (80,)",
    "  not used: backbone.weights='efficientnet_lite0'",
    "  warning: preprocessing.std was (1.0, 1.0, 1.0), is now "
    f"{config.preprocessing.std}",
  }


def test_without_a_checkpoint_to_start_from(config, monkeypatch):
  config.backbone.weights = None
  variables = {"params": {"head": 1, "backbone": 2}}
  assert setup.load_initial(config, variables) == (
    variables,
    [],
    ("backbone", "head"),
  )
  config.training.init_from = "nowhere"
  with pytest.raises(UserError, match="no checkpoint at .*nowhere"):
    setup.load_initial(config, {})


def small(config):
  """Makes a network that is built in a second."""
  config.backbone.update(stage_sizes=(1, 1, 1, 1), widths=(8, 8, 8, 8))
  config.network.update(num_head_convs=1, head_channels=8, fpn_channels=8)
  config.network.update(mask_channels=8, kernel_channels=8, num_groups=4)
