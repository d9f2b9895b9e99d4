"""Tests of solo_jax/inference/tiling.py."""

import numpy as np

from solo_jax import types
from solo_jax.inference.tiling import merge_tiles, tile_origins


def instances(masks, scores, labels=None):
  masks = np.asarray(masks, bool)
  boxes = []
  for mask in masks:
    rows, columns = np.nonzero(mask)
    boxes.append(
      (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
      if len(rows)
      else (0, 0, 0, 0)
    )
  return types.Instances(
    masks=masks,
    scores=np.asarray(scores, np.float32),
    labels=np.zeros(len(scores), np.int32) if labels is None else labels,
    boxes_xyxy=np.asarray(boxes, np.float32).reshape(-1, 4),
  )


def test_tiles_cover_the_image_with_overlap():
  for size in [(256, 256), (100, 300), (520, 696), (1040, 1388), (257, 256)]:
    origins = tile_origins(size, 256, 64)
    for axis in (0, 1):
      starts = sorted({origin[axis] for origin in origins})
      assert starts[0] == 0
      assert starts[-1] == max(size[axis] - 256, 0)
      assert all(
        b - a <= 192 for a, b in zip(starts[:-1], starts[1:], strict=True)
      )
  assert tile_origins((256, 200), 256, 64) == [(0, 0)]


def cut_and_merge(objects, size=(40, 64), tile=24, overlap=12):
  """Finds the visible part of every object in each tile, then merges."""
  origins = tile_origins(size, tile, overlap)
  tiles = []
  for top, left in origins:
    seen = objects[:, top : top + tile, left : left + tile]
    seen = seen[seen.any((1, 2))]
    # Parts that a seam cuts look like good detections, too.
    tiles.append(
      instances(seen.reshape(-1, tile, tile), np.linspace(0.9, 0.5, len(seen)))
    )
  return merge_tiles(tiles, origins, size)


def test_tiled_equals_whole_and_seam_objects_are_found_once():
  objects = np.zeros((5, 40, 64), bool)
  for i, (y, x) in enumerate([(1, 1), (8, 17), (20, 30), (15, 44), (30, 55)]):
    objects[i, y : y + 8, x : x + 9] = True
  merged = cut_and_merge(objects)
  assert len(merged) == 5
  assert {m.tobytes() for m in merged.masks} == {m.tobytes() for m in objects}
  for mask, box in zip(merged.masks, merged.boxes_xyxy, strict=True):
    rows, columns = np.nonzero(mask)
    np.testing.assert_array_equal(
      box, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    )
  assert (np.diff(merged.scores) <= 0).all()


def test_object_larger_than_the_overlap_is_not_lost():
  objects = np.zeros((1, 40, 64), bool)
  objects[0, 5:30, 5:60] = True
  merged = cut_and_merge(objects)
  assert len(merged)
  assert (merged.masks.any(0) & objects[0]).sum() > 0.5 * objects[0].sum()


def test_overlapping_detections_of_one_tile_both_stay():
  mask = np.ones((2, 24, 24), bool)
  merged = merge_tiles([instances(mask, [0.9, 0.8])], [(0, 0)], (24, 24))
  assert len(merged) == 2


def test_other_classes_both_stay():
  masks = np.zeros((1, 24, 24), bool)
  masks[0, 4:8, 14:18] = True
  left = instances(masks, [0.9], np.array([0]))
  right = instances(np.roll(masks, -12, 2), [0.8], np.array([1]))
  assert len(merge_tiles([left, right], [(0, 0), (0, 12)], (24, 36))) == 2


def test_nothing_found():
  empty = instances(np.zeros((0, 24, 24)), [])
  merged = merge_tiles([empty, empty], [(0, 0), (0, 12)], (24, 36))
  assert len(merged) == 0 and merged.masks.shape == (0, 24, 36)
