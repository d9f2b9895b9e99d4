"""Tests of solo_jax/visualization.py."""

import dataclasses

import numpy as np
import pytest

from solo_jax import types, visualization
from solo_jax.errors import UserError


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
    picture[380, 450], opacity * color + (1 - opacity) * 100, atol=1
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
  # The label is in the middle of the object.
  np.testing.assert_allclose(changed[0].mean(), 300, atol=4)


def test_nothing_or_empty_masks_leave_the_image():
  none = make_instances(np.zeros((0, 600, 800)))
  empty = make_instances(np.zeros((1, 600, 800)))
  for instances in (none, empty):
    np.testing.assert_array_equal(
      visualization.draw_instances(grey(), instances, ["cat"]), grey()
    )


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


def test_detections_match_the_objects_they_cover():
  truth = make_instances(
    [rectangle(0, 0, 100, 100), rectangle(0, 100, 100, 200)]
  )
  found = make_instances(
    [
      rectangle(0, 110, 100, 200),  # IoU 0.9 with the second
      rectangle(300, 300, 400, 400),
      rectangle(0, 100, 100, 200),  # taken by the better score
      rectangle(0, 0, 100, 60),  # 0.6 with the first
      rectangle(0, 0, 60, 60),  # 0.36
    ]
  )
  assert visualization.match(found, truth).tolist() == [1, -1, -1, 0, -1]
  assert visualization.match(found.first(0), truth).tolist() == []
  assert visualization.match(found, truth.first(0)).tolist() == [-1] * 5


def test_truth_and_what_covers_it_have_one_colour():
  truth = make_instances(
    [rectangle(0, 0, 500, 300), rectangle(0, 400, 500, 800)]
  )
  found = make_instances(
    [rectangle(0, 400, 500, 790), rectangle(510, 0, 600, 300)]
  )
  drawn = visualization.draw_comparison(grey(), found, truth, ["cat"])
  gap = visualization.GAP
  panels = [
    drawn[-gap - 600 : -gap, gap + i * (800 + gap) :][:, :800] for i in range(3)
  ]
  np.testing.assert_array_equal(panels[1][450, 700], panels[2][450, 700])
  assert (panels[1][450, 700] != panels[2][450, 200]).any()
  color = np.array(visualization.UNMATCHED.as_rgb())
  np.testing.assert_allclose(panels[1][590, 20], 0.4 * color + 60, atol=1)


def test_colours_of_classes_and_parts_to_show():
  masks = [rectangle(0, 300 * i, 500, 300 * i + 200) for i in range(2)]
  twins = make_instances(masks, labels=[1, 1])

  def draw(**look):
    return visualization.draw_instances(
      grey(), twins, ["cat", "dog"], look=visualization.Look(**look)
    )

  filled = draw(show=["fill"], colors="class")
  np.testing.assert_array_equal(filled[400, 100], filled[400, 400])
  color = np.array(visualization.PALETTE.by_idx(1).as_rgb())
  np.testing.assert_allclose(filled[400, 100], 0.4 * color + 60, atol=1)
  edges = draw(show=["contour"])
  assert tuple(edges[400, 100]) == (100, 100, 100) != tuple(edges[400, 199])
  boxes = draw(show=["boxes"])
  np.testing.assert_array_equal(
    boxes[499, 50], visualization.PALETTE.by_idx(0).as_rgb()
  )
  with pytest.raises(UserError, match="unknown box; choose from contour, fill"):
    visualization.Look(show=["box"])
  with pytest.raises(UserError, match="--colors=rank: choose from instance"):
    visualization.Look(colors="rank")


def test_enlarged_masks_have_smooth_edges_at_their_place():
  rows, columns = np.mgrid[:40, :40]
  slope = (columns > rows)[None]
  large = visualization.enlarge_masks(slope, 8)
  rows, columns = np.mgrid[:320, :320] / 8
  # The edge runs between the pixels' centres; no step leaves it by half one.
  distance = (columns - rows - 0.5) / 2**0.5
  inner = np.s_[16:-16, 16:-16]
  wrong = large[0] != (distance > 0)
  assert np.abs(distance[inner][wrong[inner]]).max(initial=0) < 0.2
  line = np.zeros((1, 40, 40), bool)
  line[0, 20, 5:35] = True
  assert visualization.enlarge_masks(line, 8)[0, 160:168].any()
  dot = np.zeros((1, 40, 40), bool)
  dot[0, 20, 20] = True
  assert visualization.enlarge_masks(dot, 8).any()
