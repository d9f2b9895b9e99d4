"""Tests of solo_jax/data/annotations.py with anything in its place."""

import json

import cv2
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from solo_jax.data.annotations import read_annotations
from solo_jax.data.file_tree import FileTree
from tests.data.annotations_test import decode

SIZE = [20, 30]
NUMBERS = st.one_of(
  st.integers(),
  st.floats(),
  st.floats(-40, 70),  # within and about the image
)
POLYGONS = st.lists(st.lists(NUMBERS, max_size=10), max_size=3)
RUNS = st.lists(st.integers(-1, 700) | st.integers(), max_size=12)
COUNTS = RUNS | st.text(st.characters(codec="utf-8"), max_size=12)
COUNTS |= st.text([chr(x) for x in range(48, 112)], max_size=12)
RLES = st.fixed_dictionaries(
  {}, optional={"size": st.just(SIZE) | RUNS, "counts": COUNTS}
)
JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
  lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3),
  max_leaves=6,
)


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("images")
  cv2.imwrite(str(folder / "7.png"), np.zeros((20, 30), np.uint8))
  return FileTree(folder)


@hypothesis.given(st.data())
def test_any_annotation_is_sound_or_named_and_spares_its_neighbour(
  image_folder, data
):
  """Whatever JSON holds where an annotation should be."""
  fields = dict(
    id=st.integers() | JSON,
    image_id=st.just(7) | JSON,
    category_id=st.just(2) | JSON,
    iscrowd=st.sampled_from([0, 1]) | JSON,
    area=NUMBERS | JSON,
    bbox=st.lists(NUMBERS, min_size=4, max_size=4) | JSON,
    segmentation=POLYGONS | RLES | JSON,
  )
  required = [*(data.draw(st.sampled_from([[*fields], ["segmentation"]])))]
  item = data.draw(
    st.fixed_dictionaries(
      {key: fields[key] for key in required},
      optional={key: x for key, x in fields.items() if key not in required},
    )
    | JSON
  )
  sound = dict(
    **dict(id=-1, image_id=7, category_id=2),
    segmentation=[[1, 1, 5, 1, 5, 5, 1, 5]],
  )
  content = dict(
    images=[dict(id=7, file_name="7.png", height=20, width=30)],
    annotations=[item, sound],
    categories=[dict(id=2, name="a")],
  )
  found = read_annotations(json.dumps(content).encode(), "a.json", image_folder)
  objects = found.images[0].objects
  assert len(objects) + found.num_annotations_skipped == 2
  assert bool(found.findings.problems.lines()) == bool(
    found.num_annotations_skipped
  )
  for line in found.findings.problems.lines():
    line.encode()  # can be written
  for one in objects:
    mask = decode(found.images[0], one)
    assert set(np.unique(mask)) <= {False, True} and mask.shape == (20, 30)
    assert -(2**63) <= one.annotation_id < 2**63
    assert np.isfinite([one.area, *one.box_xywh]).all() and one.area >= 0
  if item == sound or (isinstance(item, dict) and item.get("id") == -1):
    return
  assert [x.area for x in objects if x.annotation_id == -1] == [16]


@hypothesis.given(
  st.lists(st.integers(0, 40), min_size=1, max_size=40),
  st.booleans(),
)
def test_any_runs_are_the_mask_that_they_say(image_folder, runs, is_text):
  """Runs of any lengths, zeros in the middle included, written either way."""
  runs = runs[: int(np.searchsorted(np.cumsum(runs), 600))]
  runs.append(600 - sum(runs))
  expected = np.repeat(np.arange(len(runs)) % 2, runs).reshape(30, 20).T
  counts = runs
  if is_text:
    counts = coco_mask.frPyObjects({"size": SIZE, "counts": runs}, *SIZE)
    counts = counts["counts"].decode()
  content = dict(
    images=[dict(id=7, file_name="7.png", height=20, width=30)],
    annotations=[
      dict(
        **dict(id=1, image_id=7, category_id=2),
        segmentation=dict(size=SIZE, counts=counts),
      )
    ],
    categories=[dict(id=2, name="a")],
  )
  found = read_annotations(json.dumps(content).encode(), "a.json", image_folder)
  if not expected.any():
    (kind,) = found.findings.problems.kinds()
    assert kind.name == "mask without a pixel" and not found.images[0].objects
    return
  assert not len(found.findings.problems)
  (one,) = found.images[0].objects
  np.testing.assert_array_equal(decode(found.images[0], one), expected)
  assert one.area == expected.sum()
  left, top, width, height = map(int, one.box_xywh)
  assert expected[top : top + height, left : left + width].sum() == one.area
  assert (width, height) == tuple(
    np.ptp(x) + 1 for x in np.nonzero(expected)[::-1]
  )
