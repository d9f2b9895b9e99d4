"""Follows instances from frame to frame of a video.

Associates in two steps like ByteTrack (https://arxiv.org/abs/2110.06864):
confident detections with all tracks first, then uncertain ones with the
remaining tracks, so that a partly hidden object keeps its track. Unlike
ByteTrack, which compares boxes, it compares masks, moved by the track's
velocity: the boxes of touching objects overlap, their masks do not.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from solo_jax import types

MIN_IOU = 0.2  # of a moved mask with that of its next detection
OTHER_CLASS = 0.5  # factor of the IoU where classes differ
MOMENTUM = 0.5  # of the velocity


@dataclasses.dataclass(kw_only=True)
class _Track:
  """An object seen so far.

  Attributes:
    number: Id of the track.
    label: Class of its last detection.
    mask: Its last mask inside its box. [h, w] bool.
    corner: (top, left) of the mask, moved with every frame. [2] float64.
    velocity: Pixels per frame, (y, x). [2] float64.
    seen: Frames in which it was detected.
    missed: Frames since then.
    seconds: Time of its last detection.
  """

  number: int
  label: int
  mask: np.ndarray
  corner: np.ndarray
  velocity: np.ndarray
  seconds: float
  seen: int = 1
  missed: int = 0


class Tracker:
  """Gives the same number to the same object in every frame of one video."""

  def __init__(self, *, score_threshold: float, max_missed: float):
    """Starts without any track.

    Args:
      score_threshold: A detection of a lower score does not start a track.
      max_missed: Seconds after which an object that is not detected is dropped.
    """
    self._score_threshold = score_threshold
    self._max_missed = max_missed
    self._tracks = []
    self._num_started = 0

  def update(
    self, found: types.Instances, seconds: float
  ) -> tuple[types.Instances, np.ndarray]:
    """Returns the track numbers of the next frame's detections.

    Args:
      found: All its detections, including those of low scores.
      seconds: Time of the frame.

    Returns:
      The detections of at least the score threshold and those of lower scores
      that continue a track, by decreasing score; and the track of each, from 1.
    """
    for track in self._tracks:
      track.corner = track.corner + track.velocity
    sure = int(np.sum(found.scores >= self._score_threshold))
    boxes = found.tight_boxes_xyxy
    seen = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1)).tolist()
    owner = {}
    free = list(self._tracks)
    for group in (
      [i for i in seen if i < sure],
      [i for i in seen if i >= sure],
    ):
      pairs = _associate(free, found, group)
      owner |= {i: free[row] for row, i in pairs}
      taken = {row for row, _ in pairs}
      free = [track for row, track in enumerate(free) if row not in taken]
    for i, track in owner.items():
      _update(track, found, i, seconds)
    for track in free:
      track.missed += 1
    for i in seen:
      if i < sure and i not in owner:
        owner[i] = self._start(found, i, seconds)
    self._tracks = [
      t for t in self._tracks if seconds - t.seconds <= self._max_missed
    ]
    kept = sorted(owner)
    return found.take(kept), np.array([owner[i].number for i in kept], int)

  def _start(
    self, found: types.Instances, index: int, seconds: float
  ) -> _Track:
    rows, columns, mask = found.crop(index)
    self._num_started += 1
    track = _Track(
      number=self._num_started,
      label=int(found.labels[index]),
      mask=mask.copy(),  # a view would keep the masks of the whole frame
      corner=np.array([rows.start, columns.start], np.float64),
      velocity=np.zeros(2),
      seconds=seconds,
    )
    self._tracks.append(track)
    return track


def _update(
  track: _Track, found: types.Instances, index: int, seconds: float
) -> None:
  """Moves a track to its detection."""
  rows, columns, mask = found.crop(index)
  corner = np.array([rows.start, columns.start], np.float64)
  # Distance of the centre from its expected position.
  error = corner + np.divide(mask.shape, 2)
  error -= track.corner + np.divide(track.mask.shape, 2)
  weight = 1 if track.seen == 1 else 1 - MOMENTUM
  track.velocity = track.velocity + weight * error / (track.missed + 1)
  track.label = int(found.labels[index])
  track.mask, track.corner = mask.copy(), corner
  track.seen, track.missed = track.seen + 1, 0
  track.seconds = seconds


def _associate(
  tracks: Sequence[_Track], found: types.Instances, indices: Sequence[int]
) -> list[tuple[int, int]]:
  """Returns pairs of tracks and detections with the largest sum of IoU.

  Args:
    tracks: Tracks, moved to this frame.
    found: Detections of this frame.
    indices: Detections to pair.

  Returns:
    (row in `tracks`, detection) of each pair.
  """
  if not tracks or not indices:
    return []
  corners = np.rint([track.corner for track in tracks]).astype(int)
  sides = np.array([track.mask.shape for track in tracks])
  boxes = found.tight_boxes_xyxy[indices]
  low = boxes[:, [1, 0]].astype(int)
  high = boxes[:, [3, 2]].astype(int)
  touching = (
    (corners[:, None] < high[None]) & (low[None] < (corners + sides)[:, None])
  ).all(2)
  similarity = np.zeros(touching.shape)
  for row, column in np.argwhere(touching):
    track, index = tracks[row], indices[column]
    iou = _moved_iou(
      track.mask, corners[row], found.crop(index)[2], low[column]
    )
    is_same = track.label == found.labels[index]
    similarity[row, column] = iou * (1 if is_same else OTHER_CLASS)
  rows, columns = linear_sum_assignment(similarity, maximize=True)
  return [
    (int(row), indices[column])
    for row, column in zip(rows, columns, strict=True)
    if similarity[row, column] >= MIN_IOU
  ]


def _moved_iou(
  one: np.ndarray,
  corner: np.ndarray,
  other: np.ndarray,
  other_corner: np.ndarray,
) -> float:
  """Returns the IoU of two masks whose corners are at (top, left)."""
  start = np.maximum(corner, other_corner)
  stop = np.minimum(corner + one.shape, other_corner + other.shape)

  def window(mask, corner):
    (top, left), (bottom, right) = start - corner, stop - corner
    return mask[top:bottom, left:right]

  shared = np.count_nonzero(window(one, corner) & window(other, other_corner))
  total = np.count_nonzero(one) + np.count_nonzero(other)
  return shared / (total - shared)
