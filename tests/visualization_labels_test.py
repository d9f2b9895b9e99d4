"""Tests of solo_jax/visualization_labels.py."""

import numpy as np
import supervision as sv

from solo_jax import visualization_labels

RED = sv.Color.from_hex("#ff0000")


def test_labels_do_not_overlap_and_stay_inside():
  size = np.array([60.0, 20.0])
  taken = np.zeros((0, 4))
  box = np.array([5.0, 5.0, 100.0, 90.0])
  places = []
  for _ in range(9):
    place = visualization_labels.free_place(box, size, taken, (110, 100))
    if place is None:
      break
    assert (place >= 0).all() and place[2] <= 110 and place[3] <= 100
    taken = np.vstack([taken, place])
    places.append(place)
  assert 2 <= len(places) < 9
  for i, a in enumerate(places):
    for b in places[:i]:
      overlap = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
      assert (overlap <= 0).any()


def draw(mask, text="cat"):
  """Where a label is red on a black picture. [H, W] bool."""
  rows, columns = np.nonzero(mask)
  box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
  picture = visualization_labels.draw_labels(
    np.zeros((*mask.shape, 3), np.uint8), [text], box[None], mask[None], [RED]
  )
  return (picture[..., 0] > 200) & (picture[..., 1] < 50)


def test_a_label_lies_on_an_object_that_has_room():
  # A ring: the middle of its box is not part of it.
  rows, columns = np.mgrid[:300, :300]
  radius = np.hypot(rows - 150, columns - 150)
  ring = (radius < 140) & (radius > 70)
  sign = draw(ring)
  assert sign.any() and ring[sign].all()


def test_a_label_without_room_is_led_to_its_object():
  mask = np.zeros((300, 300), bool)
  mask[200:206, 100:106] = True
  sign = draw(mask)
  rows, columns = np.nonzero(sign)
  assert rows.min() < 195  # above the object, in which a line ends
  assert sign[mask].any() and not sign[mask].all()


def test_the_deepest_point_by_hand():
  mask = np.zeros((60, 80), bool)
  mask[10:21, 10:70] = True  # a bar
  mask[10:51, 30:71] = True  # and a square of 41 pixels below it
  box = np.array([10, 10, 71, 51])
  assert visualization_labels.deepest_point(mask, box) == (50, 30)


def test_a_picture_of_one_row_has_no_room_for_labels():
  for size in ((1, 5000), (3, 700), (5000, 1)):
    picture = np.full((*size, 3), 90, np.uint8)
    drawn = visualization_labels.draw_labels(
      picture,
      ["cat 0.90"],
      np.array([[0.0, 0.0, size[1], size[0]]]),
      np.ones((1, *size), bool),
      [sv.Color.WHITE],
    )
    np.testing.assert_array_equal(drawn, picture)


def test_smaller_masks_own_what_they_cover():
  large, small = np.zeros((2, 4, 6), bool)
  large[:, :4] = True
  small[1:3, 2:6] = True
  owner = visualization_labels.find_owners([large, small], (4, 6))
  np.testing.assert_array_equal(owner, large * 1 + small * (2 - large))
