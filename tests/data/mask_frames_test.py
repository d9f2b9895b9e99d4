"""Tests of solo_jax/data/mask_frames.py."""

import numpy as np
import pytest

from solo_jax.data import batching, mask_frames, transforms
from solo_jax.data.mask_frames import BoxFrame, ImageFrame
from solo_jax.types import BoxMaskTargets, PackedMasks
from tests.data.augmented import augment
from tests.data.mask_targets_test import blobs, make_sample

JITTER = dict(
  image_size=(96, 96),
  scale_jitter=(0.5, 2.0),
  jitter_reference="fit",
  flip=0.5,
  vertical_flip=0.5,
  transpose=0.5,
  color_jitter=0.0,
)


def make_example(sample, size, **changes):
  options = dict(image_size=(96, 96), max_instances=6, min_mask_area=1.0)
  return batching.make_example(
    sample, mask_frame=BoxFrame(size=size), **options | changes
  )


def tight_boxes(masks):
  boxes = []
  for mask in masks:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
  return np.array(boxes, np.float64)


def supersampled(sample, index, box, size, samples=24):
  """Share of points of each cell that are on the mask, point by point."""
  left, top, right, bottom = np.float64(box)
  steps = (np.arange(size * samples) + 0.5) / (size * samples)
  x, y = np.meshgrid(
    left + steps * (right - left), top + steps * (bottom - top)
  )
  inverse = np.linalg.inv(np.vstack([sample.affine, [0, 0, 1]]))
  x, y, _ = np.einsum("ij,jhw->ihw", inverse, np.stack([x, y, np.ones_like(x)]))
  mask = sample.masks[index]
  rows = np.clip(np.floor(y).astype(int), 0, mask.shape[0] - 1)
  columns = np.clip(np.floor(x).astype(int), 0, mask.shape[1] - 1)
  inside = mask[rows, columns]
  return inside.reshape(size, samples, size, samples).mean((1, 3))


def test_box_by_hand():
  """Box of 8 x 4 px in 4 x 4 cells of 2 x 1 px; the mask is three pixels."""
  mask = np.zeros((1, 96, 96), bool)
  mask[0, 10, 20] = mask[0, 11, 22:24] = True
  sample = make_sample(mask, boxes_xyxy=np.array([[20.0, 10, 28, 14]]))
  masks = make_example(sample, 4)["masks"]
  assert isinstance(masks, BoxMaskTargets) and masks.data.shape == (6, 4, 4)
  expected = np.zeros((4, 4))
  expected[0, 0], expected[1, 1] = 0.5, 1
  np.testing.assert_allclose(
    masks.unpack(np.array([0]))[0], expected, atol=2e-3
  )
  assert not masks.data[1:].any()


@pytest.mark.parametrize("seed", range(6))
def test_coverage_equals_dense_sampling_in_any_frame(seed):
  masks = blobs(seed, 60, 80, num=4)
  masks = masks[masks.any((1, 2))]
  sample = make_sample(masks, boxes_xyxy=tight_boxes(masks))
  sample = augment(sample, np.random.default_rng(seed), **JITTER)
  example = make_example(sample, 14)
  weights = example["masks"].unpack()
  assert example["valid"].any()
  for row in np.flatnonzero(example["valid"]):
    expected = supersampled(
      sample, example["labels"][row], example["boxes_xyxy"][row], 14
    )
    # 24 points per side see an edge within 1 / 24 of a cell.
    np.testing.assert_allclose(weights[row], expected, atol=1.5 / 24)
    np.testing.assert_allclose(weights[row].mean(), expected.mean(), atol=5e-3)


def test_mirrored_image_has_the_mirrored_mask_at_the_same_size():
  masks = blobs(3, 96, 96, num=3)
  sample = make_sample(masks, boxes_xyxy=tight_boxes(masks))
  plain = make_example(sample, 28)["masks"].data
  mirrored = make_example(
    transforms.flipped(sample, horizontal=True, vertical=False), 28
  )["masks"].data
  # Only rounding may differ, here and where the box is larger.
  assert np.abs(mirrored[:, :, ::-1].astype(int) - plain).max() <= 1
  enlarged = make_example(
    transforms.resized(sample, (192, 192)), 28, image_size=(192, 192)
  )["masks"].data
  assert np.abs(enlarged.astype(int) - plain).max() <= 1


def test_box_that_a_crop_cuts_is_that_of_what_is_left():
  mask = np.zeros((1, 96, 96), bool)
  mask[0, 10:30, 20:60] = True
  sample = make_sample(mask, boxes_xyxy=np.array([[20.0, 10, 60, 30]]))
  sample = transforms.cropped(sample, top=0, left=0, size=(96, 40))
  example = make_example(sample, 8)
  np.testing.assert_array_equal(example["boxes_xyxy"][0], [20, 10, 40, 30])
  assert (example["masks"].data[0] == 255).all()


def test_annotated_box_without_area_has_an_empty_mask():
  mask = np.zeros((1, 96, 96), bool)
  mask[0, 10:30, 20:60] = True
  sample = make_sample(mask, boxes_xyxy=np.array([[20.0, 10, 20, 30]]))
  example = make_example(sample, 8)
  assert example["valid"][0] and not example["masks"].data.any()


def test_settings_choose_the_frame():
  fields = dict(mask_rule="coverage", mask_stride=4, box_mask_size=112)
  image = ImageFrame(rule="coverage", stride=4)
  assert mask_frames.from_settings(fields | dict(mask_frame="image")) == image
  box = mask_frames.from_settings(fields | dict(mask_frame="box"))
  assert box == BoxFrame(size=112)
  with pytest.raises(ValueError, match="'image' or 'box', got 'crop'"):
    mask_frames.from_settings(fields | dict(mask_frame="crop"))


def test_empty_masks_know_how_they_are_packed():
  masks = ImageFrame(rule="majority", stride=4).empty(3, (64, 96))
  assert isinstance(masks, PackedMasks) and masks.data.shape == (3, 16, 3)
  assert (masks.encoding, masks.stride, masks.size) == ("bits", 4, (16, 24))
  masks = ImageFrame(rule="coverage", stride=2).empty(3, (64, 96))
  assert (masks.encoding, masks.stride, masks.size) == ("coverage", 2, (32, 48))
