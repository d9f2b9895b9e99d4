"""Tests of solo_jax/data/label_pairs.py."""

import cv2
import numpy as np
import PIL.Image
import pytest

from solo_jax.data.findings import Findings
from solo_jax.data.label_pairs import find_pairs, find_source
from solo_jax.errors import UserError


@pytest.fixture
def write(tmp_path):
  def run(*names, root=tmp_path, size=(9, 12)):
    for name in names:
      path = root / name
      path.parent.mkdir(parents=True, exist_ok=True)
      cv2.imwrite(str(path), np.ones(size, np.uint8))
    return root

  return run


def look(root, **options):
  findings = Findings()
  pairs = find_pairs(find_source(str(root), **options), findings)
  names = {
    key: (pair.image_name, pair.label_name) for key, (pair, *_) in pairs.items()
  }
  return names, findings


@pytest.mark.parametrize(
  "names",
  [
    ("0_img.png", "0_masks.png", "0_flows.tif", "0_outlines.png"),
    ("0.png", "0_cp_masks.tif"),
    ("0.tif", "0_masks.tif"),
    ("images/0_img.png", "labels/0_masks.png"),
    ("images/0.png", "labels/0_label.png"),
  ],
)
def test_endings_of_cellpose(write, names):
  found, findings = look(write(*names))
  ((key, (image, label)),) = found.items()
  assert key.startswith("0") and "mask" not in image and image != label
  assert not len(findings.problems) and len(findings.repairs) == 1


def test_equal_names_need_no_endings(write):
  found, findings = look(write("images/a_masks.png", "labels/a_masks.png"))
  assert found == {"a_masks": ("a_masks.png", "a_masks.png")}
  assert not len(findings.repairs)


def test_several_label_images_are_not_guessed_between(write):
  found, findings = look(
    write("images/0.png", "labels/0_masks.png", "labels/0_cp_masks.png")
  )
  assert not found
  names = {kind.name for kind in findings.problems.kinds()}
  assert "image with several label images" in names


def test_skipped_files_are_counted(write):
  root = write("images/a.png", "labels/a.png")
  for name in (
    "b.heic",
    "c.HEIC",
    "d.svs",
    "no_suffix",
    ".DS_Store",
    "._a.png",
  ):
    (root / "images" / name).touch()
  _, findings = look(root)
  kinds = {kind.name: kind.count for kind in findings.notes.kinds()}
  assert kinds == {
    "file ignored: .heic is not read here": 2,
    "file ignored: .svs is not read here": 1,
    "file ignored: no suffix is not read here": 1,
  }


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".jp2", ".avif", ".bmp"])
def test_every_kind_that_the_decoder_reads(write, suffix):
  root = write("labels/a.png")
  (root / "images").mkdir()
  PIL.Image.new("RGB", (12, 9)).save(root / "images" / f"a{suffix}")
  found, findings = look(root)
  assert found == {"a": (f"a{suffix}", "a.png")} and not len(findings.problems)


def stack(path, number):
  path.parent.mkdir(exist_ok=True)
  pages = [PIL.Image.new("L", (12, 9), i) for i in range(number)]
  pages[0].save(path, save_all=True, append_images=pages[1:])


def test_stacks_are_pairs_page_by_page(write, tmp_path):
  stack(tmp_path / "images" / "a.tif", 3)
  stack(tmp_path / "labels" / "a.tif", 3)
  write("images/b.png", "labels/b.png")
  findings = Findings()
  pairs = find_pairs(find_source(str(tmp_path)), findings)
  assert [(x.image_id, x.page) for x in pairs["a"]] == [(1, 0), (2, 1), (3, 2)]
  assert [x.image_id for x in pairs["b"]] == [4]
  assert len(findings.repairs) == 1


def test_stacks_of_other_lengths_are_problems(write, tmp_path):
  stack(tmp_path / "images" / "a.tif", 3)
  write("labels/a.tif")
  found, findings = look(tmp_path)
  assert not found
  (line,) = findings.problems.lines()
  assert "it has 3 pages, its label image a.tif 1" in line


def test_orientation_of_photographs(write):
  root = write("labels/a.png", "images/a.png", size=(12, 9))
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  (root / "images" / "a.png").unlink()
  PIL.Image.new("RGB", (12, 9)).save(root / "images" / "a.jpg", exif=exif)
  found, findings = look(root)
  assert not found and "--exif=apply" in findings.problems.kinds()[0].name
  found, findings = look(root, exif_choice="apply")
  assert found and len(findings.notes) == 1


def test_folders_that_are_not_there(tmp_path):
  with pytest.raises(UserError, match="images: no such folder"):
    find_source(str(tmp_path))
