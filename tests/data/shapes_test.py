"""Tests of solo_jax/data/shapes.py."""

import cv2
import numpy as np
import pytest

from solo_jax.data import shapes
from solo_jax.data.records import open_records, read_sample


@pytest.fixture(scope="module")
def scenes():
  return [shapes.draw_scene(np.random.default_rng((0, i))) for i in range(60)]


def test_same_seed_same_scene(scenes):
  again = shapes.draw_scene(np.random.default_rng((0, 5)))
  np.testing.assert_array_equal(again.image, scenes[5].image)
  np.testing.assert_array_equal(again.masks, scenes[5].masks)
  other = shapes.draw_scene(np.random.default_rng((1, 5)))
  assert (other.image != again.image).any()


def test_scenes_are_as_promised(scenes):
  counts = [len(scene.labels) for scene in scenes]
  assert (min(counts), max(counts)) == (3, 9)
  labels = np.concatenate([scene.labels for scene in scenes])
  assert (np.bincount(labels) > 0.1 * len(labels)).all()
  for scene in scenes:
    assert scene.image.shape == (128, 128, 3)
    assert (scene.masks.sum(0) <= 1).all()  # one owner a pixel
    visible = scene.masks.sum((1, 2))
    assert (visible <= scene.full_areas).all()
    assert (visible >= shapes.MIN_VISIBLE_PIXELS).all()
    assert (visible >= shapes.MIN_VISIBLE_FRACTION * scene.full_areas).all()


def test_a_third_of_the_objects_is_covered_by_another(scenes):
  covered = [scene.masks.sum((1, 2)) < scene.full_areas for scene in scenes]
  assert np.concatenate(covered).mean() >= 1 / 3


def test_some_objects_fall_apart(scenes):
  parts = [
    cv2.connectedComponents(mask.astype(np.uint8))[0] - 1
    for scene in scenes
    for mask in scene.masks
  ]
  assert np.mean(np.array(parts) > 1) > 0.05


def test_shapes_do_not_exceed_their_largest_size(scenes):
  longest = []
  for scene in scenes:
    for mask in scene.masks:
      rows, columns = np.nonzero(mask)
      longest.append(max(np.ptp(rows), np.ptp(columns)) + 1)
  assert max(longest) <= 72 + 1  # a circle of 72 may touch 73 pixels


def test_masks_and_colours_agree(scenes):
  """Pixels well inside a mask look like the mask's colour, up to noise."""
  for scene in scenes[:20]:
    for mask in scene.masks:
      inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))) > 0
      if inner.sum() > 20:
        spread = scene.image[inner].astype(float).std(0)
        assert spread.max() < 25  # noise of at most 10 and the shading


@pytest.mark.parametrize("label", range(5))
def test_silhouette_areas(label):
  """Pixel counts against the areas of the figures, for radius 30."""
  rng = np.random.default_rng(0)
  center, radius = np.array([64.0, 64.0]), 30.0
  disc = np.pi * radius**2
  fractions = []
  for _ in range(20):
    fine = shapes._draw_silhouette(rng, label, center, radius)
    fractions.append(fine.sum() / shapes.FINE**2 / disc)
  low, high = {
    "disc": (0.999, 1.001),
    "ring": (1 - 0.7**2 - 0.01, 1 - 0.45**2 + 0.01),
    # sin(2 half) / (pi / 2): from aspect 1:5 to the square
    "rectangle": (0.24, 2 / np.pi + 0.01),
    "triangle": (0.3, 3 * np.sqrt(3) / 4 / np.pi + 0.01),
    # 5 r sin(36 degrees) / pi for inner radius r
    "star": (0.38 * 0.9355 - 0.01, 0.52 * 0.9355 + 0.01),
  }[shapes.CLASS_NAMES[label]]
  assert low <= min(fractions) and max(fractions) <= high


def test_inside_polygon_by_hand():
  square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]])
  x = np.array([1, 3, -1, 1, 1.9])
  y = np.array([1, 1, 1, 3, 0.1])
  np.testing.assert_array_equal(
    shapes.inside_polygon(x, y, square), [True, False, False, False, True]
  )


def test_records_hold_the_scenes(tmp_path):
  path = str(tmp_path)
  shapes.Shapes(
    data_dir=path, name="few", seed=4, num_train=3, num_validation=2
  ).prepare()
  records = open_records(path, "shapes/few", "validation")
  assert records.class_names == shapes.CLASS_NAMES
  assert records.category_ids == (1, 2, 3, 4, 5)
  assert list(records.image_ids) == [4, 5]  # after those of train
  sample = read_sample(records[1])
  scene = shapes.draw_scene(np.random.default_rng((4, 5)))
  np.testing.assert_array_equal(sample.image, scene.image)
  np.testing.assert_array_equal(sample.masks, scene.masks)
  np.testing.assert_array_equal(sample.labels, scene.labels)
  np.testing.assert_array_equal(sample.areas, scene.masks.sum((1, 2)))


def test_ids_differ_between_images():
  images = shapes.DrawnScenes(seed=0, first_id=1, num_images=20)
  ids = [x.annotation_id for i in range(20) for x in images[i][1].objects]
  assert len(set(ids)) == len(ids) and min(ids) > 0
