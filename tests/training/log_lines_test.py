"""Tests of solo_jax/training/log_lines.py; logging_test.py has whole lines."""

import pytest

from solo_jax.training import log_lines

VALUES = dict(
  loss=0.8344,
  mask_loss=0.5,
  learning_rate=0.001,
  nonfinite_total=0.0,
  nonfinite_in_row=0.0,
  images_per_second=34.21,
  data_wait=0.02,
  seconds_left=224.0,
  num_compiled=1,
  instances_dropped=3.0,
)


def describe(step=7100, num_steps=9000, **changes):
  return log_lines.describe_steps(
    step, num_steps, VALUES | changes, dict(instances_dropped=3.0)
  )


def test_the_short_line_shows_progress_loss_and_time():
  assert describe().short == (
    "step 7100/9000   79 %  loss 0.834  34.2 images/s  3:44 left"
  )
  slow = describe(data_wait=0.25, seconds_left=3600.0).short
  assert slow.endswith("34.2 images/s  1:00:00 left  data wait 25%")


def test_an_alarm_is_in_both_and_the_line_stays_short():
  line = describe(
    step=123456,
    num_steps=2700000,
    nonfinite_total=12345.0,
    images_per_second=12345.6,
    seconds_left=1e6,
    data_wait=0.9,
  )
  for text in line:
    assert "non-finite steps 12345" in text
  assert len(line.short) <= log_lines.WIDTH < len(line.whole)


def test_an_evaluation_has_the_numbers_of_eval():
  metrics = dict(mask_AP=0.523545, mask_AP50=0.7, mask_AP_L=None, box_AP=None)
  line = log_lines.describe_metrics(9000, metrics)
  assert line.short == "evaluated step 9000  mask AP 52.4  AP50 70.0  box AP -"
  assert line.whole == (
    "evaluated step 9000  mask_AP 0.5235  mask_AP50 0.7000  mask_AP_L -  "
    "box_AP -"
  )


@pytest.mark.parametrize(
  "seconds, text", [(0, "0:00:00"), (59.6, "0:01:00"), (90061, "25:01:01")]
)
def test_format_seconds(seconds, text):
  assert log_lines.format_seconds(seconds) == text
