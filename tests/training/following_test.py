"""Tests of solo_jax/training/following.py."""

import pathlib

import numpy as np
import pytest

from solo_jax.checkpoints import converted
from solo_jax.errors import UserError
from solo_jax.training.following import follow
from solo_jax.weights import load_config


def save(folder, config):
  converted.save_converted(
    str(folder),
    variables={"params": {"x": np.ones(2, np.float32)}, "batch_stats": {}},
    config=config,
    class_names=("x",),
    category_ids=(1,),
    origin={},
  )


@pytest.fixture
def start(tmp_path):
  """A checkpoint in caffe's style, with frozen layers."""
  save(tmp_path / "start", load_config("solov2_coco.py:recipe=adelaidet"))
  return str(tmp_path / "start")


@pytest.fixture
def config(start):
  """A config of the same network that does not set its input."""
  config = load_config("solov2_shapes.py")
  config.training.init_from = start
  return config


def test_fields_that_are_not_set_follow_the_checkpoint(config, start, tmp_path):
  config.preprocessing.std = (2.0, 2.0, 2.0)  # as a config file may
  config.backbone.frozen_stages = 0
  lines = follow(config, str(tmp_path / "new"), ["backbone.frozen_stages"])
  rule = config.preprocessing
  assert rule.channel_order == "bgr" and rule.interpolation == "antialias"
  assert rule.mean == (103.53, 116.28, 123.675)
  assert rule.std == (2.0, 2.0, 2.0)
  assert config.backbone.stride_in_1x1 and config.backbone.frozen_stages == 0
  assert f"preprocessing.channel_order='bgr', as in {start}" in lines
  assert not any("std" in x or "frozen_stages" in x for x in lines)
  # Once more, nothing is left to change.
  assert follow(config, str(tmp_path / "new"), ["backbone.frozen_stages"]) == []


def test_a_resumed_run_needs_its_own_checkpoint_only(config, tmp_path):
  own = load_config("solov2_shapes.py")
  own.preprocessing.mean = (1.0, 2.0, 3.0)
  save(tmp_path / "run", own)
  config.training.init_from = "not/there"
  follow(config, str(tmp_path / "run"), [])
  assert config.preprocessing.mean == (1.0, 2.0, 3.0)
  assert config.preprocessing.channel_order == "rgb"
  with pytest.raises(UserError, match="no checkpoint at .*not/there"):
    follow(config, str(tmp_path / "new"), [])


def test_damage_is_left_to_restore_or_reported(config, start, tmp_path):
  save(tmp_path / "run", load_config("solov2_shapes.py"))
  for folder in (tmp_path / "run", pathlib.Path(start)):
    (folder / "checkpoints/0/info/metadata").write_text("{")
  with pytest.raises(UserError, match="config of checkpoint .*start"):
    follow(config, str(tmp_path / "run"), [])


def test_without_a_checkpoint_nothing_follows(tmp_path):
  config = load_config("solov2_shapes.py")
  before = config.to_json()
  assert follow(config, str(tmp_path), []) == []
  assert config.to_json() == before
