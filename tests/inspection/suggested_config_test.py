"""Tests of solo_jax/inspection/suggested_config.py."""

from solo_jax.inspection.suggested_config import Suggestion


def test_only_what_changes_has_a_reason():
  given = dict(decode=dict(max_detections=100, min_pixels=3))
  made = Suggestion(dict(decode=dict(given["decode"])))
  made.set("decode.min_pixels", 3, "as it is")
  assert not made.reasons and made.config == given
  made.set("decode.min_pixels", 2, "smaller objects")
  assert made.changes(given) == {
    "decode.min_pixels": dict(was=3, suggested=2, why="smaller objects")
  }


def test_capacities_are_raised_with_some_room():
  made = Suggestion(dict(decode=dict(max_detections=100)))
  made.at_least("decode.max_detections", 100, 10, "instances")
  assert not made.reasons
  made.at_least("decode.max_detections", 101, 10, "instances")
  assert made.config["decode"]["max_detections"] == 130  # 1.25 x 101, in tens
  assert made.reasons == {"decode.max_detections": "up to 101 instances"}
