"""Tests of solo_jax/inspection/input_rule.py."""

import ml_collections
import pytest

from solo_jax.config import validate
from solo_jax.inspection.config_file import format_config
from solo_jax.inspection.input_rule import choose_input, input_scale
from tests.config_test import load
from tests.inspection.conftest import after, make_statistics, sections


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
  assert (
    "2 network pixels to an image pixel, was 0.4"
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
  settings = made.config["transforms"]
  assert settings["jitter_reference"] == "original"
  assert settings["scale_jitter"] == (1.4, 2.8)
  validate(ml_collections.ConfigDict(made.config))


def test_scale_of_the_median_image():
  rule = dict(short_side=800, max_side=1333, tile_size=None)
  wide = make_statistics(short=400, long=2000)
  assert input_scale(rule, wide) == pytest.approx(0.6665)
  assert input_scale(rule, make_statistics(short=400, long=500)) == 2
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
  assert written.transforms.scale_jitter == (0.06, 0.11)
  validate(written)


def test_enlarged_small_images_go_back_to_their_size():
  statistics = make_statistics(short=256, long=256)
  made = after(choose_input, sections("solov2_coco"), statistics)
  assert made.config["transforms"]["image_size"] == (256, 256)
  assert not made.config["dataset"]["group_by_orientation"]


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
  assert made.config["transforms"]["jitter_reference"] == "original"
  validate(ml_collections.ConfigDict(made.config))
