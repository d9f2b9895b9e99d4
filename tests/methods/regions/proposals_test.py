"""Tests of solo_jax/methods/regions/proposals.py."""

import jax
import numpy as np
import pytest

from solo_jax.methods.regions.anchors import Anchors, make_anchors
from solo_jax.methods.regions.proposals import Selection, select_proposals


def selection(**changed):
  given = dict(
    before_nms=10,
    after_nms=4,
    nms_threshold=0.7,
    min_side=0.0,
    log_clamp="both",
  )
  return Selection(**given | changed)


ANCHORS = (
  np.array([[0, 0, 8, 8], [1, 0, 9, 8], [20, 20, 28, 28]], np.float32),
  np.array([[0, 0, 8, 8], [40, 40, 44, 80]], np.float32),
)
SIZE = np.array([[50, 60]], np.int32)


def select(logits, **changed):
  logits = [np.asarray([x], np.float32) for x in logits]
  codes = [np.zeros((*x.shape, 4), np.float32) for x in logits]
  return select_proposals(logits, codes, ANCHORS, SIZE, selection(**changed))


def test_levels_do_not_suppress_each_other():
  found = select([[1.0, 2.0, -1.0], [0.0, 3.0]])
  np.testing.assert_array_equal(
    found.boxes[0],
    [[40, 40, 44, 50], [1, 0, 9, 8], [0, 0, 8, 8], [20, 20, 28, 28]],
  )
  np.testing.assert_allclose(
    found.scores[0], 1 / (1 + np.exp([-3.0, -2.0, 0.0, 1.0])), rtol=1e-6
  )
  assert np.asarray(found.valid).all()


def test_small_and_nonfinite_proposals_are_not_valid():
  found = select([[1.0, 2.0, -1.0], [0.0, 3.0]], min_side=6.0)
  # The last anchor is 4 wide.
  np.testing.assert_array_equal(found.valid[0], [True, True, True, False])
  assert float(found.scores[0, 3]) == 0
  found = select([[1.0, 2.0, np.nan], [0.0, -np.inf]], before_nms=1)
  np.testing.assert_array_equal(found.valid.sum(), 1)


def test_no_gradient_flows_through():
  def total(logits):
    codes = [np.zeros((1, 3, 4), np.float32), np.zeros((1, 2, 4), np.float32)]
    found = select_proposals(logits, codes, ANCHORS, SIZE, selection())
    return found.scores.sum() + found.boxes.sum()

  logits = [np.ones((1, 3), np.float32), np.ones((1, 2), np.float32)]
  for gradient in jax.grad(total)(logits):
    assert not np.asarray(gradient).any()


@pytest.mark.golden("rcnn_proposals*.npz")
def test_fixture(golden):
  config = golden.config
  outputs = {"logits": [], "deltas": []}
  maps = []
  for level in range(len(config["sizes"])):
    for name, found in outputs.items():
      x = golden[f"{name}_{level}"].transpose(0, 2, 3, 1)
      found.append(x.reshape(len(x), -1, *(() if name == "logits" else (4,))))
    maps.append(x.shape[1:3])
  sizes = np.asarray(config["image_sizes"], np.int32)
  rules = {
    "tv": (("rounded", "map_size"), config["min_size_tv"], "above"),
    "mmdet": (("exact", "stride"), config["min_size_mmdet"], "both"),
  }
  for name, ((corners, spacing), min_side, clamp) in rules.items():
    anchors = make_anchors(
      Anchors(
        sizes=tuple(config["sizes"]),
        ratios=tuple(config["ratios"]),
        corners=corners,
        spacing=spacing,
      ),
      maps,
      tuple(config["padded_hw"]),
    )
    found = select_proposals(
      outputs["logits"],
      outputs["deltas"],
      anchors,
      sizes,
      selection(
        before_nms=config["pre_nms"],
        after_nms=config["post_nms"],
        nms_threshold=config["nms_threshold"],
        min_side=min_side,
        log_clamp=clamp,
      ),
    )
    for i in range(len(sizes)):
      expected = golden[f"boxes_{name}_{i}"]
      valid = np.asarray(found.valid[i])
      assert valid.sum() == len(expected)
      np.testing.assert_allclose(
        found.boxes[i][valid], expected, rtol=2e-5, atol=2e-5
      )
      np.testing.assert_allclose(
        found.scores[i][valid], golden[f"scores_{name}_{i}"], atol=1e-6
      )
