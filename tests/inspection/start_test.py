"""Tests of solo_jax/inspection/start.py."""

import pytest

from solo_jax.inspection.start import FEW_IMAGES, describe_start, find_start
from solo_jax.weights import load_config


@pytest.mark.parametrize(
  ("text", "name"),
  [
    ("solov2_coco.py:backbone=r50,recipe=official", "solov2_r50_3x"),
    # With MSRA's input too: that of the weights is followed.
    ("solov2_coco.py:backbone=r50,recipe=adelaidet", "solov2_r50_3x"),
    ("solov2_light_coco.py:backbone=r18,recipe=mmdet", "solov2_light_r18_3x"),
    ("solo_coco.py:backbone=r50", "solo_r50_3x"),
    ("mask2former_coco.py:backbone=swin_t", "mask2former_swin_t"),
    ("solov2_shapes.py", None),  # a network of its own
    ("solov2_own_data.py", None),  # EfficientNet-Lite0
  ],
)
def test_weights_to_start_from_follow_the_network(text, name):
  config = load_config(text).to_dict()
  found = find_start(config, 100)
  assert (found and found.name) == name


def test_many_images_need_no_start_and_one_is_enough():
  config = load_config("solov2_coco.py:backbone=r50").to_dict()
  assert find_start(config, FEW_IMAGES) is None
  row = find_start(config, FEW_IMAGES - 1)
  advice = describe_start(row, 100)
  assert "100 images are few" in advice and "Apache-2.0" in advice
  assert "--config.training.init_from=solov2_r50_3x" in advice
  config["training"]["init_from"] = "solov2_r50_3x"
  assert find_start(config, 100) is None
