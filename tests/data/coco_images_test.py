"""Tests of solo_jax/data/coco_images.py."""

import numpy as np
import PIL.Image
import pytest

from solo_jax.data.coco_images import ImageReader
from solo_jax.data.file_tree import FileTree
from solo_jax.data.findings import Findings


@pytest.fixture
def folder(tmp_path):
  for name in ("a/1.png", "2.png", "turned.jpg", "stack.tif", "photo.jpg"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    image = PIL.Image.fromarray(np.zeros((9, 12, 3), np.uint8))
    options = {}
    if name == "turned.jpg":
      options["exif"] = PIL.Image.Exif()
      options["exif"][0x0112] = 6
    if name == "stack.tif":
      options = dict(save_all=True, append_images=[image, image])
    image.save(tmp_path / name, **options)
  (tmp_path / "photo.jpg").write_bytes(b"\0\0\0\x18ftypheic")
  return tmp_path


def read(folder, *images, exif=None):
  findings = Findings()
  content = dict(images=list(images), annotations=[dict(image_id=1)] * 3)
  files = FileTree(folder)
  found = ImageReader("a.json", files, {}, exif, findings).read(content)
  return found, findings


@pytest.mark.parametrize(
  "size",
  [
    {},
    dict(height=None, width=None),
    dict(height=0, width=0),
    dict(height=-1, width=12),
    dict(height="9", width=12.0),
    dict(width=12),
  ],
)
def test_sizes_that_say_nothing_are_taken_from_the_file(folder, size):
  found, findings = read(folder, dict(id=1, file_name="2.png", **size))
  assert (found[1]["height"], found[1]["width"]) == (9, 12)
  assert not len(findings.problems)


@pytest.mark.parametrize(
  ("image", "kind", "detail"),
  [
    (
      dict(file_name="3.png"),
      "image whose file is not found",
      "'3.png' is missi",
    ),
    (dict(file_name="1.jpg"), "image whose file is not found", "is 'a/1.png'"),
    (
      dict(file_name="2.png", height=12),
      "image and annotations of different",
      "12 x 12",
    ),
    (
      dict(file_name="2.png", height=9.5),
      "image without a size",
      "(9.5, None)",
    ),
    (dict(file_name="stack.tif"), "file with several pages", "3 pages"),
    (dict(file_name="photo.jpg"), "file that is a HEIC photograph", "convert"),
    (
      dict(file_name="turned.jpg", height=12, width=9),
      "masks drawn",
      "exif=apply",
    ),
  ],
)
def test_images_left_out_are_named_with_their_annotations(
  folder, image, kind, detail
):
  found, findings = read(folder, dict(id=1, **image))
  assert found == {1: None}
  ((name, _, line),) = findings.problems.kinds()
  assert name.startswith(kind) and detail in line
  assert line.endswith("(skipped with its 3 annotations).")


def test_orientation_is_followed_on_demand_and_counted(folder):
  image = dict(id=1, file_name="turned.jpg", height=12, width=9)
  found, findings = read(folder, image, exif="apply")
  assert found[1]["height"] == 12 and len(findings.notes) == 1
  found, findings = read(folder, dict(id=1, file_name="turned.jpg"))
  assert found[1]["height"] == 9 and len(findings.notes) == 1


def test_two_names_do_not_mean_one_file(folder):
  """x/2.png and y/2.png were two files; only one is there."""
  found, findings = read(
    folder,
    dict(id=1, file_name="x/2.png"),
    dict(id=2, file_name="y/2.png"),
    dict(id=3, file_name="a/1.png"),
    dict(id=4, file_name="a/1.png"),  # the same file on purpose
  )
  assert [found[key] is None for key in (1, 2, 3, 4)] == [
    True,
    True,
    False,
    False,
  ]
  ((name, count, _),) = findings.problems.kinds()
  assert (
    name == "file matched by several names of the annotations" and count == 2
  )
