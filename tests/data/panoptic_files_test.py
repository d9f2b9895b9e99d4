"""Tests of solo_jax/data/panoptic_files.py."""

import shutil

import pytest

from solo_jax.data import coco_panoptic, panoptic_files
from solo_jax.errors import UserError
from tests.panoptic_source import write_panoptic


@pytest.fixture
def source(tmp_path):
  """A source laid out like COCO 2017, two images in each split."""
  return write_panoptic(tmp_path / "coco")


def pack(folder):
  shutil.make_archive(str(folder), "zip", folder.parent, folder.name)
  shutil.rmtree(folder)


def test_the_official_archive_of_archives_is_read_as_it_is(source):
  expected = panoptic_files.find_coco(str(source))["train"]
  expected = coco_panoptic.read_split(expected).images[1]
  annotations = source / "annotations"
  for year in ("train2017", "val2017"):
    pack(annotations / f"panoptic_{year}")
  pack(annotations)
  packed = source / "panoptic_annotations_trainval2017.zip"
  (source / "annotations.zip").rename(packed)
  annotations.mkdir()  # with other annotations, such as instances
  found = panoptic_files.find_coco(str(source))["train"]
  split = coco_panoptic.read_split(found)
  assert split.images[1] == expected
  (kind,) = split.findings.repairs.kinds()
  assert "inside an archive" in kind.name and kind.count == 1
  packed.write_bytes(packed.read_bytes()[:-40])
  with pytest.raises(UserError, match="download may be incomplete"):
    panoptic_files.find_coco(str(source))


def test_files_that_are_missing(source):
  path = source / "annotations" / "panoptic_train2017.json"
  path.unlink()
  with pytest.raises(UserError, match="panoptic_train2017.json is missing"):
    panoptic_files.find_coco(str(source))
  path.touch()
  shutil.rmtree(path.with_suffix(""))
  with pytest.raises(UserError, match="found none of.*panoptic_train2017.zip"):
    panoptic_files.find_coco(str(source))
  with pytest.raises(UserError, match="no such annotation file"):
    panoptic_files.find_custom("nowhere.json", str(source), str(source))
