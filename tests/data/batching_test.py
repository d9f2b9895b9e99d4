"""Tests of solo_jax/data/batching.py."""

import cv2
import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from solo_jax.data import batching, transforms
from solo_jax.data.mask_frames import ImageFrame
from solo_jax.types import Batch
from tests.data.augmented import augment
from tests.data.samples import make_sample, noise, rectangles

OPTIONS = dict(
  image_size=(64, 64),
  mask_stride=4,
  mask_rule="majority",
  max_instances=4,
  min_mask_area=1.0,
)


def make_example(sample, mask_stride, mask_rule, **options):
  frame = ImageFrame(rule=mask_rule, stride=mask_stride)
  return batching.make_example(sample, mask_frame=frame, **options)


def test_example_by_hand():
  # One rectangle from (8, 4) to (24, 20): cells 2..5 x 1..4 at stride 4.
  masks = rectangles((8, 4, 24, 20))
  sample = make_sample(noise(), masks, boxes_xyxy=np.array([[7.5, 4, 24, 20]]))
  example = make_example(sample, **OPTIONS)
  bits = example["masks"].unpack()
  assert example["masks"].data.shape == (4, 16, 2)
  assert bits[0, 1:5, 2:6].all() and bits.sum() == 16
  np.testing.assert_array_equal(example["centers"][0], [15.5, 11.5])
  # Not cropped: the annotated box, not the tight one.
  np.testing.assert_array_equal(example["boxes_xyxy"][0], [7.5, 4, 24, 20])
  np.testing.assert_array_equal(example["valid"], [True] + 3 * [False])
  np.testing.assert_array_equal(example["image_size"], [40, 64])
  assert example["image_valid"] and example["num_dropped"] == 0


def test_example_has_the_fields_and_types_of_a_batch():
  expected = dict(
    image=((64, 64, 3), np.uint8),
    image_size=((2,), np.int32),
    image_valid=((), bool),
    masks=((4, 16, 2), np.uint8),
    centers=((4, 2), np.float32),
    boxes_xyxy=((4, 4), np.float32),
    labels=((4,), np.int32),
    valid=((4,), bool),
    num_dropped=((), np.int32),
  )
  for masks in (None, rectangles((0, 0, 9, 9))):
    example = make_example(make_sample(noise(), masks), **OPTIONS)
    Batch(**example, row=np.int32(0))
    example["masks"] = example["masks"].data
    found = {key: (value.shape, value.dtype) for key, value in example.items()}
    assert found == {k: (s, np.dtype(d)) for k, (s, d) in expected.items()}
  soft = OPTIONS | dict(mask_rule="coverage")
  example = make_example(make_sample(noise()), **soft)
  assert example["masks"].data.shape == (4, 16, 16)


def test_crowds_empty_and_small_masks_are_left_out():
  masks = rectangles((0, 0, 9, 9), (0, 0, 0, 0), (3, 3, 6, 5), (10, 10, 20, 20))
  sample = make_sample(
    noise(), masks, is_crowd=np.array([True, False, False, False])
  )
  example = make_example(sample, **OPTIONS | dict(min_mask_area=7))
  assert example["valid"].sum() == 1 and example["labels"][0] == 3
  # 3 x 2 original pixels are 24 network pixels at twice the size.
  doubled = transforms.resized(sample, (80, 128))
  options = OPTIONS | dict(min_mask_area=24, image_size=(128, 128))
  example = make_example(doubled, **options)
  np.testing.assert_array_equal(example["labels"][:2], [2, 3])


def test_instances_beyond_capacity_are_counted():
  boxes = [(i, i, i + 9, i + 9) for i in range(6)]
  sample = make_sample(noise(), rectangles(*boxes, (0, 0, 0, 0)))
  example = make_example(sample, **OPTIONS)
  assert example["num_dropped"] == 2
  np.testing.assert_array_equal(example["labels"], range(4))


def test_cropped_instance_gets_the_box_of_its_visible_part():
  # An L whose foot alone is inside the window; a second object is whole.
  masks = rectangles((10, 0, 14, 30), (40, 24, 44, 28))
  masks[0, 26:30, 10:30] = True
  boxes = np.array([[9.0, 0, 31, 31], [39.5, 24, 44, 28.5]])
  sample = make_sample(noise(), masks, boxes_xyxy=boxes)
  sample = transforms.cropped(sample, top=20, left=20, size=(20, 44))
  example = make_example(sample, **OPTIONS)
  np.testing.assert_array_equal(example["boxes_xyxy"][0], [0, 6, 10, 10])
  np.testing.assert_array_equal(example["boxes_xyxy"][1], [19.5, 4, 24, 8.5])
  np.testing.assert_array_equal(example["centers"][0], [4.5, 7.5])


def test_box_beyond_the_image_is_clipped():
  sample = make_sample(
    noise(),
    rectangles((50, 30, 64, 40)),
    boxes_xyxy=np.array([[50.0, 30, 64.8, 41]]),
  )
  example = make_example(sample, **OPTIONS)
  np.testing.assert_array_equal(example["boxes_xyxy"][0], [50, 30, 64, 40])


def test_flipping_mirrors_everything():
  masks = rectangles((8, 4, 24, 20), (33, 7, 61, 38))
  boxes = np.array([[8.0, 4, 24, 20], [33, 7, 61, 38]])
  sample = make_sample(noise(), masks, boxes_xyxy=boxes)
  options = OPTIONS | dict(mask_rule="coverage")
  plain = make_example(sample, **options)
  mirrored = make_example(
    transforms.flipped(sample, horizontal=True, vertical=False), **options
  )
  np.testing.assert_array_equal(
    mirrored["masks"].data[:2], plain["masks"].data[:2, :, ::-1]
  )
  np.testing.assert_array_equal(
    mirrored["boxes_xyxy"][:2],
    np.array([64, 0, 64, 0])
    + plain["boxes_xyxy"][:2][:, [2, 1, 0, 3]] * [-1, 1, -1, 1],
  )
  np.testing.assert_array_equal(
    mirrored["centers"][:2, 0], 63 - plain["centers"][:2, 0]
  )


@pytest.mark.golden("preprocess*.npz")
def test_packed_masks_equal_the_fixture(golden):
  size = tuple(golden.config["net_hw"])
  masks = golden.masks("gt_masks_packed", size)
  sample = make_sample(noise(*size), masks)
  filled = masks.any((1, 2))
  strides = [
    int(name.removeprefix("gt_mask_stride"))
    for name in golden.arrays
    if name.startswith("gt_mask_stride")
  ]
  strides = [x for x in strides if size[1] % (8 * x) == 0]  # packed in bytes
  assert strides
  for stride in strides:
    options = dict(
      image_size=size,
      mask_rule="published",
      mask_stride=stride,
      max_instances=len(masks),
    )
    example = make_example(sample, **OPTIONS | options)
    bits = example["masks"].unpack()
    expected = golden[f"gt_mask_stride{stride}"][filled]
    assert example["valid"].sum() == filled.sum()
    np.testing.assert_array_equal(bits[: len(expected)], expected)


def test_corrupt_record_is_an_invalid_image():
  sample = make_sample(np.zeros((40, 64, 3), np.uint8), is_corrupt=True)
  example = make_example(sample, **OPTIONS)
  assert not example["image_valid"] and not example["valid"].any()


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(mask_rule="polygon"), "mask_rule must be one of .* got 'polygon'"),
    (dict(image_size=(64, 80)), "multiple of mask_stride 4 .* 32 in width"),
    (dict(image_size=(66, 64)), "multiple of mask_stride 4"),
    (dict(mask_rule="published", mask_stride=1), "needs an even mask_stride"),
  ],
)
def test_bad_options_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    make_example(make_sample(noise()), **OPTIONS | change)


@hypothesis.given(
  st_numpy.arrays(bool, (5, 40, 64)),
  st_numpy.arrays(bool, 5),
  st.integers(1, 6),
  st.integers(1, 200),
)
def test_any_masks_are_packed_and_unpacked(masks, crowd, capacity, min_area):
  """At scale 1 a bit is the majority of its 16 pixels."""
  sample = make_sample(noise(), masks, is_crowd=crowd)
  options = dict(max_instances=capacity, min_mask_area=min_area)
  example = make_example(sample, **OPTIONS | options)
  wanted = ~crowd & (masks.sum((1, 2)) >= min_area) & masks.any((1, 2))
  kept = np.flatnonzero(wanted)[:capacity]
  assert example["num_dropped"] == wanted.sum() - len(kept)
  np.testing.assert_array_equal(
    example["valid"], np.arange(capacity) < len(kept)
  )
  np.testing.assert_array_equal(example["labels"][: len(kept)], kept)
  bits = example["masks"].unpack()
  expected = np.zeros((capacity, 16, 16), bool)
  blocks = masks[kept].reshape(-1, 10, 4, 16, 4).sum((2, 4))
  expected[: len(kept), :10] = blocks >= 8
  np.testing.assert_array_equal(bits, expected)


def test_drawn_sample_is_an_original_of_its_own():
  """Mirrored, doubled and cropped: its targets are those of the sample."""
  masks = rectangles((8, 4, 24, 20), (33, 7, 61, 38), (0, 0, 2, 2))
  boxes = np.array([[8.0, 4, 24, 20], [33, 7, 61, 38], [0, 0, 2, 2]])
  sample = make_sample(
    noise(), masks, boxes_xyxy=boxes, is_crowd=np.array([False, True, False])
  )
  sample = transforms.flipped(sample, horizontal=True, vertical=False)
  sample = transforms.resized(sample, (80, 128))
  sample = transforms.cropped(sample, top=4, left=6, size=(60, 100))
  drawn = batching.render_sample(sample, interpolation="bilinear")
  assert drawn.image.shape == (60, 100, 3)
  np.testing.assert_array_equal(drawn.affine, np.eye(2, 3))
  np.testing.assert_array_equal(drawn.is_crowd, [False, True])  # one is cut off
  options = OPTIONS | dict(image_size=(64, 128), mask_rule="coverage")
  whole, again = (make_example(s, **options) for s in (sample, drawn))
  # At a whole scale nothing is rounded on the way.
  jax.tree.map(np.testing.assert_array_equal, whole, again)


def test_drawn_sample_of_a_shrunk_image_keeps_what_covers_half_a_pixel():
  masks = rectangles((8, 4, 24, 20), (41, 21, 42, 22))
  sample = transforms.resized(make_sample(noise(), masks), (10, 16))
  drawn = batching.render_sample(sample, interpolation="area")
  dense = drawn.masks.to_dense()
  assert dense.shape == (1, 10, 16)  # 1 of 16 source pixels is not enough
  expected = np.zeros((10, 16), bool)
  expected[1:5, 2:6] = True
  np.testing.assert_array_equal(dense[0], expected)


def test_drawn_sample_may_have_no_instances():
  drawn = batching.render_sample(make_sample(noise()), interpolation="bilinear")
  assert len(drawn.masks) == 0 and drawn.boxes_xyxy.shape == (0, 4)


def test_boxes_of_crowds_are_apart():
  """Scaled with the image and clipped; only as many as there is room for."""
  boxes = (8, 4, 24, 20), (-9, 2, 0, 9), (0, 0, 40, 20), (2, 2, 90, 30)
  sample = make_sample(
    noise(),
    rectangles(*boxes),
    boxes_xyxy=np.array(boxes, float),
    is_crowd=np.array([False, True, True, True]),
  )
  example = make_example(sample, **OPTIONS)
  assert "crowd_boxes_xyxy" not in example
  options = dict(**OPTIONS, max_crowds=3)
  example = make_example(sample, **options)
  assert example["num_crowds_dropped"] == 0
  found = example["crowd_boxes_xyxy"]
  height, width = sample.image_size
  expected = [[0, 0, 40, 20], [2, 2, min(90, width), 30], [0, 0, 0, 0]]
  np.testing.assert_allclose(found, expected)
  example = make_example(sample, **OPTIONS, max_crowds=1)
  np.testing.assert_allclose(example["crowd_boxes_xyxy"], expected[:1])
  assert example["num_crowds_dropped"] == 1


def test_image_and_mask_stay_together():
  # The mask drawn as the image, averaged over cells, is its coverage.
  rng = np.random.default_rng(0)
  mask = np.zeros((120, 160), np.uint8)
  cv2.ellipse(mask, ((70, 50), (90, 40), 30), 1, -1)
  sample = make_sample(
    np.repeat(255 * mask[..., None], 3, axis=-1), mask[None].astype(bool)
  )
  for _ in range(20):
    out = augment(
      sample,
      rng,
      image_size=(128, 128),
      short_sides=(),
      max_side=0,
      scale_jitter=(0.5, 2.0),
      jitter_reference="fit",
      flip=0.5,
      vertical_flip=0.5,
      transpose=0.5,
      color_jitter=0.0,
    )
    example = make_example(
      out,
      interpolation="area",
      **OPTIONS | dict(image_size=(128, 128), mask_rule="coverage"),
    )
    if example["valid"][0]:
      image = example["image"][..., 0].astype(float)
      blocks = image.reshape(32, 4, 32, 4).mean((1, 3))
      # Bilinear reading blurs edges: small differences there, none inside. A
      # shift by one network pixel would differ by 64 along every edge.
      difference = np.abs(blocks - example["masks"].data[0])
      assert difference.max() < 48
      assert difference.mean() < 1.5
