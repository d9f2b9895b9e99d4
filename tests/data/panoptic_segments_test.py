"""Tests of solo_jax/data/panoptic_segments.py."""

import io

import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as coco_mask

from solo_jax.data.findings import Findings
from solo_jax.data.panoptic_segments import (
  Segment,
  make_objects,
  read_ids,
  read_segments,
  to_colors,
)
from solo_jax.errors import UserError


def to_png(image):
  file = io.BytesIO()
  image.save(file, "PNG")
  return file.getvalue()


def test_ids_survive_a_round_trip():
  ids = np.array([[0, 1, 255, 256], [65535, 65536, 2**24 - 1, 300]])
  colors = to_colors(ids)
  assert colors[0, 3].tolist() == [0, 1, 0]  # R + 256 G + 65536 B
  image = PIL.Image.fromarray(colors)
  np.testing.assert_array_equal(read_ids(to_png(image)), ids)
  np.testing.assert_array_equal(read_ids(to_png(image.convert("RGBA"))), ids)
  with pytest.raises(ValueError, match="ids 0 to 16777216 exceed"):
    to_colors(ids + [[0, 0, 0, 0], [0, 0, 1, 0]])


def test_palette_and_grey():
  colors = np.array([[[1, 0, 0], [2, 1, 0]]], np.uint8)
  palette = PIL.Image.fromarray(colors).convert("P", palette=1)
  np.testing.assert_array_equal(read_ids(to_png(palette)), [[1, 258]])
  grey = PIL.Image.fromarray(np.array([[0, 7]], np.uint8))
  np.testing.assert_array_equal(read_ids(to_png(grey)), [[0, 7]])
  deep = PIL.Image.fromarray(np.array([[0, 700]], np.uint16))
  with pytest.raises(UserError, match="pixels of uint16; need colours"):
    read_ids(to_png(deep))


def test_unsound_segments_are_counted():
  findings = Findings()
  sound = dict(id=5, category_id=9, iscrowd=1, area=4)
  segments = read_segments(
    [
      sound,
      dict(sound, category_id=3),  # again
      dict(sound, id=2**24),
      dict(sound, id=6, category_id=4),
      dict(sound, id=7, iscrowd=2),
      "text",
    ],
    {3: 0, 9: 1},
    "a.json: image 1",
    findings,
  )
  assert segments == [Segment(id=5, label=1, is_crowd=True, area=4)]
  counts = {kind.name: kind.count for kind in findings.problems.kinds()}
  assert counts == {
    "segment whose id is used before": 1,
    "segment without an id from 1 to 16777215": 2,
    "segment of an unknown category": 1,
    "segment whose iscrowd is neither 0 nor 1": 1,
  }
  assert read_segments(None, {}, "a.json: image 1", findings) == []
  assert "segments_info is None" in "".join(findings.problems.lines())


def test_objects_are_what_the_pixels_say():
  ids = np.array([[0, 300, 300], [4, 4, 300]])
  segments = [
    Segment(id=300, label=2, is_crowd=False, area=9),
    Segment(id=8, label=0, is_crowd=False, area=None),
  ]
  (found,), notes = make_objects(ids, segments, 3, "a.png")
  assert found.annotation_id == 3 * 2**24 + 300
  assert (found.label, found.area, found.box_xywh) == (2, 3.0, (1, 0, 2, 2))
  mask = coco_mask.decode(dict(size=[2, 3], counts=found.rle))
  np.testing.assert_array_equal(mask, ids == 300)
  assert dict(notes) == {
    "segment with another area than its pixels, which count": (
      "a.png: segment 300 has 3 pixels, area 9"
    ),
    "segment without a pixel, skipped": "a.png: segment 8 has no pixel",
    "pixels of a segment that is not listed, read as void": (
      "a.png: 1 ids such as 4 are not listed"
    ),
  }
