"""Tests of solo_jax/data/coco_instances.py."""

import contextlib
import functools
import http.server
import io
import json
import pathlib
import threading
import zipfile

import cv2
import numpy as np
import PIL.Image
import pytest
from pycocotools.coco import COCO

from solo_jax.data import builder, coco_instances
from solo_jax.data.records import (
  find_prepared,
  open_records,
  read_sample,
  to_coco,
)
from solo_jax.errors import UserError

SAMPLE = pathlib.Path(__file__).parents[3] / "shared" / "data" / "coco_sample"
STRICT = builder.Tolerance(is_strict=True)
ALL = builder.Tolerance(max_lost=1.0)
YEARS = {"train": "train2017", "validation": "val2017"}


@pytest.fixture
def folder(tmp_path, write_coco):
  """A source laid out like COCO 2017."""
  root = tmp_path / "coco"
  for year in YEARS.values():
    write_coco(root / "annotations" / f"instances_{year}.json", root / year)
  return root


@pytest.fixture
def archives(folder, tmp_path):
  """The same as archives named and laid out like the official ones."""
  root = tmp_path / "served"
  names = {
    "train2017": "zips/train2017.zip",
    "val2017": "zips/val2017.zip",
    "annotations": "annotations/annotations_trainval2017.zip",
  }
  for part, name in names.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / name, "w") as archive:
      for path in (folder / part).iterdir():
        archive.write(path, f"{part}/{path.name}")
  return root


def flatten(archives):
  """Moves the archives into one folder, as a person may keep them."""
  flat = archives / "flat"
  flat.mkdir()
  for path in [*archives.glob("*/*.zip")]:
    path.rename(flat / path.name)
  return flat


def build(splits, data_dir, name="x", **options):
  coco_instances.CocoInstances(
    data_dir=str(data_dir), name=name, splits=splits, **options
  ).prepare()
  return {
    split: open_records(data_dir, f"coco_instances/{name}", split)
    for split in YEARS
  }


def contents(splits):
  return [
    {
      key: value if key == "image" else str(value)
      for key, value in records[i].items()
    }
    for records in splits.values()
    for i in range(len(records))
  ]


def test_folder_archives_and_custom_pairs_give_equal_records(
  folder, archives, tmp_path
):
  custom = {
    split: coco_instances.find_custom(
      folder / "annotations" / f"instances_{year}.json", folder / year
    )
    for split, year in YEARS.items()
  }
  zipped = coco_instances.find_coco(flatten(archives))
  expected = contents(
    build(coco_instances.find_coco(folder), tmp_path / "data")
  )
  assert len(expected) == 4
  assert contents(build(zipped, tmp_path / "data", "zip")) == expected
  assert contents(build(custom, tmp_path / "data", "custom")) == expected
  names = {path.name for path in archives.rglob("*")}
  assert "7.png" not in names  # read in place, nothing unpacked


def test_download_gives_equal_records(folder, archives, tmp_path):
  handler = functools.partial(
    http.server.SimpleHTTPRequestHandler, directory=archives
  )
  handler.log_message = lambda *args: None
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
      url = f"http://127.0.0.1:{server.server_port}"
      downloaded = build(None, tmp_path / "down", download_url=url)
    finally:
      server.shutdown()
      thread.join()
  local = build(coco_instances.find_coco(folder), tmp_path / "data")
  assert contents(downloaded) == contents(local)
  assert not [*(tmp_path / "down").rglob("*.png")]  # not unpacked


def test_unreachable_server_is_an_error_at_once(tmp_path):
  with pytest.raises(UserError, match="Cannot download http://127.0."):
    build(None, tmp_path, download_url="http://127.0.0.1:9")
  assert find_prepared(tmp_path, "coco_instances/x") is None


def test_images_stay_untouched_and_ids_original(folder, tmp_path):
  records = build(coco_instances.find_coco(folder), tmp_path / "data")["train"]
  assert list(records.image_ids) == [3, 7]
  assert list(records.num_objects) == [0, 3]
  assert list(records.num_crowds) == [0, 1]
  assert records.category_ids == (2, 44)
  assert records[0]["image"] == (folder / "train2017" / "3.png").read_bytes()
  grey = read_sample(records[0])
  assert grey.image.shape == (20, 30, 3) and not len(grey.labels)
  assert (grey.image[..., :1] == grey.image).all()


def test_problems_are_counted_or_refused(folder, tmp_path):
  path = folder / "annotations" / "instances_train2017.json"
  content = json.loads(path.read_text())
  content["annotations"][0]["category_id"] = 1
  path.write_text(json.dumps(content))
  splits = coco_instances.find_coco(folder)
  line = (
    "instances_train2017.json: image 7: annotation 90 has the unknown "
    "category_id 1."
  )
  records = build(splits, tmp_path / "data")["train"]
  assert records.metadata["problems"] == [line]
  assert list(records.num_objects) == [0, 2]
  with pytest.raises(UserError, match=line):
    build(splits, tmp_path / "strict", tolerance=STRICT)
  assert find_prepared(tmp_path / "strict", "coco_instances/x") is None


@pytest.mark.parametrize("kind", ["float", "truncated", "bmp"])
def test_unusable_image_is_a_problem(folder, tmp_path, kind):
  """Its header is sound, so that only reading its pixels tells."""
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 255, (20, 30, 3), np.uint8)
  suffix = ".bmp" if kind == "bmp" else ".tiff"
  encoded = cv2.imencode(suffix, pixels)[1].tobytes()
  if kind == "float":
    encoded = cv2.imencode(suffix, pixels[..., 0] / np.float32(2))[1].tobytes()
  if kind == "truncated":
    # Uncompressed, so that the header stands in front of the pixels.
    image = PIL.Image.fromarray(pixels)
    image.save(tmp_path / "x.tiff")
    encoded = (tmp_path / "x.tiff").read_bytes()[:-500]
  (folder / "train2017" / "7.png").write_bytes(encoded)
  splits = coco_instances.find_coco(folder)
  records = build(splits, tmp_path / "data")["train"]
  metadata = records.metadata
  if kind == "bmp":
    assert list(records.image_ids) == [3, 7] and not metadata["num_problems"]
    return
  assert list(records.image_ids) == [3]
  (line,) = metadata["problems"]
  assert "train2017: image 7: file 7.png: " in line
  assert metadata["num_images_skipped"] == 1
  assert metadata["num_annotations_skipped"] == 4
  with pytest.raises(UserError, match="image 7: file 7.png"):
    build(splits, tmp_path / "strict", tolerance=STRICT)
  assert find_prepared(tmp_path / "strict", "coco_instances/x") is None


def test_splits_must_share_their_categories(folder, tmp_path):
  path = folder / "annotations" / "instances_val2017.json"
  content = json.loads(path.read_text())
  content["categories"][0]["name"] = "mug"
  path.write_text(json.dumps(content))
  with pytest.raises(
    UserError, match=r"differ in \(id, name\): \[\(44, 'cup'\), \(44, 'mug'\)"
  ):
    build(coco_instances.find_coco(folder), tmp_path / "data")


def test_one_custom_split_alone(folder, tmp_path):
  pair = coco_instances.find_custom(
    folder / "annotations" / "instances_train2017.json", folder / "train2017"
  )
  coco_instances.CocoInstances(
    data_dir=str(tmp_path / "data"), name="one", splits={"train": pair}
  ).prepare()
  with pytest.raises(UserError, match="it has train, whole"):
    open_records(tmp_path / "data", "coco_instances/one", "validation")


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_images_are_held_out_of_a_split_alone(folder, tmp_path, fraction):
  path = folder / "annotations" / "instances_train2017.json"
  content = json.loads(path.read_text())
  image = content["images"][0]
  content["images"] = [image | dict(id=i) for i in range(8)]
  for i in range(8):
    content["images"][i]["file_name"] = f"{i}.jpg"
    (folder / "train2017" / f"{i}.jpg").write_bytes(
      (folder / "train2017" / image["file_name"]).read_bytes()
    )
  content["annotations"] = [
    content["annotations"][0] | dict(id=i + 1, image_id=i) for i in range(8)
  ]
  path.write_text(json.dumps(content))
  coco_instances.CocoInstances(
    data_dir=str(tmp_path),
    name="one",
    splits={"train": coco_instances.find_custom(path, folder / "train2017")},
    validation_fraction=fraction,
  ).prepare()
  train, validation = (
    open_records(tmp_path, "coco_instances/one", split)
    for split in ("train", "validation")
  )
  assert len(validation) == 8 * fraction
  assert sorted([*train.image_ids, *validation.image_ids]) == [*range(8)]
  for records in (train, validation):
    for i, image_id in enumerate(records.image_ids):
      assert records[i]["objects"]["annotation_id"] == [image_id + 1]


def test_missing_parts_are_named(folder, tmp_path):
  with pytest.raises(UserError, match="none of train2017, train2017.z"):
    coco_instances.find_coco(tmp_path)
  (folder / "annotations" / "instances_val2017.json").unlink()
  with pytest.raises(UserError, match="instances_val2017.json is miss"):
    coco_instances.find_coco(folder)
  with pytest.raises(UserError, match="no such annotation file"):
    coco_instances.find_custom(tmp_path / "none.json", folder / "train2017")


@pytest.fixture(scope="module")
def sample_splits(tmp_path_factory):
  if not SAMPLE.exists():
    pytest.skip(f"no COCO sample at {SAMPLE}")
  data_dir = tmp_path_factory.mktemp("data")
  return build(coco_instances.find_coco(SAMPLE), data_dir)


@pytest.mark.parametrize("split", list(YEARS))
def test_real_annotations_stay_exact(sample_splits, split):
  path = SAMPLE / "annotations" / f"instances_{YEARS[split]}.json"
  with contextlib.redirect_stdout(io.StringIO()):
    oracle = COCO(path)
  records = sample_splits[split]
  assert records.metadata["num_problems"] == 0
  assert list(records.image_ids) == sorted(oracle.imgs)
  assert records.category_ids == tuple(sorted(oracle.cats))
  num_annotations = 0
  for i in range(len(records)):
    sample = read_sample(records[i])
    for k, annotation_id in enumerate(sample.annotation_ids):
      item = oracle.anns[int(annotation_id)]
      np.testing.assert_array_equal(sample.masks[k], oracle.annToMask(item))
      assert sample.areas[k] == item["area"]  # exact float64
      assert sample.is_crowd[k] == item["iscrowd"]
      assert records.category_ids[sample.labels[k]] == item["category_id"]
      x, y, width, height = item["bbox"]
      assert list(sample.boxes_xyxy[k]) == [x, y, x + width, y + height]
      assert sample.image_id == item["image_id"]
      num_annotations += 1
  assert num_annotations == len(oracle.anns)


def lvis_like(tiny_coco):
  """The same annotations as LVIS has them: no file names, federated."""
  for image in tiny_coco["images"]:
    name = image.pop("file_name")
    image["coco_url"] = f"http://images.example/val2017/{name}"
    image["neg_category_ids"] = [2] if image["id"] == 3 else []
    image["not_exhaustive_category_ids"] = [44] if image["id"] == 7 else []
  for category, frequency in zip(tiny_coco["categories"], "rf", strict=True):
    category["frequency"] = frequency
  return tiny_coco


def test_federated_annotations_come_back(tmp_path, write_coco, tiny_coco):
  write_coco(tmp_path / "lvis.json", tmp_path / "val2017", lvis_like(tiny_coco))
  files = coco_instances.find_custom(str(tmp_path / "lvis.json"), str(tmp_path))
  coco_instances.CocoInstances(
    data_dir=str(tmp_path), name="lvis", splits={"validation": files}
  ).prepare()
  records = open_records(tmp_path, "coco_instances/lvis", "validation")
  dataset = to_coco(records)
  assert {
    x["id"]: (x["neg_category_ids"], x["not_exhaustive_category_ids"])
    for x in dataset["images"]
  } == {3: ([2], []), 7: ([], [44])}
  assert {x["id"]: x["frequency"] for x in dataset["categories"]} == {
    2: "f",
    44: "r",
  }
  assert {x["file_name"] for x in dataset["images"]} == {
    "val2017/3.png",
    "val2017/7.png",
  }
  part = open_records(tmp_path, "coco_instances/lvis", "validation[1:]")
  assert to_coco(part)["images"][0]["not_exhaustive_category_ids"] == [44]


def test_other_annotations_are_not_federated(folder, tmp_path):
  records = build(coco_instances.find_coco(folder), tmp_path / "data")["train"]
  assert "neg_category_ids" not in to_coco(records)["images"][0]
  assert "frequency" not in to_coco(records)["categories"][0]


def test_wrong_federated_annotations_are_refused(
  tmp_path, write_coco, tiny_coco
):
  content = lvis_like(tiny_coco)
  content["images"][0]["neg_category_ids"] = [2, 3]
  write_coco(tmp_path / "lvis.json", tmp_path / "val2017", content)
  files = coco_instances.find_custom(str(tmp_path / "lvis.json"), str(tmp_path))
  with pytest.raises(UserError, match=r"image 7: has neg_category_ids \[2, 3"):
    coco_instances.CocoInstances(
      data_dir=str(tmp_path), splits={"validation": files}, tolerance=STRICT
    ).prepare()
  del content["images"][0]["neg_category_ids"]
  write_coco(tmp_path / "lvis.json", tmp_path / "val2017", content)
  with pytest.raises(UserError, match="image 7: has neg_category_ids None"):
    coco_instances.CocoInstances(
      data_dir=str(tmp_path),
      name="y",
      splits={"validation": files},
      tolerance=STRICT,
    ).prepare()
  content["images"][0]["neg_category_ids"] = [2]
  del content["categories"][0]["frequency"]
  write_coco(tmp_path / "lvis.json", tmp_path / "val2017", content)
  with pytest.raises(UserError, match="category 44 has the frequency None"):
    coco_instances.CocoInstances(
      data_dir=str(tmp_path), name="x", splits={"validation": files}
    ).prepare()
