"""Tests of solo_jax/media/tracking.py."""

import dataclasses

import numpy as np
import pytest

from solo_jax import types
from solo_jax.media.tracking import Tracker

SIZE = 60, 80


def frame(*objects):
  """Detections of (mask, score, label), by decreasing score."""
  objects = sorted(objects, key=lambda x: -x[1])
  masks = np.zeros((len(objects), *SIZE[::-1]), bool).transpose(0, 2, 1)
  boxes = np.zeros((len(objects), 4), np.float32)
  for i, (mask, _, _) in enumerate(objects):
    masks[i] = mask
    rows, columns = np.nonzero(mask)
    if len(rows):
      boxes[i] = (
        columns.min(),
        rows.min(),
        columns.max() + 1,
        rows.max() + 1,
      )
  return types.Instances(
    masks=masks,
    scores=np.array([x[1] for x in objects], np.float32),
    labels=np.array([x[2] for x in objects], np.int32),
    boxes_xyxy=boxes,
  )


def square(top, left, side=10):
  mask = np.zeros(SIZE, bool)
  mask[max(top, 0) : top + side, max(left, 0) : left + side] = True
  return mask


class FrameASecond(Tracker):
  """Is shown a frame each second."""

  seconds = 0.0

  def update(self, found):
    self.seconds += 1
    return super().update(found, self.seconds)


def make_tracker(max_missed=5):
  return FrameASecond(score_threshold=0.5, max_missed=max_missed)


def test_numbers_stay_whatever_the_order_of_the_scores():
  tracker = make_tracker()
  rng = np.random.default_rng(0)
  for step in range(8):
    scores = rng.permutation([0.6, 0.7, 0.8])
    places = (5, 3 * step), (25, 60 - 4 * step), (2 + 5 * step, 70)
    found = frame(
      *(
        (square(*place), score, 0)
        for place, score in zip(places, scores, strict=True)
      )
    )
    kept, tracks = tracker.update(found)
    assert len(kept) == 3 and (np.diff(kept.scores) <= 0).all()
    order = np.argsort(-scores)
    if step == 0:
      number = dict(zip(order, tracks, strict=True))
      assert sorted(tracks) == [1, 2, 3]
    assert [number[i] for i in order] == list(tracks)


def test_crossing_objects_keep_their_tracks():
  """Where they meet, place alone would exchange them."""
  tracker = make_tracker()
  for step in range(15):
    one, other = square(20, 2 + 4 * step), square(22, 60 - 4 * step)
    kept, tracks = tracker.update(frame((one, 0.9, 0), (other, 0.8, 0)))
    assert list(tracks) == [1, 2]


def test_a_low_score_continues_a_track_but_starts_none():
  tracker = make_tracker()
  thing, ghost = square(10, 10), square(40, 40)
  kept, tracks = tracker.update(frame((thing, 0.9, 0), (ghost, 0.4, 0)))
  assert list(tracks) == [1] and len(kept) == 1
  # Now both are unsure; only one was seen before.
  kept, tracks = tracker.update(frame((ghost, 0.4, 0), (thing, 0.2, 0)))
  assert list(tracks) == [1]
  np.testing.assert_array_equal(kept.masks[0], thing)
  # The second, low detection of one thing takes no track from the first.
  kept, tracks = tracker.update(frame((thing, 0.9, 0), (thing, 0.3, 1)))
  assert list(tracks) == [1] and len(kept) == 1


@pytest.mark.parametrize("hidden", [3, 7])
def test_a_hidden_object_keeps_its_track_for_some_frames(hidden):
  """Found again where its velocity brings it, or given up."""
  tracker = make_tracker(max_missed=5)
  for step in range(4):
    _, tracks = tracker.update(frame((square(20, 5 + 4 * step), 0.9, 0)))
    assert list(tracks) == [1]
  for _ in range(hidden):
    kept, tracks = tracker.update(frame())
    assert len(kept) == 0 and kept.masks.shape == (0, *SIZE)
  place = 5 + 4 * (3 + hidden + 1)
  _, tracks = tracker.update(frame((square(20, place), 0.9, 0)))
  assert list(tracks) == [1 if hidden <= 5 else 2]


def test_objects_with_equal_boxes_are_tracked_by_their_masks():
  """Two triangles of one square; boxes alone would not know which is which."""
  rows, columns = np.indices(SIZE)
  tracker = make_tracker()
  for step in range(5):
    y, x = rows - 10 - 3 * step, columns - 10 - 3 * step
    inside = (y >= 0) & (x >= 0) & (y < 20) & (x < 20)
    upper, lower = inside & (y < x), inside & (y >= x)
    scores = (0.9, 0.8) if step % 2 else (0.8, 0.9)
    _, tracks = tracker.update(
      frame((upper, scores[0], 0), (lower, scores[1], 0))
    )
    assert list(tracks) == ([2, 1] if step % 2 else [1, 2])


def test_classes_separate_tracks_at_one_place():
  tracker = make_tracker()
  place = square(10, 10)
  tracker.update(frame((place, 0.9, 0), (place, 0.8, 1)))
  _, tracks = tracker.update(frame((place, 0.9, 1), (place, 0.8, 0)))
  assert list(tracks) == [2, 1]
  # A change of class alone ends no track.
  _, tracks = tracker.update(frame((place, 0.9, 2)))
  assert tracks[0] in (1, 2)


def test_a_jump_starts_a_track():
  tracker = make_tracker()
  tracker.update(frame((square(10, 10), 0.9, 0)))
  _, tracks = tracker.update(frame((square(10, 19), 0.9, 0)))
  assert list(tracks) == [2]


def test_predicted_boxes_change_no_track():
  """Tracks follow masks, wherever the predicted boxes are."""
  plain, boxed = make_tracker(), make_tracker()
  for step in range(4):
    found = frame((square(20, 5 + 4 * step), 0.9, 0), (square(2, 40), 0.8, 0))
    with_boxes = dataclasses.replace(
      found,
      boxes_xyxy=found.boxes_xyxy + np.float32([[-4.5], [60]]),
      mask_boxes_xyxy=found.boxes_xyxy,
    )
    (_, expected), (kept, numbers) = (
      plain.update(found),
      boxed.update(with_boxes),
    )
    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_array_equal(kept.boxes_xyxy, with_boxes.boxes_xyxy)
  assert numbers.tolist() == [1, 2]


def test_empty_masks_have_no_track():
  tracker = make_tracker()
  kept, tracks = tracker.update(
    frame((square(10, 10), 0.9, 0), (np.zeros(SIZE, bool), 0.8, 0))
  )
  assert len(kept) == len(tracks) == 1


def test_cropped_masks_have_the_same_tracks():
  def cropped(found):
    boxes = found.boxes_xyxy.astype(int)
    return types.Instances(
      masks=types.CroppedMasks(
        size=SIZE,
        corners=[(top, left) for left, top, _, _ in boxes],
        crops=[found.crop(i)[2] for i in range(len(found))],
      ),
      scores=found.scores,
      labels=found.labels,
      boxes_xyxy=found.boxes_xyxy,
    )

  dense, crops = make_tracker(), make_tracker()
  for step in range(6):
    found = frame(
      (square(5, 3 * step), 0.6, 0), (square(5 + 6 * step, 30), 0.7, 1)
    )
    kept, tracks = dense.update(found)
    other, numbers = crops.update(cropped(found))
    np.testing.assert_array_equal(tracks, numbers)
    np.testing.assert_array_equal(kept.masks, other.masks.to_dense())
