"""Tests of solo_jax/conversion/classes.py."""

import json
import pathlib

import pytest

from solo_jax.conversion.classes import COCO, find_classes
from solo_jax.errors import UserError

SAMPLE = pathlib.Path(__file__).parents[3] / "shared/data/coco_sample"


@pytest.mark.skipif(not SAMPLE.exists(), reason="needs the COCO sample")
def test_coco_is_the_annotation_files_own_list():
  path = SAMPLE / "annotations" / "instances_val2017.json"
  categories = json.loads(path.read_text())["categories"]
  assert [(x["id"], x["name"]) for x in categories] == list(COCO)


def test_coco_by_count_and_by_the_gaps_of_its_ids():
  classes, source = find_classes(80, None, None)
  assert classes == COCO and "as there are 80" in source
  missing = set(range(1, 91)) - {number for number, _ in classes}
  assert missing == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def test_torchvision_has_outputs_for_ids_that_coco_skips():
  classes, _ = find_classes(90, None, None)
  assert [number for number, _ in classes] == list(range(1, 91))
  assert tuple(x for x in classes if x[1] != "N/A") == COCO
  assert dict(classes)[12] == "N/A"


@pytest.mark.parametrize("old", [True, False])
def test_noted_names_of_coco(old):
  names = [name.replace(" ", "_") if old else name for _, name in COCO]
  classes, source = find_classes(80, tuple(names), None)
  assert classes == COCO and "as noted" in source


def test_noted_names_of_another_dataset():
  classes, source = find_classes(2, ("cell", "mitosis"), None)
  assert classes == ((1, "cell"), (2, "mitosis")) and "ids from 1" in source


def test_classes_of_an_annotation_file(tmp_path):
  path = tmp_path / "a.json"
  categories = [{"id": 7, "name": "b"}, {"id": 3, "name": "a"}]
  path.write_text(json.dumps({"categories": categories}))
  classes, _ = find_classes(2, ("x", "y"), str(path))
  assert classes == ((3, "a"), (7, "b"))
  with pytest.raises(UserError, match="has 5 outputs, but there are 2"):
    find_classes(5, None, str(path))


@pytest.mark.parametrize(
  "text", ["", "[]", "{}", '{"categories": [1]}', '{"categories": [{"id": 1}]}']
)
def test_file_without_classes(tmp_path, text):
  path = tmp_path / "a.json"
  path.write_text(text)
  with pytest.raises(UserError, match="a.json: expected a JSON object"):
    find_classes(2, None, str(path))


def test_unknown_classes():
  with pytest.raises(UserError, match="5 classes but no names; pass --"):
    find_classes(5, None, None)
  with pytest.raises(UserError, match="has 5 outputs, but there are 1"):
    find_classes(5, ("a",), None)
