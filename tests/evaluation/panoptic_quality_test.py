"""Tests of solo_jax/evaluation/panoptic_quality.py."""

import dataclasses

import numpy as np
import pytest

from solo_jax.evaluation.panoptic_quality import PanopticQuality


@pytest.mark.golden("pq_miou*.npz")
def test_fixture(golden):
  categories = golden.config["categories"]
  total = PanopticQuality({c["id"]: bool(c["isthing"]) for c in categories})
  for n in range(golden.config["num_images"]):
    truth = golden[f"gt_segments_{n}"].tolist()
    found = golden[f"pred_segments_{n}"].tolist()
    total.add(
      golden[f"gt_ids_{n}"],
      {i: (category, bool(is_crowd)) for i, category, is_crowd in truth},
      golden[f"pred_ids_{n}"],
      {i: category for i, category, _ in found},
    )
  for category, numbers, iou in zip(
    golden["category_ids"].tolist(),
    golden["tp_fp_fn"],
    golden["f64_iou_sum"],
    strict=True,
  ):
    counts = total.counts[category]
    np.testing.assert_array_equal(
      (counts.matched, counts.extra, counts.missed), numbers
    )
    np.testing.assert_allclose(counts.iou, iou, rtol=0, atol=1e-12)
  for name, is_thing in (("all", None), ("things", True), ("stuff", False)):
    np.testing.assert_allclose(
      dataclasses.astuple(total.summarize(is_thing)),
      golden[f"f64_pq_sq_rq_n_{name}"],
      rtol=0,
      atol=1e-12,
    )


def quality(truth_ids, truth, found_ids, found):
  total = PanopticQuality({1: True, 2: True, 3: False})
  total.add(np.asarray(truth_ids), truth, np.asarray(found_ids), found)
  return total


def test_one_match_by_hand():
  # 6 of 8 pixels shared: IoU 6 / 8; category 2 is missed, 3 is too many.
  total = quality(
    [[1] * 7 + [2] * 2 + [4]],
    {1: (1, False), 2: (2, False), 4: (3, False)},
    [[5] * 6 + [0, 5, 7, 9]],
    {5: 1, 7: 3, 9: 3},
  )
  assert total.counts[1].matched == 1 and total.counts[1].iou == 6 / 8
  assert total.counts[2].missed == 1
  assert (total.counts[3].matched, total.counts[3].extra) == (1, 1)
  result = total.summarize()
  np.testing.assert_allclose(result.pq, (0.75 + 0 + 1 / 1.5) / 3)
  np.testing.assert_allclose(result.sq, (0.75 + 0 + 1) / 3)
  assert result.num_categories == 3


def test_an_iou_of_a_half_is_no_match():
  total = quality([[1, 1, 1, 0]], {1: (1, False)}, [[0, 5, 5, 5]], {5: 1})
  # 2 shared of 3 + 3 - 2, less the pixel on void: 2 / 3.
  assert total.counts[1].matched == 1
  total = quality(
    [[1, 1, 1, 2]], {1: (1, False), 2: (2, False)}, [[0, 5, 5, 5]], {5: 1}
  )
  counts = total.counts[1]
  assert (counts.matched, counts.extra, counts.missed) == (0, 1, 1)


def test_predictions_on_void_or_their_crowd_do_not_count():
  truth_ids = [[0, 0, 8, 8, 1]]
  truth = {8: (1, True), 1: (2, False)}
  on_void = quality(truth_ids, truth, [[5, 5, 0, 0, 5]], {5: 1})
  assert on_void.counts[1].extra == 0
  on_crowd = quality(truth_ids, truth, [[0, 0, 5, 5, 5]], {5: 1})
  assert on_crowd.counts[1].extra == 0
  of_another = quality(truth_ids, truth, [[0, 0, 5, 5, 5]], {5: 2})
  assert of_another.counts[2].extra == 1
  assert of_another.counts[1].missed == 0  # no one has to find a crowd


@pytest.mark.parametrize(
  ("found_ids", "found", "message"),
  [
    ([[5, 6]], {5: 1}, "listed"),
    ([[5, 5]], {5: 1, 6: 1}, "listed"),
    ([[5, 5]], {5: 9}, "unknown"),
    ([[5]], {5: 1}, "sizes"),
  ],
)
def test_bad_predictions_are_refused(found_ids, found, message):
  with pytest.raises(ValueError, match=message):
    quality([[1, 1]], {1: (1, False)}, found_ids, found)


def test_without_images_all_is_zero():
  total = PanopticQuality({1: True})
  assert dataclasses.astuple(total.summarize()) == (0, 0, 0, 0)
