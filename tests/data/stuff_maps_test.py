"""Tests of solo_jax/data/stuff_maps.py, and of how maps reach a batch."""

import dataclasses
import zipfile

import cv2
import numpy as np
import pytest

from solo_jax.data.batching import make_example, render_sample, render_stuff
from solo_jax.data.file_tree import FileTree
from solo_jax.data.mask_frames import BoxFrame
from solo_jax.data.records import Records, read_sample
from solo_jax.data.shapes import Shapes
from solo_jax.data.stuff_maps import add_stuff_maps, find_stuff_problem
from solo_jax.data.transforms import flipped, resized, transposed
from solo_jax.errors import UserError


@pytest.fixture
def prepared(tmp_path):
  builder = Shapes(data_dir=str(tmp_path), num_train=3, num_validation=1)
  return builder.prepare()


def write_maps(folder, path, split, skip=()):
  (folder / "train2017").mkdir(parents=True, exist_ok=True)
  maps = {}
  records = Records(path, split)
  for i in range(len(records)):
    sample = read_sample(records[i])
    if i in skip:
      continue
    values = np.random.default_rng(i).integers(
      0, 182, sample.original_size, np.uint8
    )
    stem = sample.file_name.rpartition(".")[0]
    cv2.imwrite(str(folder / "train2017" / f"{stem}.png"), values)
    maps[i] = values
  return maps


def test_maps_are_read_with_their_images(prepared, tmp_path):
  folder = tmp_path / "maps"
  maps = write_maps(folder, prepared, "train", skip=[1])
  write_maps(folder, prepared, "validation")
  assert read_sample(Records(prepared, "train")[0]).stuff is None
  archive = tmp_path / "maps.zip"
  with zipfile.ZipFile(archive, "w") as out:
    for file in folder.rglob("*.png"):
      out.write(file, file.relative_to(folder))
  missing = add_stuff_maps(prepared, FileTree(archive))
  assert missing == dict(train=1, validation=0)
  records = Records(prepared, "train[:2]")
  np.testing.assert_array_equal(read_sample(records[0]).stuff, maps[0])
  assert (read_sample(records[1]).stuff == 255).all()
  example = make_example(
    resized(read_sample(records[0]), (64, 64)),
    image_size=(64, 96),
    mask_frame=BoxFrame(size=8),
    max_instances=2,
    min_mask_area=1,
  )
  assert example["semantic"].shape == (8, 12)
  assert (example["semantic"][:, 8:] == 255).all()
  assert (example["semantic"][:, :8] < 182).all()


def test_maps_that_do_not_fit_are_refused(prepared, tmp_path):
  folder = tmp_path / "maps"
  folder.mkdir()
  with pytest.raises(UserError, match="no map for any image of split 'train'"):
    add_stuff_maps(prepared, FileTree(folder))
  assert not [*prepared.glob("*stuff*")]
  write_maps(folder, prepared, "train")
  (file, *_) = (folder / "train2017").glob("*.png")
  cv2.imwrite(str(file), np.zeros((5, 5), np.uint8))
  with pytest.raises(UserError, match=f"{file.name} in .* is not an 8-bit"):
    add_stuff_maps(prepared, FileTree(folder))
  assert not [*prepared.glob("*stuff*")]


def test_classes_of_maps_must_fit_the_config(prepared, tmp_path):
  records = Records(prepared, "train")
  assert find_stuff_problem(records, 0) == ""
  assert "has no stuff maps" in find_stuff_problem(records, 182)
  for split in ("train", "validation"):
    write_maps(tmp_path / "maps", prepared, split)
  add_stuff_maps(prepared, FileTree(tmp_path / "maps"))
  records = Records(prepared, "train[:1]")
  assert find_stuff_problem(records, 182) == ""
  assert find_stuff_problem(records, 0) == ""
  problem = find_stuff_problem(records, 181)
  assert "network.semantic_classes is 181" in problem
  assert "'train'" in problem and "up to 181; set" in problem
  assert "network.semantic_classes=182, or" in problem


def test_maps_follow_the_geometry(prepared):
  sample = read_sample(Records(prepared, "train")[0])
  height, width = sample.original_size
  stuff = np.arange(height * width).reshape(height, width) % 251
  stuff = stuff.astype(np.uint8)
  sample = dataclasses.replace(sample, stuff=stuff)
  moved = flipped(transposed(sample), horizontal=True, vertical=False)
  expected = stuff.T[:, ::-1]
  found = render_stuff(moved, (width, height), 1)
  np.testing.assert_array_equal(found, expected)
  rendered = render_sample(moved, interpolation="bilinear")
  np.testing.assert_array_equal(rendered.stuff, expected)
  # Twice as large: a cell of 8 reads the pixel below its corner.
  larger = resized(sample, (2 * height, 2 * width))
  found = render_stuff(larger, (height // 4, width // 4), 8)
  np.testing.assert_array_equal(found, stuff[::4, ::4])
