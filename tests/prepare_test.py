import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from solo_jax.data.records import open_records


def prepare(*flags):
  """Runs the command as a person does; its flags stay out of this process."""
  return subprocess.run(
    [sys.executable, "-m", "solo_jax.prepare", *flags],
    capture_output=True,
    text=True,
    env=os.environ | {"COLUMNS": "200"},
  )


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


def test_custom_files_end_to_end(source, tmp_path):
  data_dir = tmp_path / "data"
  flags = custom_flags(source, data_dir)

  refused = prepare(*flags, "--strict")
  assert refused.returncode == 1 and "has 2 problems" in refused.stderr
  assert not [*data_dir.rglob("dataset_info.json")]

  done = prepare(*flags)
  assert done.returncode == 0, done.stderr
  rows = {
    line.split("│")[1].strip(): line.split("│")[2:4]
    for line in done.stdout.splitlines()
    if line.startswith("│")
  }
  numbers = {key: [int(x) for x in row] for key, row in rows.items()}
  assert numbers["images"] == [2, 2]
  assert numbers["instances"] == numbers["empty images"] == [1, 1]
  assert numbers["crowds"] == [0, 0]
  assert "1 classes: leaf" in done.stdout
  assert "2 problems, skipped" in done.stdout
  assert "image 2: annotation 6 has a polygon of 4 numbers" in done.stdout
  records = open_records(data_dir, "coco_instances/leaves", "validation[1:]")
  assert list(records.image_ids) == [2]

  again = prepare(*flags)
  assert again.returncode == 0 and "Already prepared: " in again.stdout
  assert "2 problems, skipped" in again.stdout


def test_file_that_is_not_coco(source, tmp_path):
  (source / "a.json").write_text('{"shapes": []}')
  result = prepare(*custom_flags(source, tmp_path / "data"))
  assert result.returncode == 1
  assert (
    "prepare: a.json has no list 'images'; it has shapes. Need a COCO "
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
      "--train_annotations and --train_images come together",
    ),
    (["--dataset=circles"], "--dataset"),
  ],
)
def test_bad_flags(tmp_path, flags, message):
  result = prepare(*flags, f"--data_dir={tmp_path}")
  assert result.returncode == 1
  assert message in result.stderr + result.stdout
  assert "Traceback" not in result.stderr
