import contextlib
import io
import json
import re

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from solo_jax.data.annotations import read_annotations
from solo_jax.data.file_tree import FileTree


@pytest.fixture
def read(tmp_path, write_coco, tiny_coco):
  """Writes changed content and reads it; `change` edits it in place."""

  def run(change=lambda content: None):
    change(tiny_coco)
    write_coco(tmp_path / "a.json", tmp_path / "images", tiny_coco)
    text = (tmp_path / "a.json").read_bytes()
    return read_annotations(text, "a.json", FileTree(tmp_path / "images"))

  return run


def decode(image, item):
  size = [image.height, image.width]
  return coco_mask.decode({"size": size, "counts": item.rle}).astype(bool)


def test_masks_equal_pycocotools(read, tiny_coco):
  with contextlib.redirect_stdout(io.StringIO()):
    oracle = COCO()
    oracle.dataset = tiny_coco
    oracle.createIndex()
  annotations = read()
  assert not annotations.problems
  image = annotations.images[1]
  assert [item.annotation_id for item in image.objects] == [90, 12, 13, 14]
  for item in image.objects:
    expected = oracle.annToMask(oracle.anns[item.annotation_id])
    np.testing.assert_array_equal(decode(image, item), expected)


def test_holes_survive_both_forms_of_rle(read, ring_mask):
  image = read().images[1]
  for item in image.objects[2:]:
    np.testing.assert_array_equal(decode(image, item), ring_mask)


def test_order_and_classes(read):
  annotations = read()
  assert [image.image_id for image in annotations.images] == [3, 7]
  assert not annotations.images[0].objects  # an empty image stays
  assert annotations.category_ids == (2, 44)
  assert annotations.class_names == ("cat", "cup")
  assert [x.label for x in annotations.images[1].objects] == [1, 1, 0, 1]


def test_given_values_stay_exact_and_missing_ones_are_filled(read, ring_mask):
  given, parts, compressed, runs = read().images[1].objects
  assert (given.area, given.box_xywh) == (61.1, (2.1, 3.0, 10.4, 6.25))
  mask = decode(read().images[1], parts)
  assert parts.area == mask.sum()  # area -1 is recomputed
  assert compressed.area == runs.area == ring_mask.sum() == 80 - 9
  assert compressed.box_xywh == (5, 4, 10, 8)
  assert [x.is_crowd for x in (given, parts, compressed, runs)] == [
    *[False] * 3,
    True,
  ]


def annotation(**fields):
  """Changes the first annotation, id 90 of image 7."""
  return lambda content: content["annotations"][0].update(fields)


def image(**fields):
  """Changes image 3."""
  return lambda content: content["images"][1].update(fields)


@pytest.mark.parametrize(
  ("change", "problem"),
  [
    (annotation(segmentation=[[1, 1, 5, 5]]), "polygon of 4 numbers; need"),
    (annotation(segmentation=[[1] * 7]), "polygon of 7 numbers; need an even"),
    (annotation(segmentation=[1, 1, 5, 1, 5, 5]), "not a list of numbers"),
    (annotation(segmentation=[[1, 1, "5", 1, 5, 5]]), "not a list of numbers"),
    (annotation(segmentation=[[1, 1, 5, 1, 5, 1e9]]), "far outside its image"),
    (annotation(segmentation=[]), r"the segmentation \[\]; need polygons"),
    (annotation(segmentation=None), "the segmentation None; need polygons"),
    (
      annotation(segmentation={"size": [30, 20], "counts": [600]}),
      r"RLE of size \[30, 20\]; its image is \[20, 30\]",
    ),
    (
      annotation(segmentation={"size": [20, 30], "counts": [10, 5]}),
      "RLE counts over 15 pixels; its image has 600",
    ),
    (
      annotation(segmentation={"size": [20, 30], "counts": [601, -1]}),
      "not run lengths",
    ),
    (
      annotation(segmentation={"size": [20, 30], "counts": "a b"}),
      "compressed RLE that cannot be decoded: character ' '",
    ),
    (
      annotation(segmentation={"size": [20, 30], "counts": "P"}),
      "compressed RLE that cannot be decoded: an unfinished number",
    ),
    (annotation(category_id=5), "the unknown category_id 5"),
    (annotation(category_id=[2]), r"the unknown category_id \[2\]"),
    (annotation(iscrowd=2), "iscrowd 2; need 0 or 1"),
    (annotation(area="1"), "the area '1'; need a number"),
    (annotation(bbox=[25, 3, 10, 6]), "outside its image of width 30"),
    (annotation(bbox=[3, -4, 10, 6]), "outside its image"),
    (annotation(bbox=[3, 4, 0, 6]), "without extent"),
    (annotation(bbox=[3, 4, 5]), r"need \[x, y, width, height\]"),
    (annotation(bbox=[3, 4, 5, float("nan")]), "not four numbers"),
  ],
)
def test_bad_annotation_is_named_and_skipped(read, change, problem):
  annotations = read(change)
  (line,) = annotations.problems
  assert re.search(problem, line)
  assert line.startswith("a.json: image 7: annotation 90 ")
  kept = [item.annotation_id for item in annotations.images[1].objects]
  assert kept == [12, 13, 14]


@pytest.mark.parametrize(
  ("fields", "problem"),
  [
    (dict(image_id=8), "image 8: annotation 90 has the unknown image_id 8."),
    (dict(id=0), "image 7: annotation 0: the id must not be 0."),
    (dict(id=13), "image 7: annotation 13: the id is used before."),
    (dict(id="x"), "image 7: annotation without an integer id"),
  ],
)
def test_bad_annotation_ids(read, fields, problem):
  annotations = read(annotation(**fields))
  (line,) = annotations.problems
  assert problem in line


@pytest.mark.parametrize(
  ("change", "problem"),
  [
    (image(file_name="x.png"), "image 3: file 'x.png' is missing in "),
    (image(file_name=None), "image 3: file None is missing in "),
    (
      image(height=21),
      "image 3: file 3.png is 20 x 30 (height x width); the annotations say "
      "21 x 30.",
    ),
    (image(width=0), "image 3: has (height, width) (20, 0); need two"),
    (image(width="30"), "need two positive integers"),
    (image(id=7), "image 7: the id is used before."),
  ],
)
def test_bad_image_is_named_and_skipped(read, change, problem):
  annotations = read(change)
  (line,) = annotations.problems
  assert problem in line and line.startswith("a.json: ")
  assert [image.image_id for image in annotations.images] == [7]


def test_file_that_is_no_image(read, tmp_path, tiny_coco, write_coco):
  read()
  (tmp_path / "images" / "3.png").write_bytes(b"nothing")
  text = json.dumps(tiny_coco).encode()
  annotations = read_annotations(text, "a.json", FileTree(tmp_path / "images"))
  assert annotations.problems == [
    "a.json: image 3: file 3.png is no readable image."
  ]


def test_objects_go_with_their_image(read):
  def lose_image(content):
    content["images"][0]["file_name"] = "lost.png"

  annotations = read(lose_image)
  (line,) = annotations.problems  # not one for each object as well
  assert line.endswith(" (left out with its 4 annotations).")
  assert annotations.num_images_skipped == 1
  assert annotations.num_annotations_skipped == 4
  assert [image.image_id for image in annotations.images] == [3]


def test_all_problems_are_listed(read):
  def spoil(content):
    annotation(category_id=5, bbox=[25, 3, 10, 6])(content)
    content["annotations"][1]["segmentation"] = [[1, 2]]
    content["annotations"].append("text")
    content["images"].append(None)

  annotations = read(spoil)
  assert len(annotations.problems) == 5
  assert annotations.num_images_skipped == 1
  assert annotations.num_annotations_skipped == 3


@pytest.mark.parametrize("excess", [0.5, 1.0])
def test_rounded_boxes_are_inside(read, excess):
  assert not read(annotation(bbox=[20, 10, 10 + excess, 10])).problems


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("<html>", "a.json is not JSON: .* Need a COCO instances file"),
    ("[]", "a.json holds a list at the top. Need a COCO"),
    ("{}", "a.json has no list 'images'; it has nothing"),
    ('{"images": [], "annotations": []}', "no list 'categories'; it has im"),
    (
      '{"images": [], "annotations": [], "categories": []}',
      "list of categories is empty",
    ),
    (
      '{"images": [], "annotations": [], "categories": [{"id": 1}]}',
      "category {'id': 1} needs an id and a name",
    ),
    (
      '{"images": [], "annotations": [], "categories": '
      '[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
      "two categories have the id 1",
    ),
  ],
)
def test_not_coco(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    read_annotations(text.encode(), "a.json", FileTree(tmp_path))
