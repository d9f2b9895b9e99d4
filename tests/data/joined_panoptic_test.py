"""Tests of solo_jax/data/joined_panoptic.py."""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from solo_jax.data import builder, coco_panoptic, panoptic_files
from solo_jax.data.records import open_records, read_sample
from solo_jax.errors import UserError

# Road, sky and a car of which no instance covers the last pixel; void.
VALUES = np.array([[23, 23, 23, 255], [7, 7, 26, 26], [7, 7, 7, 26]])
CLASSES = {"7": "road", "23": "sky", "26": "car", "255": None}
LARGE = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 0]])
SMALL = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]])
CROWD = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
HIDDEN = CROWD & SMALL
NAMES = ("annotations", "segments", "images")


@pytest.fixture
def source(tmp_path):
  """Paths of a split of two images, the second without instances."""
  for folder in NAMES:
    (tmp_path / folder).mkdir()
  images = []
  for key in (1, 2):
    name = f"{key}.jpg"
    images.append(dict(id=key, file_name=name, height=3, width=4))
    picture = np.zeros((3, 4, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "images" / name), picture)
    values = VALUES.astype(np.uint8)
    cv2.imwrite(str(tmp_path / "segments" / f"{key}.png"), values)
  annotations = [
    dict(
      id=key,
      image_id=1,
      category_id=3,
      iscrowd=int(mask is CROWD),
      segmentation=encode(mask),
    )
    for key, mask in enumerate((SMALL, LARGE, CROWD), start=1)
  ]
  content = dict(
    images=images,
    annotations=annotations,
    categories=[dict(id=3, name="car")],
  )
  path = tmp_path / "annotations" / "instances.json"
  path.write_text(json.dumps(content))
  (tmp_path / "segments" / "classes.json").write_text(json.dumps(CLASSES))
  return [str(path), *(str(tmp_path / x) for x in NAMES[1:])]


def encode(mask):
  rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
  return dict(size=rle["size"], counts=rle["counts"].decode())


def build(source, data_dir):
  coco_panoptic.CocoPanoptic(
    data_dir=str(data_dir),
    name="own",
    splits={"train": panoptic_files.find_custom(*source)},
    tolerance=builder.Tolerance(max_lost=1.0),
  ).prepare()
  return open_records(str(data_dir), "coco_panoptic/own", "train")


def test_the_rule_pixel_by_pixel(source, tmp_path):
  records = build(source, tmp_path / "data")
  assert records.class_names == ("car", "road", "sky")
  assert records.is_thing == (True, False, False)
  assert records.category_ids == (3, 4 + 7, 4 + 23)
  assert records.metadata["num_problems"] == 0
  sample = read_sample(records[0])
  # 1 small car, 2 large car, 3 crowd, 4 road, 5 sky, 0 void
  expected = np.array([[5, 5, 5, 0], [3, 2, 1, 1], [4, 2, 2, 0]])
  assert sample.labels.tolist() == [0, 0, 0, 1, 2]
  assert sample.is_crowd.tolist() == [False, False, True, False, False]
  for number, mask in enumerate(sample.masks, start=1):
    np.testing.assert_array_equal(mask, expected == number)
  # Without instances, what is labelled as a thing is void.
  sample = read_sample(records[1])
  assert sample.labels.tolist() == [1, 2]
  np.testing.assert_array_equal(sample.masks[0], VALUES == 7)


def change(path, change_content):
  content = json.loads(open(path).read())
  change_content(content)
  with open(path, "w") as file:
    json.dump(content, file)


def test_what_is_lost_is_counted(source, tmp_path):
  path, segments, _ = source

  def hide(content):
    first = content["annotations"][0]
    content["annotations"].append(
      dict(first, id=9, segmentation=encode(HIDDEN), iscrowd=1)
    )

  change(path, hide)
  cv2.imwrite(f"{segments}/2.png", np.full((3, 4), 9, np.uint8))
  records = build(source, tmp_path / "data")
  assert records.image_ids.tolist() == [1]
  (line,) = records.metadata["problems"]
  assert (
    "2.png" in line and "has the values 9, which classes.json lacks" in line
  )
  ((kind, count),) = [x[:2] for x in records.metadata["kinds"]["notes"]]
  assert kind.startswith("instance behind smaller ones") and count == 1


def test_a_label_image_that_is_missing_is_counted(source, tmp_path):
  path, segments, _ = source
  split = coco_panoptic.read_split(panoptic_files.find_custom(*source))
  assert (split.num_segments, split.num_segments_skipped) == (3, 0)
  (tmp_path / "segments" / "1.png").unlink()
  split = coco_panoptic.read_split(panoptic_files.find_custom(*source))
  assert len(split.images) == 1 and split.num_segments_skipped == 3
  counts = {x.name: x.count for x in split.findings.problems.kinds()}
  assert counts == {"label image that is not found": 1}


def test_without_stuff_there_is_nothing_to_join(source, tmp_path):
  table = tmp_path / "segments" / "classes.json"
  table.write_text(json.dumps({"26": "car", "0": None}))
  with pytest.raises(UserError, match="has no class of stuff"):
    build(source, tmp_path / "data")
  table.write_text("[]")
  with pytest.raises(UserError, match="classes.json cannot be read"):
    build(source, tmp_path / "data")
