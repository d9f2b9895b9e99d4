"""Tests of solo_jax/inference/tiling.py."""

import dataclasses
import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from solo_jax import types
from solo_jax.inference import tiling
from solo_jax.inference.tiling import tile_origins


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


def merge_tiles(tiles, origins, size):
  tile_size = max(tiles[0].masks.shape[1:])
  pieces = [
    tiling.cut_out(found, origin, size)
    for found, origin in zip(tiles, origins, strict=True)
  ]
  return tiling.merge_tiles(
    pieces,
    origins,
    tile_size,
    size,
    has_predicted_boxes=tiles[0].has_predicted_boxes,
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
  found = merged.masks.to_dense().any(0)
  assert (found & objects[0]).sum() > 0.5 * objects[0].sum()


def test_overlapping_detections_of_one_tile_both_stay():
  mask = np.ones((2, 24, 24), bool)
  merged = merge_tiles([instances(mask, [0.9, 0.8])], [(0, 0)], (24, 24))
  assert len(merged) == 2


def test_predicted_boxes_go_with_their_detections():
  """The better of two tiles' boxes, at its place in the image."""
  mask = np.zeros((1, 24, 24), bool)
  mask[0, 4:8, 14:18] = True
  left = instances(mask, [0.7])
  right = instances(np.roll(mask, -12, 2), [0.8])
  left, right = (
    dataclasses.replace(
      found, boxes_xyxy=np.float32([box]), mask_boxes_xyxy=found.boxes_xyxy
    )
    for found, box in ((left, (13, 3, 19, 9)), (right, (1.5, 3.5, 6.5, 8.5)))
  )
  merged = merge_tiles([left, right], [(30, 0), (30, 12)], (54, 36))
  assert len(merged) == 1 and merged.has_predicted_boxes
  np.testing.assert_array_equal(merged.boxes_xyxy, [[13.5, 33.5, 18.5, 38.5]])
  np.testing.assert_array_equal(merged.tight_boxes_xyxy, [[14, 34, 18, 38]])
  rows, columns, inside = merged.crop(0)
  assert (rows, columns) == (slice(34, 38), slice(14, 18)) and inside.all()


def test_other_classes_both_stay():
  masks = np.zeros((1, 24, 24), bool)
  masks[0, 4:8, 14:18] = True
  left = instances(masks, [0.9], np.array([0]))
  right = instances(np.roll(masks, -12, 2), [0.8], np.array([1]))
  assert len(merge_tiles([left, right], [(0, 0), (0, 12)], (24, 36))) == 2


def test_tiles_without_instances_merge_to_none():
  empty = instances(np.zeros((0, 24, 24)), [])
  merged = merge_tiles([empty, empty], [(0, 0), (0, 12)], (24, 36))
  assert len(merged) == 0 and merged.masks.shape == (0, 24, 36)


def merge_by_comparing_all(tiles, origins, size):
  """The rule word by word, on dense masks: [(score, mask bytes)]."""
  found = []
  for tile, (origin, instances) in enumerate(zip(origins, tiles, strict=True)):
    for mask, score, label in zip(
      instances.masks, instances.scores, instances.labels, strict=True
    ):
      whole = np.zeros(size, bool)
      height, width = mask.shape
      rows = slice(origin[0], origin[0] + height)
      whole[rows, origin[1] : origin[1] + width] = mask
      # A seam is an edge of the tile that is no edge of the image.
      is_cut = (
        (mask[0].any() and origin[0] > 0)
        or (mask[-1].any() and rows.stop < size[0])
        or (mask[:, 0].any() and origin[1] > 0)
        or (mask[:, -1].any() and origin[1] + width < size[1])
      )
      if mask.any():
        found.append((bool(is_cut), -float(score), tile, label, whole))
  kept = []
  for item in sorted(found, key=lambda item: item[:2]):
    _, _, tile, label, mask = item
    if not any(
      tile != other[2]
      and label == other[3]
      and (mask & other[4]).sum() > 0.5 * min(mask.sum(), other[4].sum())
      for other in kept
    ):
      kept.append(item)
  kept.sort(key=lambda item: item[1])
  return [(-item[1], item[4].tobytes()) for item in kept]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("tile", "overlap"), [(16, 4), (16, 11), (40, 4)])
def test_equals_comparing_all_with_all(seed, tile, overlap):
  rng = np.random.default_rng(seed)
  size = (37, 50)
  origins = tile_origins(size, tile, overlap)
  tiles = []
  for top, left in origins:
    height = min(tile, size[0] - top)
    width = min(tile, size[1] - left)
    number = rng.integers(0, 5)
    masks = np.zeros((number, height, width), bool)
    for mask in masks:
      y, x = rng.integers(0, height - 4), rng.integers(0, width - 4)
      mask[y : y + rng.integers(2, 9), x : x + rng.integers(2, 9)] = True
    tiles.append(
      instances(masks, rng.random(number), rng.integers(0, 2, number))
    )
  merged = merge_tiles(tiles, origins, size)
  found = list(zip(merged.scores, (m.tobytes() for m in merged.masks)))  # noqa: B905
  expected = merge_by_comparing_all(tiles, origins, size)
  assert [mask for _, mask in found] == [mask for _, mask in expected]
  np.testing.assert_allclose(
    [score for score, _ in found], [score for score, _ in expected], rtol=1e-6
  )


def test_memory_follows_the_objects_not_the_image():
  """3,000 objects; dense masks of them would take 60 GB."""
  size, tile = (4360, 4360), 264
  origins = tile_origins(size, tile, 8)
  assert len(origins) == 17**2
  mask = np.zeros((11, tile, tile), bool)
  for i in range(11):
    mask[i, 20 * i + 10 : 20 * i + 20, 100:110] = True
  found = instances(mask, np.full(11, 0.9))
  tracemalloc.start()
  pieces = [tiling.cut_out(found, origin, size) for origin in origins]
  merged = tiling.merge_tiles(
    pieces, origins, tile, size, has_predicted_boxes=False
  )
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert len(merged) == 11 * 17**2
  assert merged.masks.shape == (11 * 17**2, *size)
  assert peak < 20e6
  assert len(merged.above(0.95)) == 0 and len(merged.first(3)) == 3


@hypothesis.given(
  st.tuples(st.integers(1, 500), st.integers(1, 500)),
  st.integers(2, 200).flatmap(
    lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1))
  ),
)
def test_any_tiles_cover_the_image_and_share_the_overlap(size, tile):
  """Whatever fits into the overlap is complete in one tile."""
  tile, overlap = tile
  origins = tile_origins(size, tile, overlap)
  rows, columns = (sorted({x[axis] for x in origins}) for axis in (0, 1))
  assert origins == [(y, x) for y in rows for x in columns]
  for starts, length in ((rows, size[0]), (columns, size[1])):
    assert starts[0] == 0 and starts[-1] == max(length - tile, 0)
    assert all(np.diff(starts) <= tile - overlap)
    # And no more of them than that takes.
    assert len(starts) == 1 or (len(starts) - 1) * (tile - overlap) < (
      length - overlap
    )


@hypothesis.given(
  st.sampled_from([(16, 4), (16, 11), (24, 23), (40, 4), (9, 0)]),
  st.data(),
)
def test_any_detections_are_merged_as_by_comparing_all(tile, data):
  tile, overlap = tile
  size = (37, 30)
  origins = tile_origins(size, tile, overlap)
  tiles, rank = [], 0
  for top, left in origins:
    shape = min(tile, size[0] - top), min(tile, size[1] - left)
    count = data.draw(st.integers(0, 3))
    masks = np.zeros((count, *shape), bool)
    for mask in masks:
      (y, height), (x, width) = (
        data.draw(st.tuples(st.integers(0, side - 1), st.integers(0, 9)))
        for side in shape
      )
      mask[y : y + height, x : x + width] = True
    # All different: which of two equal scores wins is not promised.
    scores = np.float32([1 / (2 + rank + i) for i in range(count)])
    rank += count
    labels = data.draw(
      st.lists(st.integers(0, 1), min_size=count, max_size=count)
    )
    tiles.append(instances(masks, scores, labels))
  merged = merge_tiles(tiles, origins, size)
  assert [
    (score, mask.tobytes())
    for score, mask in zip(merged.scores, merged.masks, strict=True)
  ] == merge_by_comparing_all(tiles, origins, size)


def test_an_image_without_detections_keeps_the_kind_of_its_boxes():
  for is_predicted in (False, True):
    merged = tiling.merge_tiles(
      [[], []],
      [(0, 0), (0, 12)],
      24,
      (24, 36),
      has_predicted_boxes=is_predicted,
    )
    assert len(merged) == 0
    assert merged.has_predicted_boxes == is_predicted
    assert merged.tight_boxes_xyxy.shape == (0, 4)
