"""Tests of solo_jax/inspection/suggestion.py."""

import numpy as np
import pytest

from solo_jax.building import check_config
from solo_jax.errors import UserError
from solo_jax.inspection import suggestion
from solo_jax.inspection.selection import Selection
from solo_jax.inspection.statistics import examine
from tests.inspection.conftest import (
  SampleRecords,
  after,
  make_sample,
  make_statistics,
  sections,
)


def nothing():
  pass


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
  # 7 x 7 objects 16 px apart on 128 px: 8 cells per axis suffice.
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
  selection = Selection(records, 0)
  tried = selection, examine(selection), nothing
  made = after(suggestion.choose_fields, coarse, *tried)
  network, loss = made.config["network"], made.config["loss"]
  assert network["num_grids"][0] >= 8
  assert len(network["num_grids"]) == len(loss["scale_ranges"])
  assert "without a cell: " in made.reasons["loss.scale_ranges"]
  check_config(made.config)

  fine = sections("solov2_shapes", network__num_grids=(32, 16))
  made = after(suggestion.choose_fields, fine, *tried)
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


def test_what_an_input_may_have_can_be_evaluated():
  records = SampleRecords([make_sample([(0, 0, 9, 9)])])
  config = sections(
    "solov2_shapes",
    decode__max_detections=130,
    evaluation__max_detections=100,
  )
  made = after(
    suggestion.choose_capacities,
    config,
    Selection(records, 0),
    examine(Selection(records, 0)),
    nothing,
  )
  assert made.reasons == {"evaluation.max_detections": "as many as in an input"}
  assert made.config["evaluation"]["max_detections"] == 130


def test_batch_and_length_of_a_small_dataset():
  config = sections("solov2_coco")  # 16 images per step, 0.01
  made = after(suggestion.choose_schedule, config, make_statistics(images=40))
  assert made.config["training"]["batch_size"] == 8
  for field in ("learning_rate", "reference_batch_size"):  # linear rule
    assert made.config["optimizer"][field] == config["optimizer"][field]
  steps = made.config["training"]["num_steps"]
  assert steps == 300 * 40 // 8
  old = config["optimizer"]["decay_steps"][0] / config["training"]["num_steps"]
  new = made.config["optimizer"]["decay_steps"][0] / steps
  assert new == pytest.approx(old, abs=1e-2)
  assert made.config["optimizer"]["warmup_steps"] <= steps // 10
  assert made.config["backbone"]["norm"] == "sync"  # no weights are given
  check_config(made.config)


@pytest.mark.parametrize(("keep_empty", "size"), [(True, 16), (False, 8)])
def test_images_that_are_not_trained_on_do_not_count(keep_empty, size):
  config = sections("solov2_coco", dataset__keep_empty=keep_empty)
  statistics = make_statistics(images=100, empty=60)
  made = after(suggestion.choose_schedule, config, statistics)
  assert made.config["training"]["batch_size"] == size


def test_a_schedule_that_suits_is_kept():
  config = sections("solov2_shapes")
  made = after(suggestion.choose_schedule, config, make_statistics(images=2000))
  assert made.config == config


def test_a_method_is_given_sizes_at_the_input():
  config = sections("associative_embedding_nuclei")
  config["preprocessing"] |= dict(tile_size=None, short_side=800)
  # At 256 / 2,000 of their size: the long side bounds the scale.
  statistics = make_statistics(sizes=[625.0] * 100, short=400, long=2000)
  made = after(suggestion.choose_fields, config, [], statistics, nothing)
  assert made.config["network"]["coordinate_unit"] == 40.0
  assert "80 network px" in made.reasons["network.coordinate_unit"]


def test_inputs_of_training_and_prediction_are_shown():
  records = SampleRecords([make_sample([(8, 16, 24, 48)], (64, 128))])
  config = sections(
    "solov2_shapes",
    preprocessing__tile_size=64,
    preprocessing__tile_overlap=0,
    preprocessing__short_side=64,
    preprocessing__max_side=64,
  )
  seen = []
  shown = suggestion.list_shown(
    config, Selection(records, 0), lambda: seen.append(1)
  )
  assert len(shown) == 3 and len(seen) == 1  # an augmentation and two tiles
  first, second = shown[1:]
  np.testing.assert_allclose(first.sizes, [[16, 32]])
  height, width = first.padded_size
  np.testing.assert_allclose(
    first.centers, [[15.5 / width, 31.5 / height]], atol=1e-6
  )
  assert not len(second.sizes)


def test_a_suggestion_fixes_a_spoiled_configuration(scenes):
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
  check_config(config)
  assert set(made.changes(spoiled)) == set(made.reasons)
  assert spoiled["network"]["num_grids"] == (6, 3)


def test_a_dataset_without_objects_gets_no_suggestion():
  train = Selection(SampleRecords([make_sample([])]), 0)
  with pytest.raises(UserError, match="nothing can be suggested"):
    suggestion.suggest(
      sections("solov2_shapes"), train, examine(train), on_image=nothing
    )
