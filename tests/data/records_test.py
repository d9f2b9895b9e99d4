"""Tests of solo_jax/data/records.py."""

import io
import json
import os
import pickle
import resource
import shutil
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as coco_mask

from solo_jax.data import records as data_records
from solo_jax.data.shapes import Shapes
from solo_jax.errors import UserError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  path = str(tmp_path_factory.mktemp("data"))
  Shapes(data_dir=path, num_train=6, num_validation=2).prepare()
  return path


def encode(suffix, image):
  return cv2.imencode(suffix, image)[1].tobytes()


def make_record(encoded, height=8, width=12):
  mask = np.zeros((height, width), np.uint8, order="F")
  mask[1:3, 2:7] = 1
  rle = coco_mask.encode(mask)["counts"]
  return dict(
    image=encoded,
    image_id=np.int64(5),
    file_name=b"five.png",
    height=np.int32(height),
    width=np.int32(width),
    objects=dict(
      annotation_id=[np.int64(9)],
      label=[np.int64(1)],
      is_crowd=[np.bool_(False)],
      rle=[rle],
      area=[np.float64(10).tobytes()],
      bbox=[np.array([2.0, 1, 5, 2]).tobytes()],
    ),
  )


def test_slices_select_in_order(data_dir):
  whole = data_records.open_records(data_dir, "shapes", "train")
  assert len(whole) == 6
  for text, part in {
    "[:2]": slice(2),
    "[1:4]": slice(1, 4),
    "[4:]": slice(4, None),
    "[-2:]": slice(-2, None),
    "[:-5]": slice(-5),
    "[3:100]": slice(3, 100),
  }.items():
    records = data_records.open_records(data_dir, "shapes", f"train{text}")
    expected = whole.image_ids[part]
    np.testing.assert_array_equal(records.image_ids, expected)
    found = [records[i]["image_id"] for i in range(len(records))]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(records.num_objects, whole.num_objects[part])


def test_records_pickle_small_and_reopen(data_dir):
  records = data_records.open_records(data_dir, "shapes", "validation")
  before = records[1]
  dumped = pickle.dumps(records)
  assert len(dumped) < 4000
  copy = pickle.loads(dumped)
  assert copy[1]["image"] == before["image"]
  assert copy.class_names == records.class_names and len(copy) == 2
  with pytest.raises(IndexError):
    copy[2]


@pytest.mark.parametrize(
  ("split", "message"),
  [
    ("test", "Unknown split 'test' of .*; it has train, validation, whole or"),
    ("train[2]", r"Unknown split 'train\[2\]'"),
    ("train[-:]", r"Unknown split 'train\[-:\]'"),
    ("train[6:]", r"Split 'train\[6:\]' of .* selects no images"),
    ("train[4:2]", "selects no images"),
  ],
)
def test_bad_split(data_dir, split, message):
  with pytest.raises(UserError, match=message):
    data_records.open_records(data_dir, "shapes", split)


@pytest.mark.parametrize(
  ("name", "command"),
  [
    ("shapes/other", "--dataset=shapes --name=other --data_dir="),
    (
      "coco_instances/2017",
      "--dataset=coco_instances --source=... --name=2017 --data_dir=",
    ),
  ],
)
def test_missing_dataset_names_the_command(tmp_path, name, command):
  # Once with an empty data_dir and once with none at all.
  for path in (tmp_path, tmp_path / "none"):
    with pytest.raises(UserError, match=f"{command}{path}"):
      data_records.open_records(path, name, "train")


@pytest.fixture
def copied(data_dir, tmp_path):
  """A dataset to damage, and the path of its shard for training."""
  shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
  (shard,) = tmp_path.rglob("*train.array_record*")
  return tmp_path, shard


@pytest.mark.parametrize(
  ("how", "reason"),
  [
    ("cut", "Corrupted"),
    ("emptied", "at least 64KB"),
    ("removed", "No such file"),
    ("exchanged", "2 of 6 records"),
  ],
)
def test_shard_that_is_not_whole_is_named_at_once(copied, how, reason):
  folder, shard = copied
  if how == "removed":
    shard.unlink()
  elif how == "exchanged":
    (other,) = folder.rglob("*validation.array_record*")
    shutil.copy(other, shard)
  else:
    size = shard.stat().st_size if how == "cut" else 0
    os.truncate(shard, size * 2 // 3)
  message = f"1 of 1 files of split 'train' .*\n  {shard}: .*{reason}"
  with pytest.raises(UserError, match=message):
    data_records.open_records(folder, "shapes", "train")
  data_records.open_records(folder, "shapes", "validation")


def test_index_that_is_not_whole_is_named(copied):
  folder, shard = copied
  path = shard.with_name("train_index.npz")
  os.truncate(path, path.stat().st_size // 2)
  with pytest.raises(UserError, match=f"{path} cannot be read .* again"):
    data_records.open_records(folder, "shapes", "train")


def test_record_damaged_on_disk_is_a_corrupt_sample(data_dir, copied, caplog):
  folder, shard = copied
  before = data_records.open_records(data_dir, "shapes", "train")
  content = bytearray(shard.read_bytes())
  content[2 * len(before[0]["image"])] ^= 1  # in one of the first records
  shard.write_bytes(content)
  records = data_records.open_records(folder, "shapes", "train")
  samples = [data_records.read_sample(records[i]) for i in range(6)]
  (bad,) = (i for i in range(6) if samples[i].is_corrupt)
  assert samples[bad].image_id == records.image_ids[bad]
  assert samples[bad].image.shape == (128, 128, 3)
  assert len(samples[bad].masks) == 0
  assert samples[bad].file_name == f"damaged record {bad} of train"
  # The truth is incomplete, and that is reported.
  count = records.num_objects[bad] + records.num_crowds[bad]
  lost = len(data_records.to_coco(before)["annotations"]) - len(
    data_records.to_coco(records)["annotations"]
  )
  assert lost == count > 0
  (line,) = caplog.messages
  assert f"record {bad} of train): its {count} annotations cannot be" in line


def test_newest_version_wins(tmp_path):
  for version in ("1.9.0", "1.10.0", "incomplete.X_2.0.0"):
    (tmp_path / "toy" / version).mkdir(parents=True)
    (tmp_path / "toy" / version / "dataset_info.json").touch()
  assert data_records.find_prepared(tmp_path, "toy").name == "1.10.0"


def test_to_coco_scores_perfectly_against_itself(data_dir):
  records = data_records.open_records(data_dir, "shapes", "validation")
  coco = data_records.to_coco(records)
  assert [image["id"] for image in coco["images"]] == [7, 8]
  assert coco["categories"][0] == dict(id=1, name="disc")
  assert len(coco["annotations"]) == records.num_objects.sum()
  sample = data_records.read_sample(records[0])
  ours = [x for x in coco["annotations"] if x["image_id"] == 7]
  for mask, item in zip(sample.masks, ours, strict=True):
    np.testing.assert_array_equal(
      coco_mask.decode(item["segmentation"]).astype(bool), mask
    )
    assert item["area"] == mask.sum()
    rows, columns = np.nonzero(mask)
    x, y = columns.min(), rows.min()
    width, height = columns.max() + 1 - x, rows.max() + 1 - y
    assert item["bbox"] == [x, y, width, height]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_png_becomes_rgb(dtype, channels):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, np.iinfo(dtype).max, (8, 12, channels), dtype)
  image = data_records.decode_image(encode(".png", pixels))
  assert image.dtype == dtype and image.shape == (8, 12, 3)
  order = [0, 0, 0] if channels == 1 else [2, 1, 0]  # written from BGR
  np.testing.assert_array_equal(image, pixels[..., order])


def test_orientation_tag_is_ignored():
  image = PIL.Image.new("RGB", (12, 8))
  exif = image.getexif()
  exif[0x0112] = 6  # turn by a quarter
  buffer = io.BytesIO()
  image.save(buffer, "JPEG", exif=exif)
  assert data_records.decode_image(buffer.getvalue()).shape == (8, 12, 3)


def test_bytes_behind_the_end_do_no_harm():
  encoded = encode(".jpg", np.full((8, 12, 3), 90, np.uint8))
  image = data_records.decode_image(encoded + b"\0\0trailing")
  np.testing.assert_array_equal(image, data_records.decode_image(encoded))


def test_sample_fields():
  sample = data_records.read_sample(
    make_record(encode(".png", np.zeros((8, 12), np.uint8)))
  )
  assert not sample.is_corrupt
  assert (sample.image_id, sample.file_name) == (5, "five.png")
  assert sample.original_size == sample.image_size == (8, 12)
  masks = np.asarray(sample.masks)
  assert masks.dtype == bool and masks.sum() == 10
  np.testing.assert_array_equal(sample.affine, [[1, 0, 0], [0, 1, 0]])
  np.testing.assert_array_equal(sample.boxes_xyxy, [[2, 1, 7, 3]])


NOISE = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)


@pytest.mark.parametrize(
  "encoded",
  [
    encode(".jpg", NOISE)[:-40],
    encode(".png", NOISE)[:-40],
    encode(".png", NOISE)[:30],
    b"",
    b"text",
    encode(".png", NOISE[:, :5]),  # not the recorded size
  ],
  ids=["jpeg", "png", "header", "empty", "text", "size"],
)
def test_corrupt_image_gives_a_blank_sample(encoded):
  sample = data_records.read_sample(make_record(encoded))
  assert sample.is_corrupt
  assert sample.image.shape == (8, 12, 3) and not sample.image.any()
  assert sample.masks.shape == (0, 8, 12)
  assert sample.boxes_xyxy.shape == (0, 4)
  for field in ("labels", "areas", "is_crowd", "annotation_ids"):
    assert len(getattr(sample, field)) == 0


def test_fingerprint_differs_between_seeds_and_splits(tmp_path, data_dir):
  def fingerprint(folder, split):
    return data_records.open_records(folder, "shapes", split).fingerprint

  for seed, name in ((0, "same"), (1, "other")):
    Shapes(
      data_dir=str(tmp_path / name), seed=seed, num_train=6, num_validation=2
    ).prepare()
  first = fingerprint(data_dir, "train")
  assert fingerprint(tmp_path / "same", "train") == first
  assert fingerprint(tmp_path / "other", "train") != first
  assert fingerprint(data_dir, "validation") != first
  # A part of a split is of the same data.
  assert fingerprint(data_dir, "train[:2]") == first


def test_file_of_another_dataset_is_named(copied, tmp_path_factory):
  """Of equal length, with equal ids: only its content differs."""
  folder, shard = copied
  other = tmp_path_factory.mktemp("other")
  Shapes(data_dir=str(other), seed=1, num_train=6, num_validation=2).prepare()
  (foreign,) = other.rglob("*train.array_record*")
  shutil.copy(foreign, shard)
  with pytest.raises(
    UserError, match=f"{shard}: belongs to another dataset, or"
  ):
    data_records.open_records(folder, "shapes", "train")


def test_record_of_another_image_is_refused(copied):
  """In a dataset from before its files were marked."""
  folder, shard = copied
  path = shard.with_name("metadata.json")
  metadata = json.loads(path.read_text())
  for key in ("shards", "fingerprints", "kinds", "exif"):
    del metadata[key]
  path.write_text(json.dumps(metadata))
  before = data_records.open_records(folder, "shapes", "train")
  assert before[0]["image_id"] == 1 and before.exif == "ignore"
  with np.load(shard.with_name("train_index.npz")) as index:
    columns = dict(index)
  columns["image_id"] = columns["image_id"][::-1]
  np.savez(shard.with_name("train_index.npz"), **columns)
  records = data_records.open_records(folder, "shapes", "train")
  assert records.fingerprint != before.fingerprint
  with pytest.raises(UserError, match="image 1, but its index says 6: files"):
    records[0]


@pytest.mark.parametrize("name", ["my data [v2]", "*", "a?b", "é 核"])
def test_folders_of_any_name(tmp_path, name):
  Shapes(data_dir=str(tmp_path / name), num_train=1, num_validation=1).prepare()
  records = data_records.open_records(tmp_path / name, "shapes", "train")
  assert records[0]["image_id"] == 1


def test_command_for_a_missing_dataset_is_quoted(tmp_path):
  with pytest.raises(UserError, match="'--data_dir=.*/my data'"):
    data_records.open_records(tmp_path / "my data", "shapes", "train")


def test_image_that_declares_another_size_is_not_decoded():
  png = bytearray(encode(".png", NOISE))
  png[16:24] = (2**14).to_bytes(4) * 2
  png[29:33] = zlib.crc32(png[12:29]).to_bytes(4)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert data_records.read_sample(make_record(bytes(png))).is_corrupt
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert after - before < 50_000  # kB
