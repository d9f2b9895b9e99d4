"""Tests of solo_jax/data/mask_targets.py."""

import dataclasses
import json
import pathlib

import cv2
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from pycocotools import mask as coco_mask

from solo_jax.data import mask_targets, transforms
from solo_jax.types import Sample
from tests.data.augmented import augment

COCO = pathlib.Path(__file__).parents[2].parent / "shared/data/coco_sample"
JITTER = dict(
  image_size=(256, 256),
  short_sides=(256,),
  max_side=256,
  scale_jitter=(0.1, 2.0),
  jitter_reference="fit",
  flip=0.5,
  vertical_flip=0.5,
  transpose=0.5,
  color_jitter=0.0,
)


def make_sample(masks, boxes_xyxy=None):
  masks = np.asarray(masks, bool)
  num, height, width = masks.shape
  return Sample(
    image=np.zeros((height, width, 3), np.uint8),
    masks=masks,
    labels=np.arange(num, dtype=np.int32),
    areas=masks.sum((1, 2)).astype(np.float64),
    boxes_xyxy=np.zeros((num, 4)) if boxes_xyxy is None else boxes_xyxy,
    is_crowd=np.zeros(num, bool),
    annotation_ids=np.arange(1, num + 1),
    image_id=7,
    file_name="7.jpg",
    original_size=(height, width),
    affine=np.eye(2, 3),
    image_size=(height, width),
  )


def find(sample, index=0):
  is_transposed, y, x = transforms.split_axes(sample)
  mask = sample.masks[index].view(np.uint8)
  return mask_targets.find_visible(mask.T if is_transposed else mask, y, x)


def target(sample, rule, stride, size, index=0):
  """The whole mask target of one instance, None if invisible."""
  visible = find(sample, index)
  if visible is None:
    return None
  _, y, x = transforms.split_axes(sample)
  h, w = size[0] // stride, size[1] // stride
  rows, columns, cells = mask_targets.fill_cells(
    visible,
    mask_targets.locate_cells(y, h, stride, rule),
    mask_targets.locate_cells(x, w, stride, rule),
    stride,
    rule,
  )
  out = np.zeros((h, w), cells.dtype)
  out[rows, columns] = cells
  return out


def overlaps(axis, num_cells, stride):
  """Length of each original pixel within each cell, network pixels."""
  pixels = axis.scale * np.arange(axis.length + 1) + axis.offset
  low = np.minimum(pixels[:-1], pixels[1:])
  high = np.maximum(pixels[:-1], pixels[1:])
  cells = np.minimum(np.arange(num_cells + 1) * stride, axis.extent)
  return np.clip(
    np.minimum(high, cells[1:, None]) - np.maximum(low, cells[:-1, None]),
    0,
    None,
  )


def exact_coverage(sample, stride, size, index=0):
  """Covered fraction of each cell, pixel by pixel as two dense matrices."""
  is_transposed, y, x = transforms.split_axes(sample)
  mask = sample.masks[index].astype(np.float64)
  mask = mask.T if is_transposed else mask
  rows = overlaps(y, size[0] // stride, stride)
  columns = overlaps(x, size[1] // stride, stride)
  # Zero rows and columns of the mask are left out for speed only.
  filled = mask.any(1), mask.any(0)
  inner = rows[:, filled[0]] @ mask[np.ix_(*filled)] @ columns[:, filled[1]].T
  return inner / stride**2


def blobs(seed, height=180, width=240, num=6):
  """Irregular masks: rotated ellipses with holes cut by other ellipses."""
  rng = np.random.default_rng(seed)
  masks = np.zeros((num, height, width), np.uint8)
  for mask in masks:
    center = rng.uniform(0, [width, height])
    for value, grow in ((1, 1.0), (0, 0.4)):
      axes = rng.uniform(8, 60, 2) * grow
      shift = rng.uniform(-20, 20, 2) * (value == 0)
      box = tuple(center + shift), tuple(2 * axes), rng.uniform(0, 180)
      cv2.ellipse(mask, box, value, -1)
  return masks.astype(bool)


def jittered(sample, seed, size=256):
  return augment(
    sample, np.random.default_rng(seed), **JITTER | dict(image_size=(size,) * 2)
  )


def test_visible_part_by_hand():
  # Pixels (row, column) (1, 2), (1, 3), (2, 3): the box is 2..4 x 1..3, the
  # mean column (2 + 3 + 3) / 3, the mean row (1 + 1 + 2) / 3.
  mask = np.zeros((1, 6, 8), bool)
  mask[0, [1, 1, 2], [2, 3, 3]] = True
  visible = find(make_sample(mask))
  assert visible.area == 3
  assert visible.box_xyxy == (2, 1, 4, 3)
  np.testing.assert_allclose(visible.center, (8 / 3, 4 / 3), rtol=1e-15)
  # At scale 2 pixel 2 shows as 4 and 5: mean index 2 * mean + 0.5.
  visible = find(transforms.resized(make_sample(mask), (12, 16)))
  assert visible.area == 12
  assert visible.box_xyxy == (4, 2, 8, 6)
  np.testing.assert_allclose(visible.center, (16 / 3 + 0.5, 8 / 3 + 0.5))
  # A window from column 3 on leaves (1, 3) and (2, 3).
  cropped = transforms.cropped(make_sample(mask), top=0, left=3, size=(6, 5))
  visible = find(cropped)
  assert visible.area == 2
  assert visible.box_xyxy == (0, 1, 1, 3)
  assert visible.center == (0, 1.5)


@pytest.mark.parametrize("seed", range(6))
def test_visible_part_matches_the_drawn_mask(seed):
  # At scale 1 the mask in the network frame is the mask, moved: take it from
  # numpy slices.
  sample = make_sample(blobs(seed))
  rng = np.random.default_rng(seed)
  top, left = rng.integers(0, 60, 2)
  moved = transforms.transposed(sample)
  moved = transforms.flipped(moved, horizontal=True, vertical=bool(seed % 2))
  moved = transforms.cropped(moved, top=top, left=left, size=(128, 96))
  planes = sample.masks.transpose(0, 2, 1)[:, :, ::-1]
  planes = planes[:, ::-1] if seed % 2 else planes
  planes = planes[:, top : top + 128, left : left + 96]
  for index, plane in enumerate(planes):
    visible = find(moved, index)
    if not plane.any():
      assert visible is None
      continue
    rows, columns = np.nonzero(plane)
    assert visible.area == len(rows)
    np.testing.assert_allclose(
      visible.center, (columns.mean(), rows.mean()), rtol=1e-12
    )
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert visible.box_xyxy == box


def test_nothing_visible_gives_none():
  masks = np.zeros((2, 16, 16), bool)
  masks[1, 0, 0] = True
  sample = make_sample(masks)
  assert find(sample, 0) is None
  sample = transforms.cropped(sample, top=4, left=4, size=(8, 8))
  assert find(sample, 1) is None


@pytest.mark.golden("preprocess*.npz")
def test_published_rule_equals_the_fixture(golden):
  size = tuple(golden.config["net_hw"])
  sample = make_sample(golden.masks("gt_masks_packed", size))
  names = [name for name in golden.arrays if name.startswith("gt_mask_stride")]
  assert names
  for name in names:
    stride = int(name.removeprefix("gt_mask_stride"))
    for index, mask in enumerate(golden[name]):
      out = target(sample, "published", stride, size, index)
      if out is None:
        assert not mask.any()
      else:
        np.testing.assert_array_equal(out, mask)


@pytest.mark.golden("preprocess*.npz")
def test_published_rule_on_all_patterns_of_a_cell(golden):
  for pattern, bit in zip(
    golden["mask4_pattern"], golden["mask4_resized"], strict=True
  ):
    if pattern.any():
      size = pattern.shape
      out = target(make_sample(pattern[None]), "published", size[0], size)
      assert out.item() == bit


@pytest.mark.parametrize("size", [(90, 120), (200, 267), (360, 480)])
@pytest.mark.parametrize("stride", [2, 4])
def test_published_rule_is_two_opencv_resizes(size, stride):
  sample = make_sample(blobs(1))
  resized = transforms.resized(sample, size)
  resized = transforms.flipped(resized, horizontal=True, vertical=False)
  height, width = (-(-side // 8) * 8 for side in size)
  for index, mask in enumerate(sample.masks.astype(np.uint8)):
    mask = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
    padded = np.zeros((height, width), np.uint8)
    padded[: size[0], : size[1]] = mask[:, ::-1]
    expected = cv2.resize(padded, (width // stride, height // stride))
    out = target(resized, "published", stride, (height, width), index)
    np.testing.assert_array_equal(out, expected)


def test_majority_rule_by_hand():
  # Stride 4: of the cells' 16 pixels, 7 and 8 and 16.
  mask = np.zeros((1, 8, 16), bool)
  mask[0, :4, 0:2] = True
  mask[0, 0, 1] = False
  mask[0, :2, 4:8] = True
  mask[0, 4:, 8:12] = True
  out = target(make_sample(mask), "majority", 4, (8, 16))
  np.testing.assert_array_equal(out, [[0, 1, 0, 0], [0, 0, 1, 0]])


@pytest.mark.parametrize("seed", range(8))
def test_majority_is_coverage_of_half_in_any_frame(seed):
  sample = jittered(make_sample(blobs(seed)), seed)
  for index in range(len(sample.masks)):
    expected = exact_coverage(sample, 4, (256, 256), index)
    out = target(sample, "majority", 4, (256, 256), index)
    out = np.zeros((64, 64), bool) if out is None else out
    is_sure = np.abs(expected - 0.5) > 1e-5
    np.testing.assert_array_equal(out[is_sure], expected[is_sure] >= 0.5)


@pytest.mark.parametrize("stride", [2, 4])
def test_coverage_at_scale_one_is_the_block_mean(stride):
  masks = blobs(0, 96, 128)
  means = masks.reshape(-1, 96 // stride, stride, 128 // stride, stride)
  for index, mean in enumerate(means.mean((2, 4))):
    out = target(make_sample(masks), "coverage", stride, (96, 128), index)
    assert out.dtype == np.uint8
    np.testing.assert_allclose(out, 255 * mean, atol=0.5)


@pytest.mark.parametrize("memory", ["rows", "columns"])
@pytest.mark.parametrize("seed", range(8))
def test_coverage_is_exact_in_any_frame(seed, memory):
  masks = blobs(seed)
  if memory == "columns":
    masks = np.ascontiguousarray(masks.transpose(0, 2, 1)).transpose(0, 2, 1)
  sample = jittered(make_sample(masks), seed)
  for index in range(len(masks)):
    expected = 255 * exact_coverage(sample, 4, (256, 256), index)
    out = target(sample, "coverage", 4, (256, 256), index)
    np.testing.assert_allclose(
      0 if out is None else out, expected, atol=0.5 + 1e-6
    )


def mean_iou(samples, size=512):
  """Mean IoU of 'majority' masks against half covered cells, by object."""
  ious = []
  for sample in samples:
    for index in np.flatnonzero(~sample.is_crowd):
      out = target(sample, "majority", 4, (size, size), index)
      expected = exact_coverage(sample, 4, (size, size), index) >= 0.5
      # An object that covers no cell by half has no exact mask to compare.
      if expected.any():
        ious.append((out & expected).sum() / (out | expected).sum())
  assert len(ious) > 50  # objects
  return np.mean(ious)


def test_majority_masks_are_where_the_area_is():
  samples = [
    jittered(make_sample(blobs(seed)), seed, 512) for seed in range(16)
  ]
  assert mean_iou(samples) >= 0.99


def real_samples(num):
  if not COCO.exists():
    pytest.skip(f"no COCO sample at {COCO}")
  path = COCO / "annotations/instances_train2017.json"
  source = json.loads(path.read_text())
  for image in source["images"][:num]:
    size = image["height"], image["width"]
    masks, is_crowd = [], []
    for item in source["annotations"]:
      if item["image_id"] == image["id"]:
        rle = item["segmentation"]
        if isinstance(rle, list):
          rle = coco_mask.merge(coco_mask.frPyObjects(rle, *size))
        elif isinstance(rle["counts"], list):
          rle = coco_mask.frPyObjects(rle, *size)
        masks.append(coco_mask.decode(rle))
        is_crowd.append(bool(item["iscrowd"]))
    if masks:
      sample = make_sample(np.stack(masks))
      yield dataclasses.replace(sample, is_crowd=np.array(is_crowd))


def test_majority_masks_are_where_the_area_is_on_real_images():
  recipe = JITTER | dict(image_size=(512, 512), vertical_flip=0, transpose=0)
  samples = [
    augment(sample, np.random.default_rng(seed), **recipe)
    for seed, sample in enumerate(real_samples(80))
  ]
  assert mean_iou(samples) >= 0.99


SIZES = st.sampled_from([(1, 1), (1, 40), (37, 1), (7, 13), (24, 31)])
FRAMES = st.fixed_dictionaries(
  dict(
    image_size=st.sampled_from([(32, 32), (16, 48), (48, 16)]),
    short_sides=st.lists(st.integers(1, 64), min_size=1, max_size=2),
    max_side=st.integers(1, 64),
    scale_jitter=st.none() | st.tuples(st.floats(0.05, 1), st.floats(1, 20)),
    jitter_reference=st.sampled_from(["fit", "original"]),
    flip=st.floats(0, 1),
    vertical_flip=st.floats(0, 1),
    transpose=st.floats(0, 1),
    color_jitter=st.just(0.0),
  )
)


@hypothesis.given(
  SIZES.flatmap(lambda size: st_numpy.arrays(bool, (1, *size))),
  FRAMES,
  st.integers(0, 2**32 - 1),
)
def test_any_mask_in_any_frame(masks, frame, seed):
  """Against two dense matrices; the published rule against OpenCV."""
  sample = augment(make_sample(masks), np.random.default_rng(seed), **frame)
  size = frame["image_size"]
  assert max(np.subtract(sample.image_size, size)) <= 0
  expected = exact_coverage(sample, 4, size)
  visible = find(sample)
  if visible is None:
    assert expected.max() < 1e-9
    return
  # Whole original pixels count, also where the frame cuts them.
  assert visible.area >= expected.sum() * 16 * (1 - 1e-6)
  if not frame["scale_jitter"]:  # nothing is cut
    np.testing.assert_allclose(visible.area, expected.sum() * 16, rtol=1e-6)
  low, high = np.reshape(visible.box_xyxy, (2, 2))
  assert (low >= 0).all() and (high <= sample.image_size[::-1]).all()
  center = np.array(visible.center)
  assert (center >= 0).all() and (center < sample.image_size[::-1]).all()
  found = target(sample, "coverage", 4, size)
  np.testing.assert_allclose(found, 255 * expected, atol=0.51)
  is_sure = np.abs(expected - 0.5) > 1e-5
  found = target(sample, "majority", 4, size)
  np.testing.assert_array_equal(found[is_sure], expected[is_sure] >= 0.5)
  if frame["scale_jitter"]:
    return
  is_transposed, y, x = transforms.split_axes(sample)
  mask = np.ascontiguousarray(masks[0].T if is_transposed else masks[0])
  height, width = sample.image_size  # not cropped
  mask = cv2.resize(
    mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
  )
  padded = np.zeros(size, np.uint8)
  padded[:height, :width] = mask[
    :: int(np.sign(y.scale)), :: int(np.sign(x.scale))
  ]
  np.testing.assert_array_equal(
    target(sample, "published", 4, size),
    cv2.resize(padded, (size[1] // 4, size[0] // 4)),
  )
