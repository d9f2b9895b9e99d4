"""Tests of solo_jax/visualization.py."""

import dataclasses

import numpy as np

from solo_jax import types, visualization


def make_instances(masks, labels=None, scores=None):
  masks = np.asarray(masks, bool)
  boxes = np.zeros((len(masks), 4), np.float32)
  for i, mask in enumerate(masks):
    rows, columns = np.nonzero(mask)
    if len(rows):
      boxes[i] = (
        columns.min(),
        rows.min(),
        columns.max() + 1,
        rows.max() + 1,
      )
  return types.Instances(
    masks=masks,
    scores=np.linspace(1, 0.5, len(masks), dtype=np.float32),
    labels=np.zeros(len(masks), int) if labels is None else np.array(labels),
    boxes_xyxy=boxes,
  )


def rectangle(top, left, bottom, right, size=(600, 800)):
  mask = np.zeros(size, bool)
  mask[top:bottom, left:right] = True
  return mask


def grey(height=600, width=800):
  return np.full((height, width, 3), 100, np.uint8)


def test_tints_the_inside_and_leaves_the_rest():
  image = grey()
  picture = visualization.draw_instances(
    image, make_instances([rectangle(200, 300, 400, 500)]), ["cat"]
  )
  assert picture.shape == image.shape and picture.dtype == np.uint8
  color = np.array(visualization.PALETTE.by_idx(0).as_rgb())
  opacity = visualization.FILL_OPACITY
  np.testing.assert_allclose(
    picture[350, 450], opacity * color + (1 - opacity) * 100, atol=1
  )
  np.testing.assert_array_equal(picture[:150], image[:150])
  np.testing.assert_array_equal(picture[450:], image[450:])
  np.testing.assert_array_equal(image, grey())


def test_masks_are_filled_whole_whatever_their_predicted_boxes():
  found = make_instances([rectangle(200, 300, 400, 500)])
  boxed = dataclasses.replace(
    found,
    boxes_xyxy=np.float32([[350.5, 250.5, 420.25, 300]]),
    mask_boxes_xyxy=found.boxes_xyxy,
  )
  np.testing.assert_array_equal(
    visualization.draw_instances(grey(), boxed, ["cat"]),
    visualization.draw_instances(grey(), found, ["cat"]),
  )


def test_neighbours_of_one_class_get_different_colours():
  masks = [rectangle(50, 100 * i, 550, 100 * i + 100) for i in range(6)]
  picture = visualization.draw_instances(grey(), make_instances(masks), ["cat"])
  colors = {tuple(picture[500, 100 * i + 50]) for i in range(6)}
  assert len(colors) == 6


def test_small_images_are_enlarged():
  mask = rectangle(20, 30, 70, 90, (96, 128))
  picture = visualization.draw_instances(
    grey(96, 128), make_instances([mask]), ["cat"]
  )
  assert picture.shape == (4 * 96, 4 * 128, 3)
  assert tuple(picture[4 * 60, 4 * 80]) != (100, 100, 100)


def test_scores_are_drawn_on_request():
  instances = make_instances([rectangle(200, 300, 400, 500)])
  with_scores, without = (
    visualization.draw_instances(
      grey(), instances, ["cat"], show_scores=show_scores
    )
    for show_scores in (True, False)
  )
  changed = np.nonzero((with_scores != without).any(2))
  assert len(changed[0])
  assert changed[0].max() < 200  # the label stands above the box


def test_nothing_or_empty_masks_leave_the_image():
  none = make_instances(np.zeros((0, 600, 800)))
  empty = make_instances(np.zeros((1, 600, 800)))
  for instances in (none, empty):
    np.testing.assert_array_equal(
      visualization.draw_instances(grey(), instances, ["cat"]), grey()
    )


def test_labels_do_not_overlap_and_stay_inside():
  size = np.array([60.0, 20.0])
  taken = np.zeros((0, 4))
  box = np.array([5.0, 5.0, 100.0, 90.0])
  places = []
  for _ in range(9):
    place = visualization._free_place(box, size, taken, (110, 100))
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


def test_a_crowded_picture_and_a_tiny_one_are_drawn():
  masks = [
    rectangle(20 * i, 20 * j, 20 * i + 12, 20 * j + 12)
    for i in range(8)
    for j in range(8)
  ]
  visualization.draw_instances(grey(), make_instances(masks), ["cat"])
  tiny = make_instances(np.ones((1, 1, 3)))
  visualization.draw_instances(grey(1, 3), tiny, ["a very long class name"])


def test_class_names_may_be_in_any_script():
  instances = make_instances([rectangle(200, 300, 400, 500)])
  visualization.draw_instances(grey(), instances, ["Zellkern Ö ✓ 细胞核"])


def test_comparison_holds_three_panels():
  instances = make_instances([rectangle(20, 30, 70, 90, (96, 128))])
  picture = visualization.draw_comparison(
    grey(96, 128), instances, instances, ["cat"]
  )
  gap = visualization.GAP
  assert picture.shape[1] == 3 * (4 * 128 + gap) + gap
  assert picture.shape[0] > 4 * 96 + gap
  bottom = picture[-gap - 4 * 96 : -gap]
  np.testing.assert_array_equal(
    bottom[:, gap : gap + 4 * 128], visualization.enlarge(grey(96, 128), 4)
  )


def test_rows_of_different_width_stack():
  sheet = visualization.stack_rows([grey(10, 30), grey(20, 50)])
  assert sheet.shape == (30, 50, 3)
  assert tuple(sheet[5, 40]) == visualization.BACKGROUND
