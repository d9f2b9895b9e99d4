"""Tests of solo_jax/media/segment_files.py."""

import json

import cv2
import numpy as np
import PIL.Image

from solo_jax import types
from solo_jax.data.coco_panoptic import CocoPanoptic
from solo_jax.data.panoptic_files import find_custom
from solo_jax.data.records import open_records, read_sample
from solo_jax.data.semantic_images import read_classes
from solo_jax.media.segment_files import SegmentFiles, to_instances

IDS = np.array([[1, 1, 2, 0], [1, 300, 300, 0]], np.int32)
FOUND = types.SegmentMap(
  ids=IDS,
  segments=[
    types.Segment(id=1, label=1, score=0.8, is_thing=False),
    types.Segment(id=2, label=0, score=0.9, is_thing=True),
    types.Segment(id=300, label=0, score=0.95, is_thing=True),
  ],
)
SEMANTIC = types.SegmentMap(ids=np.where(IDS == 1, 2, 1), segments=[])
CLASSES = dict(
  class_names=("person", "grass"),
  category_ids=(7, 300),
  is_thing=(True, False),
)


def test_prepare_reads_what_is_written(tmp_path):
  files = SegmentFiles(tmp_path, {"panoptic", "semantic"}, **CLASSES)
  maps = dict(panoptic=FOUND, semantic=SEMANTIC)
  files.add(maps, name="a", file_name="a.png")
  files.finish()
  (tmp_path / "images").mkdir()
  cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((2, 4, 3), "u1"))
  parts = (tmp_path / x for x in ("panoptic.json", "panoptic", "images"))
  split = find_custom(*map(str, parts))
  CocoPanoptic(
    data_dir=str(tmp_path), name="x", splits=dict(train=split)
  ).prepare()
  records = open_records(str(tmp_path), "coco_panoptic/x", "train")
  assert records.metadata["num_problems"] == 0
  assert not any(records.metadata["kinds"].values())
  assert records.is_thing == (True, False)
  sample = read_sample(records[0])
  assert sample.labels.tolist() == [1, 0, 0]
  for key, mask in zip((1, 2, 300), sample.masks, strict=True):
    np.testing.assert_array_equal(mask, IDS == key)
  content = json.loads((tmp_path / "panoptic.json").read_text())
  (annotation,) = content["annotations"]
  assert annotation["segments_info"][2] == dict(
    id=300,
    category_id=7,
    isthing=1,
    score=0.95,
    iscrowd=0,
    area=2,
    bbox=[1, 1, 2, 1],
  )


def test_semantic_maps_hold_category_ids(tmp_path):
  files = SegmentFiles(tmp_path, {"semantic"}, **CLASSES)
  files.add(dict(semantic=SEMANTIC), name="clip/0", file_name="clip")
  files.finish()
  values = np.asarray(PIL.Image.open(tmp_path / "semantic" / "clip" / "0.png"))
  np.testing.assert_array_equal(values, np.where(IDS == 1, 300, 7))
  assert read_classes(tmp_path / "semantic" / "classes.json") == {
    7: "person",
    300: "grass",
  }
  assert not (tmp_path / "panoptic.json").exists()


def test_segments_as_masks():
  found = to_instances(FOUND)
  assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
  assert found.labels.tolist() == [0, 0, 1]
  for key, mask in zip((300, 2, 1), found.masks, strict=True):
    np.testing.assert_array_equal(mask, IDS == key)
  np.testing.assert_array_equal(found.boxes_xyxy[0], [1, 1, 3, 2])
  nothing = to_instances(types.SegmentMap(ids=IDS * 0, segments=[]))
  assert len(nothing) == 0 and nothing.masks.shape == (0, 2, 4)
