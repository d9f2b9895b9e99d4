"""Tests of solo_jax/api.py, on an untrained network."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from solo_jax.api import Predictor
from solo_jax.building import build_method, build_predictor, check_variables
from solo_jax.checkpoints import converted, store
from solo_jax.checkpoints.state import init_variables
from solo_jax.data.shapes import CLASS_NAMES
from solo_jax.errors import UserError

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "solov2_shapes.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Folder of a checkpoint of the demo's method, made small."""
  spec = importlib.util.spec_from_file_location("solov2_shapes", CONFIG)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config()
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
  variables = init_variables(
    build_method(config).network, image_size=(64, 64), seed=0
  )
  path = tmp_path_factory.mktemp("api") / "run"
  converted.save_converted(
    str(path),
    variables=jax.tree.map(np.asarray, variables),
    config=config,
    class_names=CLASS_NAMES,
    category_ids=(1, 2, 3, 5, 8),
    origin={},
  )
  return str(path)


def test_image_in_instances_out(folder):
  """The same as from the predictor that the evaluation uses."""
  predictor = Predictor.from_checkpoint(folder)
  assert predictor.class_names == CLASS_NAMES
  assert predictor.category_ids == (1, 2, 3, 5, 8)
  image = np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)
  found = predictor(image)
  assert len(found)
  assert found.masks.shape == (len(found), 50, 80)
  for array in (found.masks, found.scores, found.labels, found.boxes_xyxy):
    assert type(array) is np.ndarray

  checkpoint = store.load(folder)
  expected = build_predictor(
    checkpoint.config, checkpoint.variables, batch_size=1
  )(image)
  np.testing.assert_array_equal(found.masks, expected.masks)
  np.testing.assert_array_equal(found.scores, expected.scores)


def test_with_mirror_images_a_mirror_image_has_the_same_instances(folder):
  """However little the network itself is symmetric."""
  predictor = Predictor.from_checkpoint(folder, flip=True)
  image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
  found, mirrored = predictor.predict([image, image[:, ::-1]])
  assert len(found) == len(mirrored) > 2
  np.testing.assert_allclose(found.scores, mirrored.scores, rtol=1e-3)
  for mask, other in zip(found.masks, mirrored.masks, strict=True):
    assert (mask != other[:, ::-1]).mean() < 0.01


def test_missing_checkpoint_is_named(tmp_path):
  with pytest.raises(UserError, match="no checkpoint at .*nowhere"):
    Predictor.from_checkpoint(str(tmp_path / "nowhere"))


def test_weights_of_another_network_are_refused(folder):
  checkpoint = store.load(folder)
  del checkpoint.variables["params"]["backbone"]
  with pytest.raises(UserError, match="cannot use these weights of solov2"):
    check_variables(checkpoint.config, checkpoint.variables)


def test_a_script_next_to_the_clone_finds_the_package(tmp_path):
  (tmp_path / "solo_jax" / "data").mkdir(parents=True)  # as a clone would be
  (tmp_path / "script.py").write_text("import solo_jax.data.transforms")
  result = subprocess.run(
    [sys.executable, tmp_path / "script.py"],
    env=os.environ | {"PYTHONPATH": ""},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
