"""Tests of solo_jax/prepare.py."""

import functools
import json
import os
import shlex
import subprocess
import sys

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from solo_jax.data.records import open_records, read_sample
from solo_jax.data.shapes import Shapes
from solo_jax.errors import UserError
from solo_jax.prepare import check_same_request, config_flags, write_examples
from tests.command_server import serve
from tests.panoptic_source import write_panoptic


@pytest.fixture(scope="module")
def prepare():
  """Runs the command as a person does; its flags stay out of this process."""
  with serve("solo_jax.prepare") as run:
    yield functools.partial(run, COLUMNS="200")


@pytest.fixture
def source(tmp_path):
  """Two images; the second has one sound object and a polygon of 2 points."""
  root = tmp_path / "source"
  (root / "images").mkdir(parents=True)
  images, annotations = [], []
  for key in (1, 2):
    name = f"{key}.jpg"
    cv2.imwrite(str(root / "images" / name), np.zeros((9, 12, 3), np.uint8))
    images.append(dict(id=key, file_name=name, height=9, width=12))
  for key, polygon in ((5, [1, 1, 6, 1, 6, 6]), (6, [1, 1, 6, 6])):
    annotations.append(
      dict(id=key, image_id=2, category_id=3, segmentation=[polygon])
    )
  content = dict(
    images=images,
    annotations=annotations,
    categories=[dict(id=3, name="leaf")],
  )
  (root / "a.json").write_text(json.dumps(content))
  return root


def custom_flags(source, data_dir):
  return [
    "--dataset=coco_instances",
    "--name=leaves",
    f"--data_dir={data_dir}",
    *(
      f"--{split}_{part}"
      for split in ("train", "validation")
      for part in (
        f"annotations={source / 'a.json'}",
        f"images={source / 'images'}",
      )
    ),
  ]


def test_custom_files_end_to_end(prepare, source, tmp_path):
  data_dir = tmp_path / "data"
  flags = custom_flags(source, data_dir)

  refused = prepare(*flags, "--strict")
  assert refused.returncode == 1 and "has 2 problems" in refused.stderr
  assert not [*data_dir.rglob("dataset_info.json")]

  done = prepare(*flags)
  assert done.returncode == 0, done.stderr
  rows = {
    line[:14].strip(): line[14:].split()
    for line in done.stdout.splitlines()
    if line.endswith(tuple("0123456789"))
  }
  numbers = {
    key: [int(x) for x in row] for key, row in rows.items() if len(row) == 2
  }
  assert numbers["images"] == [2, 2]
  assert numbers["instances"] == numbers["empty images"] == [1, 1]
  assert numbers["crowds"] == [0, 0]
  assert "1 class: leaf" in done.stdout
  assert "2 problems, skipped: 0 images, 2 annotations" in done.stdout
  assert "image 2: annotation 6 has a polygon of 4 numbers" in done.stdout
  records = open_records(data_dir, "coco_instances/leaves", "validation[1:]")
  assert list(records.image_ids) == [2]

  again = prepare(*flags)
  assert again.returncode == 0 and "Already prepared: " in again.stdout
  assert "2 problems, skipped" in again.stdout
  for output in (done.stdout, again.stdout):
    assert output.endswith(
      "Train on it with:\n"
      f"  --config.dataset.data_dir={data_dir}\n"
      "  --config.dataset.name=coco_instances/leaves\n"
      "  --config.dataset.num_classes=1\n"
    )

  strict = prepare(*flags, "--strict")
  assert strict.returncode == 1
  assert "2 problems, which --strict does not allow" in strict.stderr
  other = prepare(*flags, f"--validation_images={tmp_path}")
  assert other.returncode == 1 and "Traceback" not in other.stderr
  assert (
    f"--validation_images={source / 'images'}, not "
    f"--validation_images={tmp_path}. Give the new dataset another --name"
  ) in other.stderr


def test_one_annotation_file_is_split(prepare, source, tmp_path):
  flags = custom_flags(source, tmp_path)
  alone = [x for x in flags if not x.startswith("--validation_")]
  done = prepare(*alone, "--validation_fraction=0.5")
  assert done.returncode == 0, done.stderr
  assert "eval_split" not in done.stdout
  for split in ("train", "validation"):
    assert len(open_records(tmp_path, "coco_instances/leaves", split)) == 1
  other = prepare(*alone)
  assert other.returncode == 1
  assert (
    "--validation_fraction=0.5, not --validation_fraction=0.1" in other.stderr
  )
  whole = prepare(*alone, "--validation_fraction=0", "--name=whole")
  assert "--config.dataset.eval_split=train" in whole.stdout


def test_names_of_every_kind_survive(prepare, source, tmp_path):
  """Not ASCII, right to left, and what rich would take for markup."""
  content = json.loads((source / "a.json").read_text())
  names = ["[/b]", "[red]é\u202e 核 🦠", ":smile:"]
  content["categories"] = [
    dict(id=key, name=name) for key, name in enumerate(names, 3)
  ]
  (source / "images" / "1.jpg").rename(source / "images" / "[1] 核 🦠.jpg")
  content["images"][0]["file_name"] = "[1] 核 🦠.jpg"
  (source / "a.json").write_text(json.dumps(content))
  data_dir = tmp_path / "[/i] d"
  done = prepare(*custom_flags(source, data_dir))
  assert done.returncode == 0, done.stderr
  assert f"3 classes: {', '.join(names)}" in done.stdout
  records = open_records(data_dir, "coco_instances/leaves", "train")
  assert records.class_names == tuple(names)
  assert records[0]["file_name"].decode() == "[1] 核 🦠.jpg"


def test_image_bomb_is_skipped_or_refused(prepare, source, tmp_path):
  flags = [*custom_flags(source, tmp_path / "data"), "--max_pixels=1000"]
  cv2.imwrite(str(source / "images" / "1.jpg"), np.zeros((30, 40), np.uint8))
  line = (
    "a.json: image 1: file 1.jpg is too large: its header declares 30 x 40 "
  )
  line += "pixels (height x width), more than --max_pixels=1000."
  refused = prepare(*flags, "--strict")
  assert refused.returncode == 1 and line in refused.stderr
  done = prepare(*flags)
  assert done.returncode == 0 and line in done.stdout
  assert "4 problems, skipped: 2 images, 2 annotations" in done.stdout


def test_file_that_is_not_coco(prepare, source, tmp_path):
  (source / "a.json").write_text('{"boxes": []}')
  result = prepare(*custom_flags(source, tmp_path / "data"))
  assert result.returncode == 1
  assert (
    "prepare: a.json has no list 'images'; it has boxes. Need a COCO "
    "instances file" in result.stderr
  )


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--dataset=coco_instances"], "--dataset=coco_instances needs a --source"),
    (
      ["--dataset=coco_instances", "--source=nowhere"],
      "prepare: nowhere: found none of train2017, train2017.zip",
    ),
    (
      ["--dataset=labeled_images", "--source=nowhere"],
      "prepare: nowhere/images: no such folder",
    ),
    (
      ["--dataset=coco_instances", "--train_images=x", "--name=y"],
      "--train_annotations and --train_images go together",
    ),
    (["--dataset=circles"], "--dataset"),
  ],
)
def test_bad_flags(prepare, tmp_path, flags, message):
  result = prepare(*flags, f"--data_dir={tmp_path}")
  assert result.returncode == 1
  assert message in result.stderr + result.stdout
  assert "Traceback" not in result.stderr


def test_another_request_is_refused(tmp_path):
  path = Shapes(
    data_dir=str(tmp_path), seed=1, num_train=1, num_validation=1
  ).prepare({"seed": 1, "source": None})
  check_same_request(path, {"seed": 1}, is_strict=True)
  check_same_request(path, {"seed": None}, is_strict=False)
  with pytest.raises(UserError, match="with --seed=1, not --seed=0. Give"):
    check_same_request(path, {"seed": 0}, is_strict=False)
  with pytest.raises(UserError, match="--source=None, not --source=/a. Give"):
    check_same_request(path, {"source": "/a"}, is_strict=False)


def test_dataset_that_does_not_say_how_it_was_made_is_taken(tmp_path):
  path = Shapes(data_dir=str(tmp_path), num_train=1, num_validation=1).prepare()
  check_same_request(path, {"seed": 7}, is_strict=True)


def test_lone_split_is_named_in_the_flags(tmp_path):
  path = Shapes(data_dir=str(tmp_path), num_train=1, num_validation=1).prepare()
  assert config_flags(path, "d", "shapes") == [
    "--config.dataset.data_dir=d",
    "--config.dataset.name=shapes",
    "--config.dataset.num_classes=5",
  ]


def test_problems_come_before_what_they_lead_to(prepare, source, tmp_path):
  content = json.loads((source / "a.json").read_text())
  for image in content["images"]:
    image["file_name"] = "gone.png"
  (source / "a.json").write_text(json.dumps(content))
  flags = [x for x in custom_flags(source, tmp_path) if "validation" not in x]
  done = prepare(*flags)
  assert done.returncode == 1 and "Traceback" not in done.stderr
  assert "2 of 2 images cannot be used" in done.stderr
  assert "2 x image whose file is not found" in done.stderr
  assert "cannot be split" not in done.stderr


def test_share_that_may_be_lost(prepare, source, tmp_path):
  content = json.loads((source / "a.json").read_text())
  item = content["annotations"][0]
  content["annotations"] += [
    item | dict(id=key, segmentation=[[1, 1, 6, 6]]) for key in (7, 8)
  ]
  (source / "a.json").write_text(json.dumps(content))
  flags = custom_flags(source, tmp_path)
  refused = prepare(*flags)
  assert refused.returncode == 1
  assert "3 of 4 annotations cannot be used" in refused.stderr
  assert "--max_lost=0.75 to train on the rest" in refused.stderr
  done = prepare(*flags, "--max_lost=0.75")
  assert done.returncode == 0, done.stderr
  assert "6 x polygon of fewer than 3 points" in done.stdout


@pytest.mark.parametrize("choice", [None, "apply", "ignore"])
def test_orientation_of_photographs(prepare, source, tmp_path, choice):
  """The masks are drawn on the image turned by a quarter, 9 x 12."""
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 255, (12, 9, 3), np.uint8)
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  for key in (1, 2):
    path = source / "images" / f"{key}.jpg"
    PIL.Image.fromarray(pixels).save(path, exif=exif)
  flags = custom_flags(source, tmp_path)
  done = prepare(*flags, *([f"--exif={choice}"] if choice else []))
  if choice != "apply":
    assert done.returncode == 1 and "pass --exif=apply" in done.stderr
    assert "12 x 9 (height x width) with EXIF orientation 6" in done.stderr
    return
  assert done.returncode == 0, done.stderr
  assert "4 x image turned by its EXIF orientation" in done.stdout
  records = open_records(tmp_path, "coco_instances/leaves", "train")
  assert records.exif == "apply"
  with PIL.Image.open(path) as image:
    upright = np.asarray(PIL.ImageOps.exif_transpose(image))
  sample = read_sample(records[0])
  assert sample.image.shape == (9, 12, 3)
  np.testing.assert_allclose(sample.image, upright, atol=3)  # two decoders


def test_foreground_masks_are_split_on_demand(prepare, tmp_path):
  labels = np.zeros((9, 12), np.uint8)
  labels[1:3, 1:3] = labels[5:7, 1:3] = labels[5:7, 8:11] = 255
  for key in range(2):
    for part in ("images", "labels"):
      (tmp_path / "in" / part).mkdir(parents=True, exist_ok=True)
      cv2.imwrite(str(tmp_path / "in" / part / f"{key}.png"), labels)
  flags = ["--dataset=labeled_images", f"--source={tmp_path / 'in'}"]
  flags += [f"--data_dir={tmp_path}", "--validation_fraction=0.5"]
  done = prepare(*flags, "--name=whole")
  assert "2 x label image of one value in several pieces" in done.stdout
  assert (
    open_records(tmp_path, "labeled_images/whole", "train").num_objects == 1
  )
  prepare(*flags, "--name=split", "--split_pieces")
  assert (
    open_records(tmp_path, "labeled_images/split", "train").num_objects == 3
  )


def test_paths_and_escapes_in_a_terminal_of_80_columns(source, tmp_path):
  content = json.loads((source / "a.json").read_text())
  content["categories"][0]["name"] = "leaf\x1b]0;title\x07"
  (source / "a.json").write_text(json.dumps(content))
  data_dir = tmp_path / ("my data [v2] " + "long " * 12).strip()
  result = subprocess.run(
    [sys.executable, "-m", "solo_jax.prepare", *custom_flags(source, data_dir)],
    capture_output=True,
    text=True,
    env=os.environ | {"COLUMNS": "80"},
  )
  assert result.returncode == 0, result.stderr
  assert "\x1b]0" not in result.stdout and "\\x1b]0;title" in result.stdout
  lines = result.stdout.splitlines()
  assert str(data_dir / "coco_instances" / "leaves" / "1.0.0") in lines
  command = next(x for x in lines if "data_dir" in x)
  assert shlex.split(command) == [f"--config.dataset.data_dir={data_dir}"]


def test_drawn_scenes_come_with_files_to_try(tmp_path):
  path = Shapes(data_dir=str(tmp_path), num_train=1, num_validation=5).prepare()
  folder = write_examples(path, tmp_path / "shapes")
  records = open_records(tmp_path, "shapes", "validation")
  names = [f"{i:06d}.png" for i in (2, 3, 4, 5)]
  assert sorted(x.name for x in folder.iterdir()) == names
  for i, name in enumerate(names):
    image = cv2.imread(str(folder / name), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(image, read_sample(records[i]).image)


def test_panoptic_files_of_your_own(prepare, tmp_path):
  source = write_panoptic(tmp_path / "coco")
  parts = dict(
    annotations=source / "annotations" / "panoptic_train2017.json",
    segments=source / "annotations" / "panoptic_train2017",
    images=source / "train2017",
  )
  flags = ["--dataset=coco_panoptic", "--name=own", f"--data_dir={tmp_path}"]
  flags += [f"--train_{part}={path}" for part, path in parts.items()]
  refused = prepare(*(x for x in flags if "segments" not in x))
  assert refused.returncode == 1 and "--train_segments" in refused.stderr
  done = prepare(*flags)
  assert done.returncode == 0, done.stderr
  assert "Of them 1 of things, 1 of stuff" in done.stdout
  assert "0 problems" in done.stdout
  assert "--config.dataset.name=coco_panoptic/own" in done.stdout
