"""Tests of solo_jax/data/labeled_images.py."""

import json
import os
import pathlib

import cv2
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
from pycocotools import mask as coco_mask

from solo_jax.data import builder, label_pairs, labeled_images
from solo_jax.data.file_tree import MAX_PIXELS, FileTree
from solo_jax.data.findings import Findings
from solo_jax.data.records import open_records, read_sample
from solo_jax.errors import UserError

STRICT = builder.Tolerance(is_strict=True)
ALL = builder.Tolerance(max_lost=1.0)
NUCLEI = pathlib.Path(__file__).parents[3] / "shared" / "data" / "nuclei"


@pytest.fixture
def source(tmp_path):
  """Five pairs, one for each kind of image and label file."""
  root = tmp_path / "source"
  (root / "images").mkdir(parents=True)
  (root / "labels").mkdir()
  rng = np.random.default_rng(0)
  kinds = {  # id: image suffix, type, channels; label suffix, type
    "a": (".png", np.uint8, 3, ".png", np.uint8),
    "b": (".png", np.uint16, 1, ".png", np.uint16),
    "c": (".tif", np.uint8, 1, ".tif", np.uint8),
    "d": (".tif", np.uint16, 3, ".tiff", np.uint16),
    "e": (".jpg", np.uint8, 3, ".png", np.uint16),
  }
  for key, (suffix, dtype, channels, label_suffix, label_type) in kinds.items():
    image = rng.integers(0, np.iinfo(dtype).max, (9, 12, channels), dtype)
    cv2.imwrite(str(root / "images" / (key + suffix)), image)
    labels = np.zeros((9, 12), label_type)
    labels[1:4, 2:5] = 3
    labels[6:8, 0:2] = labels[6:8, 10:] = 7  # one object of two parts
    labels[8, 11] = 250
    cv2.imwrite(str(root / "labels" / (key + label_suffix)), labels)
  return root


def build(source, data_dir, *, max_pixels=MAX_PIXELS, **options):
  labeled_images.LabeledImages(
    data_dir=str(data_dir),
    name="x",
    source=label_pairs.find_source(str(source), max_pixels),
    **options,
  ).prepare()
  opened = {}
  for split in ("train", "validation"):
    opened[split] = open_records(data_dir, "labeled_images/x", split)
  return opened


def test_every_kind_of_pair(source, tmp_path):
  splits = build(source, tmp_path / "data", class_name="cell")
  assert splits["train"].class_names == ("cell",)
  samples = {}
  for records in splits.values():
    for i in range(len(records)):
      sample = read_sample(records[i])
      samples[sample.file_name] = sample
  assert sorted(samples) == ["a.png", "b.png", "c.tif", "d.tif", "e.jpg"]
  for name, sample in samples.items():
    assert sample.image.dtype == (np.uint16 if name[0] in "bd" else np.uint8)
    source_image = cv2.imread(
      str(source / "images" / name), cv2.IMREAD_UNCHANGED
    )
    rgb = np.repeat(source_image[..., None], 3, 2)
    if source_image.ndim == 3:
      rgb = source_image[..., ::-1]
    np.testing.assert_array_equal(sample.image, rgb)
    np.testing.assert_array_equal(sample.areas, [9, 8, 1])
    np.testing.assert_array_equal(sample.masks[:].sum((1, 2)), [9, 8, 1])
    np.testing.assert_array_equal(
      sample.boxes_xyxy, [[2, 1, 5, 4], [0, 6, 12, 8], [11, 8, 12, 9]]
    )
    # The label values can be told from the ids.
    np.testing.assert_array_equal(sample.annotation_ids % 100_000, [3, 7, 250])


def test_index_decides_the_split(source, tmp_path):
  rows = [
    dict(id="a", split="val"),
    dict(id="b.png", split="train"),
    dict(id="c", split="valid"),
    dict(id="d", split="train"),
    dict(id="lost", split="train"),
  ]
  (source / "index.json").write_text(json.dumps(rows))
  splits = build(source, tmp_path / "data")
  names = {
    split: [records[i]["file_name"] for i in range(len(records))]
    for split, records in splits.items()
  }
  assert names == dict(
    train=[b"b.png", b"d.tif"], validation=[b"a.png", b"c.tif"]
  )
  problems = splits["train"].metadata["problems"]
  assert [line.rpartition("index.json: ")[2] for line in problems] == [
    "'lost' has no files.",
    "e.jpg is not listed.",
  ]
  with pytest.raises(UserError, match="has 2 problems"):
    build(source, tmp_path / "strict", tolerance=STRICT)


@pytest.mark.parametrize(
  "text", ["{", "{}3", "[1]", '[{"id": "a"}]', "[" * 10**5]
)
def test_bad_index(source, text):
  (source / "index.json").write_text(text)
  with pytest.raises(UserError, match="expected a JSON list of objects with"):
    labeled_images.read_index(source / "index.json")


def test_bad_pairs_are_named(source):
  images, labels = source / "images", source / "labels"
  (labels / "a.png").unlink()
  (images / "b.png").unlink()
  cv2.imwrite(str(labels / "c.tif"), np.zeros((9, 11), np.uint8))
  cv2.imwrite(str(labels / "d.tiff"), np.zeros((9, 12, 3), np.uint8))
  cv2.imwrite(str(labels / "e.tif"), np.zeros((9, 12), np.uint8))
  (images / "e.jpg").write_text("none")
  findings = Findings()
  pairs = label_pairs.find_pairs(label_pairs.find_source(source), findings)
  problems = findings.problems.lines()
  assert not pairs
  found = "\n".join(sorted(line.partition(": ")[2] for line in problems))
  assert found == "\n".join(
    [
      "a.png has no label image.",
      "b.png has no image.",
      "c.tif: is 9 x 12 (height x width); its label image c.tif 9 x 11.",
      "d.tif: label image d.tiff has 3 channels; need one.",
      "e.jpg: file e.jpg is not an image, or damaged.",
      "e.tif and e.png have the same id."
      if "e.tif and e.png" in "\n".join(problems)
      else "e.png and e.tif have the same id.",
    ]
  )


def test_pairs_that_cannot_be_used_are_problems(source, tmp_path):
  huge = np.full((9, 12), 100_000, np.int32)
  cv2.imwrite(str(source / "labels" / "c.tif"), huge)
  label_image = source / "labels" / "b.png"
  label_image.write_bytes(label_image.read_bytes()[:60])
  cv2.imwrite(str(source / "images" / "d.tif"), np.zeros((9, 12), np.float32))
  (source / "images" / "e.jpg").write_text("none")
  (source / "images" / "f.bmp").write_bytes(b"")
  rows = [
    *(dict(id=key, split="train") for key in "bcde"),
    dict(id="a", split="val"),
    dict(id="g", split="train"),
  ]
  image = cv2.imread(str(source / "images" / "a.png"))
  labels = cv2.imread(str(source / "labels" / "a.png"), 0)
  cv2.imwrite(str(source / "images" / "g.bmp"), image)
  cv2.imwrite(str(source / "labels" / "g.bmp"), labels)
  (source / "index.json").write_text(json.dumps(rows))

  records = build(source, tmp_path / "data", tolerance=ALL)["train"]
  assert [records[i]["file_name"] for i in range(len(records))] == [b"g.bmp"]
  np.testing.assert_array_equal(records.num_objects, [3])
  problems = "\n".join(records.metadata["problems"])
  for line in (
    "labels: c.tif: has values 100000 to 100000; need 0 to 99999.",
    "labels: b.png: cannot decode the label image",
    "images: d.tif: expected an image of 8 or 16 bits, found float32 pixels.",
    "images: e.jpg: file e.jpg is not an image, or damaged.",
    "images: f.bmp has no label image.",
  ):
    assert line in problems
  assert records.metadata["num_images_skipped"] == 5
  assert records.metadata["num_annotations_skipped"] == 3  # those of d
  with pytest.raises(UserError, match="problems"):
    build(source, tmp_path / "strict", tolerance=STRICT)


@pytest.mark.parametrize(
  "split", ["../../x", "/x", "a b", "", None, 3, ["a"], "x" * 200, "\ud800"]
)
def test_split_that_cannot_be_part_of_a_file_name(source, tmp_path, split):
  rows = [dict(id="a", split="val"), dict(id="b", split=split)]
  (source / "index.json").write_text(json.dumps(rows))
  with pytest.raises(UserError, match=": .b. has the split .* names of splits"):
    build(source, tmp_path / "data")
  assert not [x for x in (tmp_path / "data").rglob("*") if x.is_file()]


def test_image_in_two_splits_is_refused(source):
  rows = [dict(id="a", split="val"), dict(id="a.png", split="train")]
  (source / "index.json").write_text(json.dumps(rows))
  with pytest.raises(
    UserError, match="'a' is in the splits validation and train"
  ):
    labeled_images.read_index(source / "index.json")
  rows[1]["split"] = "valid"
  (source / "index.json").write_text(json.dumps(rows))
  assert labeled_images.read_index(source / "index.json") == {"a": "validation"}


def test_image_bombs_are_counted_as_skipped(source, tmp_path):
  """20 x 30 is more than the other pairs' 9 x 12."""
  for part in ("images", "labels"):
    cv2.imwrite(str(source / part / "f.png"), np.ones((20, 30), np.uint8))
  records = build(source, tmp_path / "data", max_pixels=108)["train"]
  (line,) = records.metadata["problems"]
  assert line.endswith(
    "f.png: file f.png is too large: its header declares 20 x 30 pixels "
    "(height x width), more than --max_pixels=108."
  )
  assert records.metadata["num_images_skipped"] == 1
  with pytest.raises(UserError, match="has 1 problem; fix them"):
    build(source, tmp_path / "strict", max_pixels=108, tolerance=STRICT)


def test_name_that_is_not_utf_8_is_a_problem(source):
  name = os.fsdecode(b"\xff.png")
  (source / "images" / name).write_bytes(b"")
  findings = Findings()
  pairs = label_pairs.find_pairs(label_pairs.find_source(source), findings)
  problems = findings.problems.lines()
  assert len(pairs) == 5
  assert [line.rpartition(": ")[2] for line in problems] == [
    "the name '\\udcff.png' is not UTF-8."
  ]


def test_missing_folder(tmp_path):
  with pytest.raises(UserError, match="images: no such folder"):
    build(tmp_path / "nowhere", tmp_path / "data")


def test_real_label_image():
  if not NUCLEI.exists():
    pytest.skip(f"no nuclei at {NUCLEI}")
  row = json.loads((NUCLEI / "index.json").read_bytes())[2]
  image, labels = FileTree(NUCLEI / "images"), FileTree(NUCLEI / "labels")
  name = f"{row['id']}.png"
  size = (row["height"], row["width"])
  pair = label_pairs.Pair(1, name, name)
  source = label_pairs.LabelSource(NUCLEI, image, labels)
  _, record = labeled_images.LabeledPairs([pair], source)[0]
  assert len(record.objects) == row["instances"]
  values = cv2.imread(str(NUCLEI / "labels" / name), cv2.IMREAD_UNCHANGED)
  windows = scipy.ndimage.find_objects(values)
  for item, (rows, columns) in zip(record.objects, windows, strict=True):
    value = item.annotation_id - 100_000
    rle = {"size": size, "counts": item.rle}
    np.testing.assert_array_equal(coco_mask.decode(rle), values == value)
    assert item.box_xywh == (
      columns.start,
      rows.start,
      columns.stop - columns.start,
      rows.stop - rows.start,
    )


def discs(path, value=255, places=((2, 2), (2, 9), (6, 5))):
  """Draws squares of one value that do not touch."""
  labels = np.zeros((9, 12), np.uint8)
  for row, column in places:
    labels[row : row + 2, column : column + 2] = value
  cv2.imwrite(str(path), labels)


@pytest.mark.parametrize("splits", [False, True])
@pytest.mark.parametrize("value", [1, 255])
def test_foreground_masks_are_reported_or_split(
  source, tmp_path, value, splits
):
  for path in (source / "labels").iterdir():
    path.unlink()
  for key in "abcde":
    discs(source / "labels" / f"{key}.png", value)
  opened = labeled_images.LabeledImages(
    data_dir=str(tmp_path),
    name="x",
    source=label_pairs.find_source(str(source), splits_pieces=splits),
  ).prepare()
  records = open_records(tmp_path, "labeled_images/x", "train")
  assert set(records.num_objects.tolist()) == {3 if splits else 1}
  ((name, count, line),) = records.metadata["kinds"]["notes"]
  assert count == 5 and "--split_pieces" in name and opened
  assert ("one value" in name) == (not splits)
  assert f"value {value} in 3 pieces" in line


def test_ids_in_several_pieces_are_reported_next_to_whole_ones(
  source, tmp_path
):
  splits = build(source, tmp_path / "data")
  ((name, count, line),) = splits["train"].metadata["kinds"]["notes"]
  assert name.startswith("label image with objects in several pieces")
  assert count == 5 and line.endswith("1 of 3 objects are in pieces")


def test_stacks_are_read_page_by_page(source, tmp_path):
  images = [PIL.Image.new("L", (12, 9), 40 * i) for i in range(3)]
  labels = []
  for i in range(3):
    page = np.zeros((9, 12), np.uint16)
    page[1:3, : 2 * i + 2] = 1
    page[6:, 5:7] = 2
    labels.append(PIL.Image.fromarray(page))
  for part, pages in (("images", images), ("labels", labels)):
    path = source / part / "f.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
  rows = [
    dict(id=key, split="val" if key == "a" else "train") for key in "abcdef"
  ]
  (source / "index.json").write_text(json.dumps(rows))
  records = build(source, tmp_path / "data")["train"]
  samples = [read_sample(records[i]) for i in range(len(records))]
  pages = [x for x in samples if x.file_name.startswith("f.tif")]
  assert [x.file_name for x in pages] == [f"f.tif page {i}" for i in (1, 2, 3)]
  assert [x.image[0, 0, 0] for x in pages] == [0, 40, 80]
  assert [x.areas.tolist() for x in pages] == [[4, 6], [8, 6], [12, 6]]
  assert len({x.image_id for x in samples}) == len(samples) == 7
  ids = np.concatenate([x.annotation_ids for x in samples])
  assert len(set(ids.tolist())) == len(ids)


def test_pages_of_a_stack_stay_on_one_side_of_the_split(source, tmp_path):
  for key in "abcde":
    for part in ("images", "labels"):
      for path in (source / part).glob(f"{key}.*"):
        path.unlink()
      pages = [PIL.Image.new("L", (12, 9), i + 1) for i in range(3)]
      path = source / part / f"{key}.tif"
      pages[0].save(path, save_all=True, append_images=pages[1:])
  splits = build(source, tmp_path / "data", validation_fraction=0.4)
  sides = [
    {records[i]["file_name"][:1] for i in range(len(records))}
    for records in splits.values()
  ]
  assert [len(side) for side in sides] == [3, 2] and not sides[0] & sides[1]
  assert [len(records) for records in splits.values()] == [9, 6]
