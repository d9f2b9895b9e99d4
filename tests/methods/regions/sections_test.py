"""Tests of solo_jax/methods/regions/sections.py."""

from solo_jax.methods.regions.sections import (
  find_problems,
  read_loss,
  read_network,
)
from tests.methods.region_sections import DECODE, LOSS, NETWORK


def test_pairs_are_of_training_and_of_inference():
  found = read_network(NETWORK, DECODE)
  train, test = found["select_train"], found["select_test"]
  assert (train.before_nms, train.after_nms) == (12, 8)
  assert (test.before_nms, test.after_nms) == (10, 6)
  assert found["detection"].max_detections == 5


def test_each_stage_has_its_overlap():
  found = read_loss(LOSS | dict(region_ious=(0.5, 0.6)))["stages"]
  assert [x.high for x in found.matchings] == [0.5, 0.6]
  assert [x.lower_bound for x in found.matchings] == [0.5, 0.6]


def problems_of(network=(), loss=()):
  sections = dict(network=NETWORK | dict(network), loss=LOSS | dict(loss))
  return "\n".join(find_problems(sections))


def test_problems_of_region_configs_are_listed():
  assert not problems_of()
  three = ((10.0, 10.0, 5.0, 5.0),) * 3
  found = problems_of(dict(stage_weights=three))
  assert "loss.region_ious has 1 entries, network.stage_weights 3" in found
  assert "network.box_classes must be 'all' with several stages" in found
  assert "for each level P2 to P6, got 1" in problems_of(
    dict(anchor_sizes=(8,))
  )
  assert "must not exceed loss.anchor_high" in problems_of(
    loss=dict(anchor_low=0.8)
  )
