"""Tests of the published recipes among the configuration files."""

import pytest

from solo_jax.errors import UserError
from tests.config_test import load


def resize(config):
  return dict(config.transforms.augment)["resize_short_side"]


def test_published_coco_recipe():
  config = load("solov2_coco", "backbone=r50,schedule=3x")
  assert config.network.num_grids == (40, 36, 24, 16, 12)
  assert config.optimizer.learning_rate == 0.01
  # 36 epochs of 117,266 images, x0.1 after 27 and 33.
  assert config.training.num_steps == 36 * 7329
  assert config.optimizer.decay_steps == (27 * 7329, 33 * 7329)
  assert resize(config)["short_sides"] == (800, 768, 736, 704, 672, 640)
  with pytest.raises(UserError, match=r"expected backbone=r50\|r101\|r101_dcn"):
    load("solov2_coco", "backbone=r18")


# What the published config files say, epochs or iterations of x0.1, then first
# factor and length of the warm-up, gradient clipping, short sides in training.
LARGE, MIDDLE = (800, 768, 736, 704, 672, 640), (512, 480, 448, 416, 384, 352)
EPOCH = 117_266 // 16
PUBLISHED = [
  ("solov2_coco", "1x", "official", (9, 11), (0.01, 500), 35.0, (800,)),
  ("solov2_coco", "3x", "official", (27, 33), (0.01, 500), 35.0, LARGE),
  ("solov2_coco", "1x", "mmdet", (8, 11), (0.001, 500), 35.0, (800,)),
  ("solov2_coco", "3x", "mmdet", (27, 33), (1 / 3, 500), 35.0, LARGE),
  ("solov2_light_coco", "", "official", (27, 33), (0.01, 500), 35.0, MIDDLE),
  ("solov2_light_coco", "", "mmdet", (27, 33), (1 / 3, 500), 35.0, MIDDLE),
  ("solo_coco", "1x", "official", (9, 11), (1 / 3, 500), 35.0, (800,)),
  ("solo_coco", "3x", "official", (27, 33), (1 / 3, 500), 35.0, LARGE),
  ("solo_coco", "1x", "mmdet", (8, 11), (0.001, 500), None, (800,)),
  ("solo_coco", "3x", "mmdet", (27, 33), (1 / 3, 500), None, LARGE),
  (
    "decoupled_solo_coco",
    "1x",
    "official",
    (9, 11),
    (1 / 3, 500),
    35.0,
    (800,),
  ),
  (
    "decoupled_solo_coco",
    "3x",
    "official",
    (27, 33),
    (1 / 3, 500),
    35.0,
    LARGE,
  ),
  ("decoupled_solo_coco", "1x", "mmdet", (8, 11), (0.001, 500), None, (800,)),
  ("decoupled_solo_coco", "3x", "mmdet", (27, 33), (1 / 3, 500), None, LARGE),
  (
    "decoupled_solo_light_coco",
    "",
    "official",
    (27, 33),
    (1 / 3, 500),
    35.0,
    MIDDLE,
  ),
  (
    "decoupled_solo_light_coco",
    "",
    "mmdet",
    (27, 33),
    (1 / 3, 500),
    None,
    MIDDLE,
  ),
]


@pytest.mark.parametrize(
  ("name", "schedule", "recipe", "decay", "warmup", "clip", "sides"), PUBLISHED
)
def test_schedules_are_those_published(
  name, schedule, recipe, decay, warmup, clip, sides
):
  suffix = f",schedule={schedule}" if schedule else ""
  config = load(name, f"backbone=r50,recipe={recipe}{suffix}")
  optimizer = config.optimizer
  assert optimizer.decay_steps == tuple(EPOCH * epoch for epoch in decay)
  assert (optimizer.warmup_factor, optimizer.warmup_steps) == warmup
  assert optimizer.clip_norm == clip
  assert config.training.num_steps == EPOCH * (12 if schedule == "1x" else 36)
  assert resize(config)["short_sides"] == sides
  assert (optimizer.name, optimizer.learning_rate) == ("sgd", 0.01)
  assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
  assert config.preprocessing.mean == (123.675, 116.28, 103.53)
  assert config.preprocessing.interpolation == "bilinear"
  if config.method == "solov2":
    average = "cells" if recipe == "mmdet" else "pairs"
    assert config.loss.mask_average == average


def test_adelaidet_counts_iterations_and_reads_bgr():
  config = load("solov2_coco", "backbone=r101,recipe=adelaidet,schedule=3x")
  assert config.training.num_steps == 270_000
  assert config.optimizer.decay_steps == (210_000, 250_000)
  assert config.optimizer.warmup_factor == 0.01
  assert config.optimizer.warmup_steps == 1000
  assert config.optimizer.clip_norm is None
  assert config.preprocessing.mean == (103.53, 116.28, 123.675)
  assert config.preprocessing.std == (1.0, 1.0, 1.0)
  assert config.preprocessing.channel_order == "bgr"
  assert config.preprocessing.interpolation == "antialias"
  assert config.backbone.stride_in_1x1
  assert config.loss.mask_average == "pairs"


@pytest.mark.parametrize(
  ("name", "backbone", "test_size", "first_range", "last_range", "convs"),
  [
    ("solov2_coco", "r50", (800, 1333), (1, 96), (384, 2048), 4),
    ("solov2_coco", "x101_dcn", (800, 1333), (1, 96), (384, 2048), 4),
    ("solov2_light_coco", "r18", (448, 768), (1, 56), (224, 896), 2),
    ("solov2_light_coco", "r50_dcn", (512, 852), (1, 64), (256, 2048), 3),
    ("solo_coco", "r50", (800, 1333), (1, 96), (384, 2048), 7),
    ("decoupled_solo_coco", "r50", (800, 1333), (1, 96), (384, 2048), 7),
    ("decoupled_solo_light_coco", "r50", (512, 852), (1, 64), (256, 2048), 4),
  ],
)
def test_sizes_are_those_published(
  name, backbone, test_size, first_range, last_range, convs
):
  config = load(name, f"backbone={backbone}")
  rule, ranges = config.preprocessing, config.loss.scale_ranges
  assert (rule.short_side, rule.max_side) == test_size
  assert (ranges[0], ranges[-1], len(ranges)) == (first_range, last_range, 5)
  assert config.network.num_head_convs == convs
  assert resize(config)["max_side"] == test_size[1]
