"""Tests of solo_jax/inspection/input_rule.py."""

import dataclasses

import numpy as np
import pytest

from solo_jax.building import check_config
from solo_jax.inspection.config_file import format_config
from solo_jax.inspection.input_rule import (
  choose_input,
  choose_padding,
  input_scale,
  measure_padding,
)
from tests.config_test import load
from tests.inspection.conftest import after, make_statistics, sections


def stages(config):
  """The settings of the augmentations by name."""
  return dict(config["transforms"]["augment"])


def test_input_that_suits_is_kept():
  config = sections("solov2_coco")
  made = after(choose_input, config, make_statistics())
  assert made.config == config and not made.reasons


def test_small_objects_are_enlarged():
  # 4 px objects at 256 / 480 of their size; 8 px are wanted: twice enlarged.
  config = sections("solov2_overfit")
  statistics = make_statistics(sizes=[4.0] * 100)
  made = after(choose_input, config, statistics)
  assert made.config["transforms"]["image_size"] == (960, 1280)
  rule = made.config["preprocessing"]
  assert (rule["short_side"], rule["max_side"]) == (960, 1280)
  assert stages(made.config) == dict(
    resize_short_side=dict(short_sides=(960,), max_side=1280)
  )
  assert (
    "2 network pixels per image pixel, was 0.4"
    in (made.reasons["preprocessing.short_side"])
  )


def test_jitter_of_the_original_size_follows_the_scale():
  config = sections(
    "associative_embedding_nuclei",
    preprocessing__tile_size=None,
    preprocessing__tile_overlap=0,
  )
  statistics = make_statistics(sizes=[4.0] * 100, short=256, long=256)
  made = after(choose_input, config, statistics)
  assert made.config["preprocessing"]["short_side"] == 512
  assert stages(made.config) == stages(config) | dict(
    scale_jitter=dict(factor=(1.4, 2.8), reference="original")
  )
  check_config(made.config)


def test_scale_of_the_median_image():
  rule = dict(short_side=800, max_side=1333, tile_size=None, keep_aspect=True)
  wide = make_statistics(short=400, long=2000)
  assert input_scale(rule, wide) == pytest.approx(0.6665)
  assert input_scale(rule, make_statistics(short=400, long=500)) == 2
  stretched = make_statistics(short=400, long=1600)  # as if 800 x 800
  assert input_scale(rule | dict(keep_aspect=False), stretched) == 1
  rule |= dict(max_side=800, tile_size=400)
  assert input_scale(rule, wide) == 2


def test_the_config_of_shrunk_tiles_can_be_loaded():
  """So small a scale that quarters of it are 0."""
  config = load("solov2_nuclei").unlock()
  config.preprocessing.update(tile_size=1024, short_side=32, max_side=32)
  statistics = make_statistics(sizes=[200.0] * 100)
  made = after(choose_input, config.to_dict(), statistics)
  source = format_config(made.config, config, made.reasons, "Text.")
  names = {}
  exec(source, names)
  written = names["get_config"]()
  assert stages(written)["scale_jitter"]["factor"] == (0.06, 0.11)
  check_config(written)


def test_enlarged_small_images_go_back_to_their_size():
  statistics = make_statistics(short=256, long=256)
  made = after(choose_input, sections("solov2_coco"), statistics)
  assert made.config["transforms"]["image_size"] == (256, 256)
  assert not made.config["dataset"]["group_by_orientation"]


def photographs():
  """Ten sizes of about 480 x 640."""
  found = make_statistics(images=10)
  return dataclasses.replace(
    found, heights=np.arange(410, 480, 7), widths=np.full(10, 640)
  )


def test_padding_that_compiles_few_shapes():
  rule = dict(
    short_side=640,
    max_side=640,
    tile_size=None,
    keep_aspect=True,
    size_rounding="nearest",
    interpolation="bilinear",
  )
  found = {
    multiple: measure_padding(rule | dict(pad_multiple=multiple), photographs())
    for multiple in (32, 128)
  }
  assert (found[32].num_shapes, found[128].num_shapes) == (3, 1)
  # 416 once, 448 five times, 480 four times.
  assert found[32].pixels == 640 * (416 + 5 * 448 + 4 * 480) / 10
  assert found[128].pixels == 640 * 512


def test_the_coarsest_padding_is_taken_that_costs_little():
  config = sections(
    "solov2_overfit",
    preprocessing__short_side=640,
    preprocessing__max_side=640,
    preprocessing__pad_multiple=32,
  )
  made = after(choose_padding, config, photographs())
  # 512 x 640 is within 1.15 of the tightest padding, 512 x 768 of 256 is not.
  assert made.config["preprocessing"]["pad_multiple"] == 128
  assert made.reasons["preprocessing.pad_multiple"].startswith(
    "1 padded shape, each compiled once (32: 3); 1.12 x the pixels"
  )
  # What gives as few shapes for as little is kept.
  config["preprocessing"]["pad_multiple"] = 128
  assert not after(choose_padding, config, photographs()).reasons


@pytest.mark.parametrize("why", ["crowded", "large"])
def test_crowded_and_large_images_are_cut_into_tiles(why):
  statistics = (
    make_statistics(per_image=300, short=500, long=700)
    if why == "crowded"
    else make_statistics(short=3000, long=4000)
  )
  # At the objects' own size 4,000 px do not go through in one piece.
  statistics.object_sizes[:] = 16.0
  made = after(choose_input, sections("solov2_overfit"), statistics)
  rule = made.config["preprocessing"]
  assert rule["tile_size"] == 256
  assert rule["tile_overlap"] == 64  # objects of 40 px, in steps of 32
  jitter = stages(made.config)["scale_jitter"]
  assert jitter["reference"] == "original"
  assert "resize_short_side" not in stages(made.config)
  check_config(made.config)
