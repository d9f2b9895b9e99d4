"""Tests of solo_jax/evaluation/judging.py."""

import pytest

from solo_jax.evaluation import boundary, coco_metrics, judging, microscopy


@pytest.fixture
def built(scenes):
  built = scenes("cat").image(1).truth("cat", (0, 0, 30, 40))
  return built.found("cat", (0, 0, 28, 40), 0.5).found("cat", (1, 1, 9, 9), 0.2)


@pytest.mark.parametrize(
  "asked", [(), ("boundary",), ("microscopy",), judging.METRICS]
)
def test_requested_metrics_are_added(built, asked):
  judged = judging.judge(
    built.dataset,
    built.results,
    max_detections=100,
    more_metrics=asked,
    score_threshold=0.3,
  )
  arguments = (built.dataset, built.results)
  expected = coco_metrics.evaluate(*arguments, max_detections=100).scalars()
  if "boundary" in asked:
    expected |= boundary.evaluate(*arguments, max_detections=100)
  if "microscopy" in asked:
    expected |= microscopy.evaluate(microscopy.overlaps(*arguments), 0.3)
  assert judged.metrics.scalars() == expected
  assert (judged.overlaps is not None) == ("microscopy" in asked)
