"""Tests of solo_jax/methods/regions/nms.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.regions import nms as module
from solo_jax.methods.regions.nms import nms, survivors


def greedy(boxes, threshold, group):
  """The published loop over boxes by decreasing score. float64."""
  kept = []
  boxes = np.asarray(boxes, np.float64)
  for i, (x1, y1, x2, y2) in enumerate(boxes):
    for j in kept:
      u1, v1, u2, v2 = boxes[j]
      width, height = min(x2, u2) - max(x1, u1), min(y2, v2) - max(y1, v1)
      shared = max(width, 0) * max(height, 0)
      union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
      if group[i] == group[j] and union > 0 and shared / union > threshold:
        break
    else:
      kept.append(i)
  return kept


@functools.partial(jax.jit, static_argnames=("threshold", "max_kept"))
def run(boxes, valid, group, threshold, max_kept):
  return nms(boxes, valid, threshold=threshold, max_kept=max_kept, group=group)


def clusters(seed, count):
  rng = np.random.default_rng(seed)
  centers = rng.uniform(0, 60, (6, 2))[rng.integers(0, 6, count)]
  corner = centers + rng.normal(0, 3, (count, 2))
  side = rng.uniform(8, 20, (count, 2))
  return np.concatenate([corner, corner + side], 1).astype(np.float32)


def test_equals_the_loop_over_several_blocks():
  boxes = clusters(0, 2 * module.BLOCK + 17)
  group = np.random.default_rng(1).integers(0, 3, len(boxes))
  for max_kept in (len(boxes), 20):
    kept, count = run(boxes, np.ones(len(boxes), bool), group, 0.5, max_kept)
    expected = greedy(boxes, 0.5, group)[:max_kept]
    assert len(expected) > 15
    np.testing.assert_array_equal(kept[: int(count)], expected)
    assert not kept[int(count) :].any()


def test_a_long_chain_alternates():
  # Each box overlaps its neighbours only: every other one survives.
  n = 2 * module.BLOCK
  left = np.arange(n) * 4.0
  boxes = np.stack([left, 0 * left, left + 10, 0 * left + 10], 1)
  valid = np.ones(n, bool)
  kept, count = run(boxes.astype(np.float32), valid, valid * 0, 0.4, n)
  np.testing.assert_array_equal(kept[: int(count)], np.arange(0, n, 2))


def test_invalid_boxes_neither_survive_nor_suppress():
  boxes = np.tile(np.array([0.0, 0, 9, 9], np.float32), (4, 1))
  valid = np.array([True, False, False, False])
  _, count = run(boxes, valid, np.arange(4), 0.5, 4)
  assert int(count) == 1
  _, count = run(boxes, valid & False, np.arange(4), 0.5, 4)
  assert int(count) == 0


def test_survivors_of_a_chain_by_hand():
  suppresses = np.zeros((4, 4), bool)
  suppresses[[0, 1, 2], [1, 2, 3]] = True
  found = survivors(jnp.ones(4, bool), suppresses)
  np.testing.assert_array_equal(found, [True, False, True, False])


@pytest.mark.golden("rcnn_nms*.npz")
def test_fixture(golden):
  for i, case in enumerate(golden.config["cases"]):
    scores = golden[f"scores_{i}"]
    order = np.argsort(-scores, kind="stable")
    kept, count = run(
      golden[f"boxes_{i}"][order].astype(np.float32),
      np.ones(len(order), bool),
      golden[f"ids_{i}"][order],
      case["threshold"],
      len(order),
    )
    np.testing.assert_array_equal(
      order[kept[: int(count)]], golden[f"keep_{i}"]
    )
