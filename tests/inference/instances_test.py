"""Tests of solo_jax/inference/instances.py, and of a method of boxes."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import ndimage

from solo_jax import types
from solo_jax.inference.instances import masks_to_original, to_instances
from solo_jax.inference.masks import masks_to_original as frame_masks
from solo_jax.inference.predictor import Predictor

SIZES = dict(padded_size=(64, 96), image_size=(60, 90), original_size=(80, 135))


def decode(masks, boxes=None):
  """Two images of three detections, of which the last is not valid."""
  return types.Decoded(
    masks=masks,
    scores=np.float32([[0.9, 0.8, 0], [0.7, 0.6, 0]]),
    labels=np.int32([[0, 2, 0], [1, 1, 0]]),
    valid=np.array([[True, True, False]] * 2),
    num_dropped=np.zeros(2, np.int32),
    boxes_xyxy=boxes,
  )


def random_boxes(seed=0):
  rng = np.random.default_rng(seed)
  corner = rng.uniform(0, 40, (2, 3, 2))
  size = rng.uniform(10, 40, (2, 3, 2))
  return np.concatenate([corner, corner + size], 2).astype(np.float32)


def test_box_masks_equal_interpolation_in_the_whole_image():
  """SciPy's, with each axis scaled by its own factor, 4/3 and 3/2."""
  boxes = random_boxes()
  probs = np.random.default_rng(1).random((2, 3, 14, 14), np.float32)
  decoded = decode(types.BoxMasks(probs=probs, boxes_xyxy=boxes), boxes)
  y, x = np.mgrid[:80, :135] + 0.5
  for row in range(2):
    found = to_instances(decoded, row, **SIZES, threshold=0.5)
    assert len(found) == 2 and found.masks.shape == (2, 80, 135)
    np.testing.assert_array_equal(found.scores, decoded.scores[row, :2])
    np.testing.assert_array_equal(found.labels, decoded.labels[row, :2])
    factor = np.array([3 / 2, 4 / 3, 3 / 2, 4 / 3])
    np.testing.assert_allclose(
      found.boxes_xyxy, boxes[row, :2] * factor, rtol=1e-6
    )
    for i, mask in enumerate(found.masks):
      left, top, right, bottom = boxes[row, i] * factor
      value = ndimage.map_coordinates(
        probs[row, i].astype(float),
        (
          (y - top) / (bottom - top) * 14 - 0.5,
          (x - left) / (right - left) * 14 - 0.5,
        ),
        order=1,
        mode="grid-constant",
      )
      sure = np.abs(value - 0.5) > 1e-4
      np.testing.assert_array_equal(mask[sure], value[sure] >= 0.5)
      rows, columns = np.nonzero(mask)
      tight = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
      np.testing.assert_array_equal(found.tight_boxes_xyxy[i], tight)


def test_frame_masks_are_those_of_the_valid_rows():
  probs = np.random.default_rng(2).random((2, 3, 16, 24), np.float32)
  probs = ndimage.gaussian_filter(probs, (0, 0, 2, 2))
  found = to_instances(
    decode(types.FrameMasks(probs=probs)), 1, **SIZES, threshold=0.5
  )
  masks, boxes = frame_masks(
    probs[1, :2],
    mask_stride=4,
    image_size=(60, 90),
    original_size=(80, 135),
    threshold=0.5,
  )
  assert masks.any((1, 2)).all()
  np.testing.assert_array_equal(found.masks, masks)
  np.testing.assert_array_equal(found.boxes_xyxy, boxes)
  assert not found.has_predicted_boxes
  assert found.tight_boxes_xyxy is found.boxes_xyxy


def test_predicted_boxes_may_come_with_masks_of_the_frame():
  """YOLACT predicts both."""
  probs = np.ones((2, 3, 16, 24), np.float32)
  found = to_instances(
    decode(types.FrameMasks(probs=probs), random_boxes()),
    0,
    **SIZES,
    threshold=0.5,
  )
  assert found.has_predicted_boxes
  np.testing.assert_array_equal(found.tight_boxes_xyxy, [[0, 0, 135, 80]] * 2)
  assert (found.boxes_xyxy != found.tight_boxes_xyxy).any(1).all()
  for part in (found.first(1), found.take([1]), found.above(0.85)):
    assert len(part) == len(part.boxes_xyxy) == len(part.tight_boxes_xyxy) == 1
    assert part.has_predicted_boxes


def test_other_masks_are_refused():
  with pytest.raises(TypeError, match="FrameMasks or BoxMasks, not .*ndarray"):
    masks_to_original(np.zeros((1, 4, 4)), **SIZES, threshold=0.5)


def test_the_paste_rule_is_no_array():
  """So it survives what maps over arrays, and a jitted function."""
  masks = types.BoxMasks(
    probs=np.zeros((1, 2, 4, 4)),
    boxes_xyxy=np.zeros((1, 2, 4)),
    paste="torchvision",
  )
  assert len(jax.tree.leaves(masks)) == 2
  assert jax.jit(lambda x: x)(masks).paste == "torchvision"


PASTES = ("aligned", "torchvision")


@pytest.mark.parametrize("paste", PASTES)
def test_a_method_of_boxes_predicts(box_method, paste):
  """At the network's size, enlarged, shrunk; alone and in a batch."""
  sizes = [(64, 96), (128, 192), (50, 60), (90, 64)]
  scenes = [box_method.make_scene(*s, seed=i) for i, s in enumerate(sizes)]
  model = box_method.make_model(paste)
  found = Predictor(model, batch_size=2).predict(x.image for x in scenes)
  # torchvision's masks are a pixel wider: a border, and whole pixels.
  for one, scene in zip(found, scenes, strict=True):
    box_method.assert_found(one, scene, min_iou=0.85, box_error=2.5)
  predictor = Predictor(model)
  assert predictor.class_names == ("red", "green", "blue")
  assert predictor.category_ids == (3, 5, 8)
  alone = predictor(scenes[0].image)
  np.testing.assert_array_equal(alone.masks, found[0].masks)
  # Nothing is resized: the boxes are exact.
  np.testing.assert_array_equal(alone.boxes_xyxy, scenes[0].boxes)


def test_tiles_shift_predicted_boxes(box_method):
  """One object in the overlap of two tiles, one in the last tile."""
  image = np.zeros((64, 150, 3), np.uint8)
  image[20:40, 50:62, 0] = 255
  image[30:50, 120:140, 1] = 240
  model = box_method.make_model(
    short_side=64, max_side=64, tile_size=64, tile_overlap=20
  )
  found = Predictor(model)(image)
  np.testing.assert_array_equal(found.labels, [0, 1])
  assert found.has_predicted_boxes
  np.testing.assert_array_equal(
    found.boxes_xyxy, [[50, 20, 62, 40], [120, 30, 140, 50]]
  )
  for i, mask in enumerate(found.masks):
    assert (mask & (image[..., i] > 0)).sum() > 0.9 * mask.sum()
    rows, columns, inside = found.crop(i)
    np.testing.assert_array_equal(inside, mask[rows, columns])
    assert inside.sum() == mask.sum()


def test_variants_are_joined_in_the_first_frame(box_method):
  """Odd sizes, so that mirrored content begins elsewhere than its padding."""
  scenes = [
    box_method.make_scene(*size, seed=i)
    for i, size in enumerate([(64, 96), (101, 77), (50, 93)])
  ]
  model = box_method.make_model()
  images = [scene.image for scene in scenes]
  alone = Predictor(model).predict(images)
  found = Predictor(
    model, batch_size=2, scales=(1.0, 2.0, 1.5), flip=True
  ).predict(images)
  for one, expected, scene in zip(found, alone, scenes, strict=True):
    box_method.assert_found(one, scene)
    assert np.abs(one.boxes_xyxy - expected.boxes_xyxy).max() < 1.5
    for mask, other in zip(one.masks, expected.masks, strict=True):
      assert (mask & other).sum() / (mask | other).sum() > 0.9


def test_a_mirrored_variant_alone_is_in_place(box_method):
  """Not averaged away by others: of an asymmetric mask."""
  image = np.zeros((64, 90, 3), np.uint8)
  for i in range(30):
    image[10 + i, 20 : 22 + i, 0] = 255  # a triangle
  model = box_method.make_model()
  merge = model.method.merge
  method = dataclasses.replace(
    model.method,
    # The first is seen for its frame only.
    merge=lambda variants: merge(
      [dataclasses.replace(variants[0], outputs=0 * variants[0].outputs)]
      + [variants[1]] * 63
    ),
  )
  found = Predictor(dataclasses.replace(model, method=method), flip=True)(image)
  mask, truth = found.masks[0], image[..., 0] > 0
  assert (mask & truth).sum() / (mask | truth).sum() > 0.9
  assert np.abs(found.boxes_xyxy[0] - [20, 10, 51, 40]).max() < 2


def test_direct_masks_equal_interpolation_in_the_whole_image():
  """SciPy's, where a cell is no whole number of pixels, with padding."""
  sizes = dict(
    padded_size=(70, 99), image_size=(61, 99), original_size=(83, 50)
  )
  probs = np.random.default_rng(3).random((2, 3, 18, 26), np.float32)
  probs = ndimage.gaussian_filter(probs, (0, 0, 2, 2))
  masks = types.FrameMasks(probs=probs, resize="direct")
  found = to_instances(decode(masks), 0, **sizes, threshold=0.5)
  y, x = np.mgrid[:83, :50] + 0.5
  y, x = y * 61 / 83 * 18 / 70 - 0.5, x * 99 / 50 * 26 / 99 - 0.5
  for i, mask in enumerate(found.masks):
    value = ndimage.map_coordinates(
      probs[0, i].astype(float), (y, x), order=1, mode="nearest"
    )
    sure = np.abs(value - 0.5) > 1e-5
    np.testing.assert_array_equal(mask[sure], value[sure] > 0.5)
    assert 0 < mask.mean() < 1
