"""Tests of solo_jax/media/saving.py; those of prediction.py see its files."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from solo_jax import types
from solo_jax.errors import UserError
from solo_jax.media import saving, video

CLASSES = dict(class_names=("cat", "dog"), category_ids=(3, 44))


def test_hidden_instances_have_no_label():
  masks = np.ones((2, 4, 5), bool)
  label_image, scores = saving.make_label_image(
    types.Instances(
      masks=masks,
      scores=np.array([0.9, 0.5], np.float32),
      labels=np.zeros(2, int),
      boxes_xyxy=np.array([[0, 0, 5, 4]] * 2, np.float32),
    ),
    np.array([1, 2]),
  )
  assert (label_image == 1).all() and list(scores) == ["1"]


def test_numbers_beyond_16_bits_are_left_out_and_reported(caplog):
  masks = np.zeros((2, 4, 5), bool)
  masks[0, :2] = masks[1, 2:] = True
  label_image, scores = saving.make_label_image(
    types.Instances(
      masks=masks,
      scores=np.array([0.9, 0.5], np.float32),
      labels=np.zeros(2, int),
      boxes_xyxy=np.array([[0, 0, 5, 2], [0, 2, 5, 4]], np.float32),
    ),
    np.array([65535, 65536]),
  )
  assert (label_image[:2] == 65535).all() and not label_image[2:].any()
  assert list(scores) == ["65535"]
  assert "leaves out 1 instances with numbers above 65535" in caplog.text


def test_frames_and_pages_have_names_of_their_own_in_panoptic_json(tmp_path):
  image = np.zeros((4, 5, 3), np.uint8)
  nothing = types.Instances(
    masks=np.zeros((0, 4, 5), bool),
    scores=np.zeros(0, np.float32),
    labels=np.zeros(0, int),
    boxes_xyxy=np.zeros((0, 4), np.float32),
  )
  ids = np.ones((4, 5), np.int32)
  segment = types.Segment(id=1, label=0, score=0.9, is_thing=True)
  seen = dict(
    views={}, maps=dict(panoptic=types.SegmentMap(ids=ids, segments=[segment]))
  )
  source = SimpleNamespace(size=(4, 5), rate=10)
  with saving.Results(tmp_path, ["panoptic"], **CLASSES) as results:
    results.add(image, nothing, file_name="a.jpg", name="a", **seen)
    results.add(image, nothing, file_name="b.tif", name="b_1", page=1, **seen)
    with results.start_video(source, "c.mp4", "c") as frames:
      for seconds in (0.0, 0.1):
        frame = video.Frame(image=image, seconds=seconds)
        frames.add(frame, nothing, np.zeros(0, int), **seen)
  content = json.loads((tmp_path / "panoptic.json").read_text())
  names = [x["file_name"] for x in content["images"]]
  assert names == ["a.jpg", "b_1", "c/000000", "c/000001"]
  for annotation in content["annotations"][1:]:
    assert annotation["file_name"] == names[annotation["image_id"] - 1] + ".png"


def test_files_are_whole_after_an_error(tmp_path):
  results = saving.Results(tmp_path, ["rle", "labels", "polygons"], **CLASSES)
  found = types.Instances(
    masks=np.ones((1, 4, 5), bool),
    scores=np.array([0.9], np.float32),
    labels=np.array([1]),
    boxes_xyxy=np.array([[0, 0, 5, 4]], np.float32),
  )
  with pytest.raises(KeyboardInterrupt), results:
    for name in ("a", "b"):
      results.add(
        np.zeros((4, 5, 3), np.uint8),
        found,
        file_name=f"{name}.png",
        name=name,
        views={},
        maps={},
      )
    raise KeyboardInterrupt
  for name in ("predictions.json", "polygons.json"):
    dataset = json.loads((tmp_path / name).read_text())
    assert [x["id"] for x in dataset["annotations"]] == [1, 2]
    assert [x["image_id"] for x in dataset["annotations"]] == [1, 2]
    assert [x["file_name"] for x in dataset["images"]] == ["a.png", "b.png"]
    assert "videos" not in dataset
  outline = dataset["annotations"][0]["segmentation"]
  corners = {(0, 0), (5, 0), (5, 4), (0, 4)}
  assert set(zip(outline[0][::2], outline[0][1::2], strict=True)) == corners
  assert list(json.loads((tmp_path / "scores.json").read_text())) == ["a", "b"]


def test_predicted_boxes_are_written_and_masks_stay_whole(tmp_path):
  """Also where a mask reaches beyond its predicted box."""
  mask = np.zeros((1, 12, 14), bool)
  mask[0, 3:9, 4:11] = True
  found = types.Instances(
    masks=mask,
    scores=np.array([0.9], np.float32),
    labels=np.array([1]),
    boxes_xyxy=np.array([[5.5, 3.25, 9.5, 7.25]], np.float32),
    mask_boxes_xyxy=np.array([[4, 3, 11, 9]], np.float32),
  )
  kinds = ["rle", "polygons", "labels"]
  with saving.Results(tmp_path, kinds, **CLASSES) as results:
    image = np.zeros((12, 14, 3), np.uint8)
    results.add(image, found, file_name="a.png", name="a", views={}, maps={})
  for name in ("predictions.json", "polygons.json"):
    (entry,) = json.loads((tmp_path / name).read_text())["annotations"]
    assert entry["bbox"] == [5.5, 3.25, 4, 4]
    assert entry["box_source"] == "predicted" and entry["area"] == 6 * 7
  (outline,) = entry["segmentation"]
  corners = {(4, 3), (4, 9), (11, 3), (11, 9)}
  assert set(zip(outline[::2], outline[1::2], strict=True)) == corners
  labels, _ = saving.make_label_image(found, np.array([1]))
  np.testing.assert_array_equal(labels > 0, mask[0])


@pytest.mark.parametrize(
  ("kinds", "message"),
  [
    (
      ["rle", "poligons"],
      "unknown kinds of results: poligons; choose from ove",
    ),
    ([], "unknown kinds of results: .none given.; choose from"),
  ],
)
def test_unknown_kinds(tmp_path, kinds, message):
  with pytest.raises(UserError, match=message):
    saving.Results(tmp_path / "out", kinds, **CLASSES)
  assert not (tmp_path / "out").exists()


def test_a_mask_without_a_pixel_has_no_polygons(tmp_path):
  """Readers of polygons would call an empty list damage."""
  masks = np.zeros((2, 4, 5), bool)
  masks[0] = True
  found = types.Instances(
    masks=masks,
    scores=np.array([0.9, 0.8], np.float32),
    labels=np.array([1, 1]),
    boxes_xyxy=np.array([[0, 0, 5, 4], [0, 0, 0, 0]], np.float32),
  )
  with saving.Results(tmp_path, ["rle", "polygons"], **CLASSES) as results:
    image = np.zeros((4, 5, 3), np.uint8)
    results.add(image, found, file_name="a.png", name="a", views={}, maps={})
  counts = [
    len(json.loads((tmp_path / name).read_text())["annotations"])
    for name in ("predictions.json", "polygons.json")
  ]
  assert counts == [2, 1]
