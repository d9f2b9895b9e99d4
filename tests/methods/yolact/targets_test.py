"""Tests of solo_jax/methods/yolact/targets.py."""

import jax
import numpy as np
import pytest
from loss_test import make_batch
from scene import kind, make_priors_rule, side

from solo_jax.methods.regions import box_coding
from solo_jax.methods.yolact import targets
from solo_jax.methods.yolact.priors import make_priors
from solo_jax.methods.yolact.targets import leave_crowds_out

pairwise_iou = jax.jit(box_coding.pairwise_iou)
assign = jax.jit(targets.assign, static_argnums=2)


@pytest.mark.golden("yolact_*_loss.npz")
def test_fixture(golden):
  batch, config = make_batch(golden), golden.config
  lengths = config.get("level_sizes", [18, 9, 5, 3, 2])
  size = side(golden)
  priors = make_priors(
    make_priors_rule(golden), [(s, s) for s in lengths], (size, size)
  )
  is_mmdet = kind(golden) == "mmdet"
  rule = "best_prior" if is_mmdet else "greedy"
  for i in range(len(batch.row)):
    iou = pairwise_iou(batch.boxes_xyxy[i], priors)
    instance, assigned = map(np.asarray, assign(iou, batch.valid[i], rule))
    positive = assigned == 1
    if is_mmdet:
      expected = np.zeros(len(priors), bool)
      expected[golden[f"positive_anchor_{i}"]] = True
      np.testing.assert_array_equal(positive, expected)
      order = golden[f"positive_anchor_{i}"]
      np.testing.assert_array_equal(instance[order], golden[f"positive_gt_{i}"])
    else:
      labels = np.where(positive, batch.labels[i][instance] + 1, assigned)
      np.testing.assert_array_equal(labels, golden["target_class"][i])
      np.testing.assert_array_equal(instance, golden["target_gt"][i])


IOU = np.array([[0.6, 0.45, 0.1], [0.7, 0.3, 0.0]], np.float32)


@pytest.mark.parametrize(
  ("rule", "instance", "kind"),
  [
    # The second instance has the larger overlap with prior 0; the first gets
    # the next best.
    ("greedy", [1, 0, 0], [1, 1, 0]),
    # Both want prior 0; prior 1 is between the thresholds.
    ("best_prior", [1, 0, 0], [1, -1, 0]),
  ],
)
def test_two_instances_want_one_prior(rule, instance, kind):
  found = assign(IOU, np.array([True, True]), rule)
  np.testing.assert_array_equal(found[0], instance)
  np.testing.assert_array_equal(found[1], kind)


@pytest.mark.parametrize("rule", ["greedy", "best_prior"])
def test_padding_and_no_instances(rule):
  _, kind = assign(IOU, np.zeros(2, bool), rule)
  np.testing.assert_array_equal(kind, [0, 0, 0])
  _, kind = assign(IOU, np.array([True, False]), rule)
  np.testing.assert_array_equal(kind, [1, -1, 0])
  _, kind = assign(np.zeros((0, 3), np.float32), np.zeros(0, bool), rule)
  np.testing.assert_array_equal(kind, [0, 0, 0])


def test_unknown_rule():
  with pytest.raises(ValueError, match="rule must be in"):
    assign(IOU, np.ones(2, bool), "best")


def test_priors_in_a_crowd_are_no_background():
  """A crowd of 10 x 10; shares 1, 0.8, 0.5 and 0.8 of a positive."""
  priors = np.array(
    [[2, 2, 6, 6], [2, 0, 12, 10], [5, 0, 15, 10], [2, 0, 12, 10]], "f"
  )
  crowds = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], "f")
  kind = leave_crowds_out(np.array([0, 0, 0, 1]), priors, crowds)
  np.testing.assert_array_equal(kind, [-1, -1, 0, 1])


def test_greedy_claims_equal_those_of_sorted_pairs():
  """Ties included: of equal overlaps, the first instance and prior."""
  rng = np.random.default_rng(0)
  for number in range(20):
    iou = np.round(rng.random((6, 9)), 1 + number % 2).astype(np.float32)
    iou *= rng.random(iou.shape) < 0.6
    valid = rng.random(6) < 0.7
    expected = np.full(9, -1)
    pairs = sorted(
      (-iou[i, j], i, j) for i in np.flatnonzero(valid) for j in range(9)
    )
    for _, i, j in pairs:
      if i not in expected and expected[j] < 0:
        expected[j] = i
    instance, kind = assign(iou, valid, "greedy")
    is_claimed = expected >= 0
    np.testing.assert_array_equal(
      np.asarray(instance)[is_claimed], expected[is_claimed]
    )
    assert (np.asarray(kind)[is_claimed] == 1).all()
