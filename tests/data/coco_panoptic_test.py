"""Tests of solo_jax/data/coco_panoptic.py."""

import json
import shutil

import cv2
import numpy as np
import pytest

from solo_jax.data import builder, coco_panoptic, panoptic_files
from solo_jax.data.findings import Findings
from solo_jax.data.records import open_records, read_sample
from solo_jax.errors import UserError
from tests.panoptic_source import IDS, SEGMENTS, write_panoptic

ALL = builder.Tolerance(max_lost=1.0)


@pytest.fixture
def source(tmp_path):
  """A source laid out like COCO 2017, two images in each split."""
  return write_panoptic(tmp_path / "coco")


def build(source, data_dir, **options):
  coco_panoptic.CocoPanoptic(
    data_dir=str(data_dir),
    splits=panoptic_files.find_coco(str(source)),
    **options,
  ).prepare()
  return open_records(str(data_dir), "coco_panoptic/2017", "train")


def change(source, change_content):
  path = source / "annotations" / "panoptic_train2017.json"
  content = json.loads(path.read_text())
  change_content(content)
  path.write_text(json.dumps(content))


def kinds(records, name="problems"):
  return {kind[0]: kind[1] for kind in records.metadata["kinds"][name]}


def check(records):
  assert records.class_names == ("person", "grass")
  assert records.category_ids == (1, 92)
  assert records.is_thing == (True, False)
  sample = read_sample(records[0])
  assert sample.labels.tolist() == [1, 0, 0]
  expected = [IDS == 9, IDS == 70000, IDS == 3]
  for mask, truth in zip(sample.masks, expected, strict=True):
    np.testing.assert_array_equal(mask, truth)
  assert records.metadata["num_problems"] == 0


def test_folders_and_archives_give_the_same_records(source, tmp_path):
  records = build(source, tmp_path / "a")
  check(records)
  for year in ("train2017", "val2017"):
    for folder in (source / year, source / "annotations" / f"panoptic_{year}"):
      shutil.make_archive(str(folder), "zip", folder.parent, folder.name)
      shutil.rmtree(folder)
  packed = build(source, tmp_path / "b")
  check(packed)
  assert packed.fingerprint == records.fingerprint


def test_without_isthing_things_are_what_an_image_has_several_of(
  source, tmp_path
):
  def forget(content):
    for category in content["categories"]:
      del category["isthing"]

  change(source, forget)
  records = build(source, tmp_path)
  assert records.is_thing == (True, False)
  assert sum(kinds(records, "repairs").values()) == 2


def test_what_cannot_be_used_is_counted(source, tmp_path):
  png = source / "annotations" / "panoptic_train2017" / "7.png"
  cv2.imwrite(str(png), np.zeros((3, 4, 3), np.uint8))
  records = build(source, tmp_path, tolerance=ALL)
  assert records.image_ids.tolist() == [8]
  assert kinds(records) == {"panoptic PNG that cannot be used": 1}
  (line,) = records.metadata["problems"]
  assert "7.png" in line and "(3, 4)" in line and "(2, 4)" in line
  assert records.metadata["num_images_skipped"] == 1
  assert records.metadata["num_annotations_skipped"] == 3


def test_missing_and_surplus_parts_are_counted(source, tmp_path):
  def spoil(content):
    first, second = content["annotations"]
    del content["annotations"][1]
    content["annotations"] += [dict(first), dict(first, image_id=9)]
    content["images"].append(
      dict(content["images"][0], id=10, file_name="8.jpg")
    )
    first["segments_info"] = [dict(SEGMENTS[0], category_id=2), SEGMENTS[1]]

  change(source, spoil)
  files = panoptic_files.find_coco(str(source))["train"]
  split = coco_panoptic.read_split(files)
  assert len(split.images) == 1 and len(split.images.segments[0]) == 1
  counts = {x.name: x.count for x in split.findings.problems.kinds()}
  assert counts == {
    "annotation of an unknown image": 1,
    "image with a second annotation, which is skipped": 1,
    "image without an annotation": 2,
    "segment of an unknown category": 1,
  }
  _, image = split.images[0]
  assert dict(image.notes).keys() == {
    "pixels of a segment that is not listed, read as void"
  }


def test_a_file_of_another_kind(source, tmp_path):
  change(source, lambda x: [a.pop("segments_info") for a in x["annotations"]])
  with pytest.raises(UserError, match="segments_info.*=coco_instances"):
    build(source, tmp_path)


def test_a_class_of_one_split_only_is_an_error(source, tmp_path):
  change(source, lambda content: content["categories"].pop(0))
  with pytest.raises(UserError, match="must have the same categories"):
    build(source, tmp_path)


def test_a_file_name_that_is_no_text(source):
  findings = Findings()
  assert (
    coco_panoptic._find_png(dict(file_name=3), None, "a.json", 1, findings)
    is None
  )
  assert "its file_name is 3" in "".join(findings.problems.lines())
