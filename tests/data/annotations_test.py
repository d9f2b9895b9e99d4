"""Tests of solo_jax/data/annotations.py."""

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
from solo_jax.errors import UserError


def decode(image, item):
  size = [image.height, image.width]
  return coco_mask.decode({"size": size, "counts": item.rle}).astype(bool)


def test_masks_equal_pycocotools(read, tiny_coco):
  with contextlib.redirect_stdout(io.StringIO()):
    oracle = COCO()
    oracle.dataset = tiny_coco
    oracle.createIndex()
  annotations = read()
  assert not annotations.findings.problems.lines()
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


def test_id_0_is_an_id_like_any_other(read):
  """The evaluation has ids of its own: by 0 pycocotools means none."""
  annotations = read(annotation(id=0))
  assert not annotations.findings.problems.lines()
  kept = [item.annotation_id for item in annotations.images[1].objects]
  assert kept == [0, 12, 13, 14]


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
    (annotation(segmentation=[[1, 1, "5", 1, 5, 5]]), "not a list of numbers"),
    (annotation(segmentation=[[1, 1, 5, 1, 5, 1e9]]), "far outside its image"),
    (
      annotation(segmentation=[]),
      r"a box but no mask \(segmentation \[\]\)",
    ),
    (annotation(segmentation=None), "a box but no mask .*; need polygons or"),
    (
      annotation(segmentation=None, bbox=[3, 4, 0, 6]),
      "the segmentation None; need polygons",
    ),
    (annotation(segmentation="x"), "the segmentation 'x'; need polygons"),
    (
      annotation(segmentation=[[40, 25, 50, 25, 50, 30]]),
      "a mask without a pixel inside its image",
    ),
    (
      annotation(segmentation={"size": [20, 30], "counts": [600]}),
      "a mask without a pixel inside its image",
    ),
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
    (annotation(segmentation=[[1, 1, 5, 1, 5, 10**400]]), "not a list of num"),
    (
      annotation(segmentation=[[1, 1, 5, 1, 5, float("inf")]]),
      "not a list of numbers",
    ),
    (
      annotation(segmentation=[[-20, -10, 50, 30] * 40_000]),
      "polygon of 80000 points whose outline is 5600000 pixels long; at most",
    ),
    (
      annotation(segmentation={"size": [20, 30], "counts": [10**4000] * 99}),
      "not run lengths",
    ),
    (
      annotation(segmentation={"size": [20, 30], "counts": [2**40, 600]}),
      "RLE counts over 1099511628376 pixels; its image has 600",
    ),
    (
      annotation(segmentation={"size": [2**31, 2**31], "counts": [2**62]}),
      "RLE of size",
    ),
    (
      annotation(segmentation={"size": [20, 30], "counts": "P" * 10**6 + "0"}),
      "cannot be decoded: a number of more than 7 characters",
    ),
  ],
)
def test_bad_annotation_is_named_and_skipped(read, change, problem):
  annotations = read(change)
  (line,) = annotations.findings.problems.lines()
  assert re.search(problem, line)
  assert line.startswith("a.json: image 7: annotation 90 ")
  kept = [item.annotation_id for item in annotations.images[1].objects]
  assert kept == [12, 13, 14]


@pytest.mark.parametrize(
  ("fields", "problem"),
  [
    (dict(image_id=8), "image 8: annotation 90 has the unknown image_id 8."),
    (dict(id=13), "image 7: annotation 13: the id is used before."),
    (dict(id="x"), "image 7: annotation without an integer id"),
    (dict(id=2**63), "image 7: annotation without an integer id of 64 bits"),
    (
      dict(image_id="\ud800"),
      "annotation 90 has the unknown image_id '\\ud800'",
    ),
  ],
)
def test_bad_annotation_ids(read, fields, problem):
  annotations = read(annotation(**fields))
  (line,) = annotations.findings.problems.lines()
  assert problem in line


@pytest.mark.parametrize(
  ("change", "problem"),
  [
    (image(file_name="x.png"), "image 3: file 'x.png' is missing in "),
    (image(file_name=None), "image 3: file None is missing in "),
    (image(file_name="3.png\0"), "image 3: file '3.png\\x00' is missing in "),
    (image(file_name="\ud800"), "image 3: file '\\ud800' is missing in "),
    (image(file_name="x" * 5000), "xxx' is missing in "),
    (image(file_name="../images/x.png"), "'../images/x.png' is not below "),
    (image(file_name="/etc/passwd"), "file '/etc/passwd' is not below "),
    (image(height=10**400), "need two positive integers"),
    (
      image(height=21),
      "image 3: file 3.png is 20 x 30 (height x width); the annotations say "
      "21 x 30.",
    ),
    (image(width=-7), "image 3: has (height, width) (20, -7); need two"),
    (image(width="wide"), "need two positive integers"),
    (image(id=7), "image 7: the id is used before."),
  ],
)
def test_bad_image_is_named_and_skipped(read, change, problem):
  annotations = read(change)
  (line,) = annotations.findings.problems.lines()
  assert problem in line and line.startswith("a.json: ")
  assert [image.image_id for image in annotations.images] == [7]


@pytest.mark.parametrize(
  ("runs", "expected"),
  [
    ([45, 0, 2, 3, 550], [47, 3, 550]),
    ([45, 3, 0, 4, 548], [45, 7, 548]),
    ([0, 0, 0, 600], [0, 600]),
    ([45, 5, 550, 0], [45, 5, 550]),
  ],
)
def test_runs_without_pixels_change_nothing(read, runs, expected):
  """pycocotools makes boxes of 2^32 pixels of them."""
  rle = {"size": [20, 30], "counts": runs}
  annotations = read(annotation(segmentation=rle, bbox=None, area=None))
  assert not annotations.findings.problems.lines()
  found = annotations.images[1].objects[0]
  rle = coco_mask.frPyObjects({"size": [20, 30], "counts": expected}, 20, 30)
  assert found.rle == rle["counts"]
  assert found.area == sum(expected[1::2])
  mask = decode(annotations.images[1], found)
  rows, columns = np.nonzero(mask)
  box = (0, 0, 0, 0)
  if mask.any():
    sides = np.ptp(columns) + 1, np.ptp(rows) + 1
    box = (columns.min(), rows.min(), *sides)
  assert found.box_xywh == box


def test_ids_below_zero_are_ids(read):
  def change(content):
    content["images"][0]["id"] = -7
    for item in content["annotations"]:
      item.update(image_id=-7, id=-item["id"])

  annotations = read(change)
  assert not annotations.findings.problems.lines()
  assert [x.image_id for x in annotations.images] == [-7, 3]
  assert len(annotations.images[0].objects) == 4


def test_messages_show_the_beginning_of_what_was_found(read):
  def nested(depth):
    return [nested(depth - 1)] if depth else []

  def spoil(content):
    content["annotations"][0]["segmentation"] = {"size": nested(400)}
    content["annotations"][1]["segmentation"] = "x" * 10**6
    content["annotations"].append(["\ud800\x1b"] * 10**5)

  problems = read(spoil).findings.problems.lines()
  assert len(problems) == 3
  assert all(len(line) < 300 and line.isprintable() for line in problems)


def test_file_that_is_no_image(read, tmp_path, tiny_coco, write_coco):
  read()
  (tmp_path / "images" / "3.png").write_bytes(b"nothing")
  text = json.dumps(tiny_coco).encode()
  annotations = read_annotations(text, "a.json", FileTree(tmp_path / "images"))
  assert annotations.findings.problems.lines() == [
    "a.json: image 3: file 3.png is not an image, or damaged."
  ]


def test_objects_go_with_their_image(read):
  def lose_image(content):
    content["images"][0]["file_name"] = "lost.png"

  annotations = read(lose_image)
  (line,) = (
    annotations.findings.problems.lines()
  )  # not one for each object as well
  assert line.endswith(" (skipped with its 4 annotations).")
  assert annotations.num_images_skipped == 1
  assert annotations.num_annotations_skipped == 4
  assert [image.image_id for image in annotations.images] == [3]


def test_all_problems_are_listed(read):
  def spoil(content):
    annotation(category_id=5)(content)
    content["annotations"][1]["segmentation"] = [[1, 2]]
    content["annotations"].append("text")
    content["images"].append(None)

  annotations = read(spoil)
  assert len(annotations.findings.problems) == 4
  assert annotations.num_images_skipped == 1
  assert annotations.num_annotations_skipped == 3


@pytest.mark.parametrize("excess", [0.5, 1.0])
def test_rounded_boxes_are_inside(read, excess):
  assert not read(
    annotation(bbox=[20, 10, 10 + excess, 10])
  ).findings.problems.lines()


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "a.json is empty. Need a COCO instances file"),
    ("images: []", "a.json is not JSON: .* Need a COCO instances file"),
    ("<!DOCTYPE html><p>", "a.json is a page of HTML or XML, as .* it again"),
    ("version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    (
      '{"version": "5.0", "shapes": [], "imagePath": "a"}',
      "export from labelme",
    ),
    ('[{"id": 1, "data": {}, "predictions": []}]', "from Label Studio as COCO"),
    ('{"a.png1": {"regions": [], "file_attributes": {}}}', "from VIA as COCO"),
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
    ('{"images": ' + "[" * 10**5, "a.json is nested too deeply. Need a COCO"),
    (
      '{"images": [], "annotations": [], "categories": '
      '[{"id": 1, "name": "\\ud800"}]}',
      r"category {'id': 1, 'name': '\\ud800'} needs an id and a name",
    ),
  ],
)
def test_not_coco(tmp_path, text, message):
  with pytest.raises(UserError, match=message):
    read_annotations(text.encode(), "a.json", FileTree(tmp_path))
