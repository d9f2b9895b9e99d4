"""Tests of solo_jax/inspection/pictures.py."""

import dataclasses

import cv2
import numpy as np
import pytest

from solo_jax.building import build_method
from solo_jax.inspection import pictures
from solo_jax.inspection.frames import inference_frames
from solo_jax.inspection.pictures import LOST_COLOR, draw_frames
from tests.inspection.conftest import make_sample, sections


def draw(sample, name, abilities=None, **changed):
  config = sections(
    name, preprocessing__short_side=128, preprocessing__max_side=128, **changed
  )
  return draw_frames(
    inference_frames(sample, config["preprocessing"]),
    dataclasses.replace(build_method(config), **abilities or {}),
    ("thing",) * 5,
    transforms=config["transforms"],
    interpolation="bilinear",
  )


def panels(picture):
  """The three panels [512, 512, 3] below their titles."""
  top = picture.shape[0] - 512 - 8
  return [
    picture[top : top + 512, 8 + i * 520 : 8 + i * 520 + 512].astype(int)
    for i in range(3)
  ]


def test_cells_lie_on_their_instance_and_a_lost_one_is_framed():
  # The inner of two nested squares comes later and has their only cell.
  sample = make_sample([(32, 32, 40, 40), (33, 33, 39, 39)], (128, 128))
  picture = draw(sample, "solov2_shapes", network__num_grids=(8, 4))
  image, targets, cells = panels(picture)
  changed = np.abs(cells - image).sum(2) > 20
  # The cell of 16 px that holds (36, 36), four times enlarged.
  assert changed[4 * 32 : 4 * 48, 4 * 32 : 4 * 48].mean() > 0.5
  assert not changed[300:, 300:].any()
  assert (np.abs(targets - image).sum(2) > 20)[4 * 33 : 4 * 39].any()
  is_red = (cells == LOST_COLOR).all(2)
  rows, columns = np.nonzero(is_red)
  assert rows.min() == pytest.approx(128, abs=3)
  assert columns.min() == pytest.approx(128, abs=3)


def test_signs_of_objects_at_one_place_do_not_overlap():
  boxes = np.array([[40, 40, 44, 44]] * 4, float)
  rows = np.array(["no cell left"] * 4, object)
  picture = pictures._draw_signs(np.zeros((200, 200, 3), np.uint8), boxes, rows)
  is_sign = (picture == pictures.SIGN_COLOR).all(2)
  count, _, areas, _ = cv2.connectedComponentsWithStats(
    is_sign.astype(np.uint8), connectivity=4
  )
  assert sum(areas[1:count, cv2.CC_STAT_AREA] > 300) >= 3


def test_groups_of_embeddings_are_drawn():
  sample = make_sample([(8, 8, 40, 40), (60, 60, 100, 100)], (128, 128))
  picture = draw(sample, "associative_embedding_shapes")
  _, _, groups = panels(picture)
  first, second = groups[4 * 24, 4 * 24], groups[4 * 80, 4 * 80]
  nothing = groups[4 * 120, 4 * 10]
  assert np.abs(first - second).sum() > 50
  assert np.abs(first - nothing).sum() > 50
  assert not (groups == LOST_COLOR).all(2).any()


def test_an_image_without_instances_is_drawn():
  image, targets, cells = panels(
    draw(make_sample([], (128, 128)), "solov2_shapes")
  )
  np.testing.assert_array_equal(image, targets)
  np.testing.assert_array_equal(image, cells)


def test_a_method_that_draws_no_targets_shows_its_masks():
  sample = make_sample([(32, 32, 40, 40), (33, 33, 39, 39)], (128, 128))
  settings = dict(network__num_grids=(8, 4))
  whole = draw(sample, "solov2_shapes", **settings)
  without = draw(sample, "solov2_shapes", dict(target_views=None), **settings)
  assert without.shape[1] < whole.shape[1]
  is_red = (without == LOST_COLOR).all(2)
  assert is_red.any()  # what gets lost is framed all the same
