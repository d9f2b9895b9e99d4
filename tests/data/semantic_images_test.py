"""Tests of solo_jax/data/semantic_images.py."""

import json

import cv2
import numpy as np
import pytest

from solo_jax.data import builder, label_pairs, semantic_images
from solo_jax.data.records import open_records, read_sample
from solo_jax.errors import UserError

LABELS = np.array([[0, 1, 255], [0, 0, 255]], np.uint8)


@pytest.fixture
def source(tmp_path):
  """Two pairs of the values 0, 1 and 255; the second has no 1."""
  root = tmp_path / "source"
  for folder in ("images", "labels"):
    (root / folder).mkdir(parents=True)
  for key, labels in (("a", LABELS), ("b", np.where(LABELS == 1, 0, LABELS))):
    cv2.imwrite(str(root / "images" / f"{key}.png"), np.zeros((2, 3, 3), "u1"))
    cv2.imwrite(str(root / "labels" / f"{key}.png"), labels.astype(np.uint8))
  index = [dict(id="a", split="train"), dict(id="b", split="val")]
  (root / "index.json").write_text(json.dumps(index))
  return root


def build(source, data_dir, classes, **options):
  (source / "classes.json").write_text(json.dumps(classes))
  semantic_images.SemanticImages(
    data_dir=str(data_dir),
    name="x",
    source=label_pairs.find_source(str(source)),
    **options,
  ).prepare()
  return open_records(str(data_dir), "semantic_images/x", "train")


@pytest.mark.parametrize(
  "classes",
  [
    {"0": "wall", "1": "floor", "255": None},
    {"0": None, "1": "floor", "255": "object"},
    {"255": "object", "1": None, "0": "wall"},
  ],
)
def test_each_reading_of_the_same_values(source, tmp_path, classes):
  records = build(source, tmp_path / "data", classes)
  kept = {int(v): name for v, name in sorted(classes.items()) if name}
  kept = dict(sorted(kept.items()))
  assert records.class_names == tuple(kept.values())
  assert records.category_ids == tuple(kept)
  assert records.is_thing == (False, False)
  sample = read_sample(records[0])
  assert sample.labels.tolist() == [0, 1]
  for value, mask in zip(kept, sample.masks, strict=True):
    np.testing.assert_array_equal(mask, LABELS == value)
  first, _, last = records.metadata["values"]  # 0 and 255, of both splits
  assert first.partition(":")[0].split() == ["0", classes["0"] or "(void)"]
  assert "7 pixels" in first and last.endswith("4 pixels")


def test_ids_of_the_index_without_files_are_counted(source, tmp_path):
  index = json.loads((source / "index.json").read_bytes())
  index.append(dict(id="lost", split="train"))
  (source / "index.json").write_text(json.dumps(index))
  classes = {"0": "wall", "1": "floor", "255": None}
  (problem,) = build(source, tmp_path, classes).metadata["problems"]
  assert problem.endswith("index.json: 'lost' has no files.")


def test_a_value_that_is_not_in_the_table_is_named(source, tmp_path):
  loose = builder.Tolerance(max_lost=1.0)
  with pytest.raises(
    UserError, match="has the values 1, which classes.json lacks"
  ):
    build(source, tmp_path, {"0": "wall", "255": None}, tolerance=loose)


@pytest.mark.parametrize(
  ("classes", "message"),
  [
    (["wall"], "cannot be read"),
    ({"0": "wall", "1": "wall"}, "its own name"),
    ({"x": "wall"}, "its own name"),
    ({"-1": "wall"}, "its own name"),
    ({"0": None}, "its own name"),
  ],
)
def test_invalid_class_tables_are_refused(tmp_path, classes, message):
  path = tmp_path / "classes.json"
  path.write_text(json.dumps(classes))
  with pytest.raises(UserError, match=message):
    semantic_images.read_classes(path)


def test_without_a_table(tmp_path):
  with pytest.raises(UserError, match=r'classes.json cannot be read.*"wall"'):
    semantic_images.read_classes(tmp_path / "classes.json")
