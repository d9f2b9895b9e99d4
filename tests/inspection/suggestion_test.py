"""Tests of solo_jax/inspection/suggestion.py."""

import copy

import ml_collections
import numpy as np
import pytest

from solo_jax.config import validate
from solo_jax.inspection import suggestion
from solo_jax.inspection.selection import Selection
from solo_jax.inspection.statistics import Statistics, examine
from solo_jax.inspection.suggestion import Suggestion
from tests.inspection.conftest import SampleRecords, make_sample, sections


def nothing():
  pass


def make_statistics(
  *, sizes=(20.0, 30.0, 40.0), short=480, long=640, per_image=5, images=100
):
  return Statistics(
    split="train",
    num_images=images,
    num_instances=images * per_image,
    num_crowds=0,
    num_empty=0,
    most_instances=per_image,
    short_sides=np.full(images, short),
    long_sides=np.full(images, long),
    num_portrait=0,
    num_examined=images,
    instances_of_class={"thing": 1},
    images_of_class={"thing": 1},
    object_sizes=np.array(sizes),
    object_extents=np.array(sizes),
    instances_per_image=np.full(images, per_image),
    num_grey=0,
    num_16_bit=0,
    findings=[],
    digests={},
  )


def after(step, config, *arguments):
  made = Suggestion(copy.deepcopy(config))
  step(made, *arguments)
  return made


def test_input_that_suits_is_kept():
  config = sections("solov2_coco")
  made = after(suggestion.choose_input, config, make_statistics())
  assert made.config == config and not made.reasons


def test_small_objects_are_enlarged():
  # 4 px objects at 256 / 480 of their size; 8 px are wanted: twice enlarged.
  config = sections("solov2_overfit")
  statistics = make_statistics(sizes=[4.0] * 100)
  made = after(suggestion.choose_input, config, statistics)
  assert made.config["transforms"]["image_size"] == (960, 1280)
  rule = made.config["preprocessing"]
  assert (rule["short_side"], rule["max_side"]) == (960, 1280)
  assert (
    "2 network pixels to an image pixel, was 0.4"
    in (made.reasons["preprocessing.short_side"])
  )


def test_enlarged_small_images_go_back_to_their_size():
  statistics = make_statistics(short=256, long=256)
  made = after(suggestion.choose_input, sections("solov2_coco"), statistics)
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
  made = after(suggestion.choose_input, sections("solov2_overfit"), statistics)
  rule = made.config["preprocessing"]
  assert rule["tile_size"] == 256
  assert rule["tile_overlap"] == 64  # objects of 40 px, in steps of 32
  assert made.config["transforms"]["jitter_reference"] == "original"
  validate(ml_collections.ConfigDict(made.config))


def test_masks_get_finer_only_where_it_pays():
  def chosen(boxes):
    records = SampleRecords([make_sample(boxes, (128, 128))])
    config = sections(
      "solov2_shapes",
      network__mask_stride=4,
      transforms__mask_stride=4,
      transforms__mask_rule="majority",
    )
    made = after(
      suggestion.choose_masks, config, Selection(records, 0), nothing
    )
    settings = made.config["transforms"]
    assert made.config["network"]["mask_stride"] == settings["mask_stride"]
    return settings["mask_stride"], settings["mask_rule"]

  assert chosen([(0, 0, 64, 64), (64, 64, 128, 128)]) == (4, "majority")
  small = [(x, y, x + 5, y + 5) for x in (3, 33, 61) for y in (3, 42, 90)]
  assert chosen(small) == (2, "coverage")


def test_a_grid_keeps_neighbours_apart():
  # 7 x 7 objects 16 px apart on 128 px: 8 cells an axis would do.
  boxes = [
    (x, y, x + 12, y + 12) for x in range(2, 114, 16) for y in range(2, 114, 16)
  ]
  records = SampleRecords([make_sample(boxes, (128, 128))])
  coarse = sections(
    "solov2_shapes",
    network__num_grids=(4, 4),
    network__mask_stride=4,
    transforms__mask_stride=4,
  )
  made = after(suggestion.choose_levels, coarse, Selection(records, 0), nothing)
  network, loss = made.config["network"], made.config["loss"]
  assert network["num_grids"][0] >= 8
  assert len(network["num_grids"]) == len(loss["scale_ranges"])
  assert "lost their cell" in made.reasons["loss.scale_ranges"]
  validate(ml_collections.ConfigDict(made.config))

  fine = sections("solov2_shapes", network__num_grids=(32, 16))
  made = after(suggestion.choose_levels, fine, Selection(records, 0), nothing)
  assert not made.reasons


def test_capacities_follow_what_is_seen():
  boxes = [
    (x, y, x + 10, y + 10) for x in range(0, 120, 12) for y in range(0, 120, 12)
  ]
  records = SampleRecords([make_sample(boxes, (128, 128))])
  statistics = examine(Selection(records, 0))
  config = sections("solov2_shapes")
  made = after(
    suggestion.choose_capacities,
    config,
    Selection(records, 0),
    statistics,
    nothing,
  )
  changed = made.config
  assert changed["transforms"]["max_instances"] == 128  # 1.25 x 100, in eights
  assert changed["decode"]["max_detections"] == 130
  assert changed["evaluation"]["max_detections"] >= 130
  assert changed["loss"]["max_positives"] >= 100
  assert "up to 100 instances" in made.reasons["transforms.max_instances"]


def test_learning_rate_and_length_of_a_small_dataset():
  config = sections("solov2_coco")  # 16 images a step, 0.01
  made = after(suggestion.choose_schedule, config, make_statistics(images=40))
  assert made.config["training"]["batch_size"] == 8
  assert made.config["optimizer"]["learning_rate"] == 0.005
  assert made.config["optimizer"]["reference_batch_size"] == 8
  steps = made.config["training"]["num_steps"]
  assert steps == 300 * 40 // 8
  old = config["optimizer"]["decay_steps"][0] / config["training"]["num_steps"]
  new = made.config["optimizer"]["decay_steps"][0] / steps
  assert new == pytest.approx(old, abs=1e-2)
  assert made.config["optimizer"]["warmup_steps"] <= steps // 10
  assert made.config["backbone"]["norm"] == "sync"  # no weights are given
  validate(ml_collections.ConfigDict(made.config))


def test_a_schedule_that_suits_is_kept():
  config = sections("solov2_shapes")
  made = after(suggestion.choose_schedule, config, make_statistics(images=2000))
  assert made.config == config


def test_bandwidth_follows_the_objects():
  config = sections("associative_embedding_nuclei")
  statistics = make_statistics(sizes=[60.0] * 100)
  made = after(suggestion.choose_bandwidth, config, statistics)
  assert made.config["network"]["coordinate_unit"] == 30.0
  statistics = make_statistics(sizes=[2.0] * 100)
  made = after(suggestion.choose_bandwidth, config, statistics)
  assert made.config["decode"]["min_pixels"] == 1


def test_a_suggestion_mends_a_spoiled_configuration(scenes):
  spoiled = sections(
    "solov2_shapes",
    dataset__num_classes=80,
    network__num_grids=(6, 3),
    network__mask_stride=4,
    transforms__mask_stride=4,
    transforms__mask_rule="published",
    transforms__max_instances=4,
  )
  train = Selection(scenes.train, 0)
  made = suggestion.suggest(spoiled, train, examine(train), on_image=nothing)
  config = made.config
  assert config["dataset"]["num_classes"] == 5
  assert config["network"]["num_grids"][0] > 6
  assert config["transforms"]["mask_rule"] == "coverage"
  assert config["transforms"]["max_instances"] >= scenes.train.num_objects.max()
  validate(ml_collections.ConfigDict(config))
  assert set(made.changes(spoiled)) == set(made.reasons)
  assert spoiled["network"]["num_grids"] == (6, 3)


def test_nothing_to_go_by_is_refused():
  train = Selection(SampleRecords([make_sample([])]), 0)
  with pytest.raises(ValueError, match="nothing to suggest from"):
    suggestion.suggest(
      sections("solov2_shapes"), train, examine(train), on_image=nothing
    )
