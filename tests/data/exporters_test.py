"""Exports of annotation tools, written by their documented formats.

Each is the same two squares in two images of 9 x 12, once as its tool writes
it: paths, ids, forms of masks and fields differ.
"""

import json

import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as coco_mask

from solo_jax.data import coco_instances, label_pairs, labeled_images
from solo_jax.data.builder import Tolerance
from solo_jax.data.findings import Findings
from solo_jax.data.records import open_records, read_sample

HEIGHT, WIDTH = 9, 12
NAMES = ("one.png", "two.png")
# Corners of the square of each image: left, top, right, bottom.
SQUARES = ((1, 2, 5, 6), (4, 3, 10, 8))


def polygon(square):
  left, top, right, bottom = square
  return [left, top, right, top, right, bottom, left, bottom]


def mask(square):
  left, top, right, bottom = square
  pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
  pixels[top:bottom, left:right] = 1
  return pixels


def box(square):
  left, top, right, bottom = square
  return [left, top, right - left, bottom - top]


def area(square):
  return (square[2] - square[0]) * (square[3] - square[1])


def labelme():
  """labelme2coco.py of labelme's examples, image ids from 0."""
  return dict(
    info={"description": None, "version": "5.5.0", "year": 2026},
    licenses=[{"url": None, "id": 0, "name": None}],
    type="instances",
    images=[
      dict(license=0, url=None, file_name=f"JPEGImages/{name}", id=i)
      | dict(height=HEIGHT, width=WIDTH, date_captured=None)
      for i, name in enumerate(NAMES)
    ],
    annotations=[
      dict(id=i, image_id=i, category_id=0, iscrowd=0)
      | dict(segmentation=[polygon(x)], area=float(area(x)), bbox=box(x))
      for i, x in enumerate(SQUARES)
    ],
    categories=[
      dict(supercategory=None, id=i, name=name)
      for i, name in enumerate(["_background_", "cell"])
    ],
  )


def cvat():
  """CVAT's COCO 1.0: RLE of masks as lists, attributes, ids from 1."""

  def counts(square):
    values = mask(square).T.ravel()
    edges = np.flatnonzero(np.diff(values)) + 1
    return np.diff(edges, prepend=0, append=values.size).tolist()

  return dict(
    licenses=[dict(name="", id=0, url="")],
    info=dict(contributor="", date_created=""),
    categories=[dict(id=1, name="cell", supercategory="")],
    images=[
      dict(id=i + 1, width=WIDTH, height=HEIGHT, file_name=f"default/{name}")
      | dict(license=0, flickr_url="", coco_url="", date_captured=0)
      for i, name in enumerate(NAMES)
    ],
    annotations=[
      dict(id=i + 1, image_id=i + 1, category_id=1, iscrowd=0)
      | dict(attributes={"occluded": False, "rotation": 0.0}, bbox=box(x))
      | dict(segmentation={"counts": counts(x), "size": [HEIGHT, WIDTH]})
      | dict(area=float(area(x)))
      for i, x in enumerate(SQUARES)
    ],
  )


def label_studio():
  """Label Studio's COCO export on Windows: backslashes, ids from 0."""
  return dict(
    images=[
      dict(width=WIDTH, height=HEIGHT, id=i)
      | dict(file_name=f"..\\..\\label-studio\\media\\upload\\4\\{name}")
      for i, name in enumerate(NAMES)
    ],
    categories=[dict(id=0, name="cell")],
    annotations=[
      dict(id=i, image_id=i, category_id=0, ignore=0, iscrowd=0)
      | dict(segmentation=[[float(y) for y in polygon(x)]])
      | dict(bbox=[float(y) for y in box(x)], area=float(area(x)))
      for i, x in enumerate(SQUARES)
    ],
    info=dict(year=2026, version="1.0", contributor="Label Studio"),
  )


def via():
  """VIA's COCO export: a flat polygon, ids as text, no sizes of images."""
  return dict(
    info=dict(year=2026, version="1", url="http://www.robots.ox.ac.uk/~vgg/"),
    images=[
      dict(id=str(i + 1), file_name=name, license=0, date_captured="")
      for i, name in enumerate(NAMES)
    ],
    annotations=[
      dict(id=i, image_id=str(i + 1), category_id="1", iscrowd=0)
      | dict(segmentation=polygon(x), area=area(x), bbox=box(x))
      for i, x in enumerate(SQUARES)
    ],
    categories=[dict(supercategory="type", id="1", name="cell")],
  )


def fiftyone():
  """FiftyOne's COCODetectionDataset: data/ and labels.json, ids from 1."""
  return dict(
    info=dict(year="", version="", contributor="", url=""),
    licenses=[],
    categories=[dict(id=0, name="cell", supercategory=None)],
    images=[
      dict(id=i + 1, file_name=name, height=HEIGHT, width=WIDTH)
      | dict(license=None, coco_url=None)
      for i, name in enumerate(NAMES)
    ],
    annotations=[
      dict(id=i + 1, image_id=i + 1, category_id=0, iscrowd=0)
      | dict(bbox=[float(y) for y in box(x)], area=float(area(x)))
      | dict(segmentation=[polygon(x)])
      for i, x in enumerate(SQUARES)
    ],
  )


def byte_string():
  """What json.dumps(..., default=str) makes of pycocotools' own encoding."""
  content = cvat()
  for item, square in zip(content["annotations"], SQUARES, strict=True):
    item["segmentation"] = coco_mask.encode(np.asfortranarray(mask(square)))
  return json.loads(json.dumps(content, default=str))


def write_images(folder):
  folder.mkdir(parents=True)
  for name in NAMES:
    PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)


def read_back(data_dir, name, splits):
  """Returns the masks of each file, and the number of problems."""
  masks, problems = {}, 0
  for split in splits:
    records = open_records(data_dir, name, split)
    problems = records.metadata["num_problems"]
    for i in range(len(records)):
      sample = read_sample(records[i])
      masks[sample.file_name.split("/")[-1]] = sample.masks[:]
  return masks, problems


def check(masks, problems):
  assert problems == 0 and len(masks) == len(NAMES)
  for (_, found), square in zip(sorted(masks.items()), SQUARES, strict=True):
    np.testing.assert_array_equal(found, mask(square)[None])


@pytest.mark.parametrize(
  "export", [labelme, cvat, label_studio, via, fiftyone, byte_string]
)
def test_coco_exports_of_tools(tmp_path, export):
  write_images(tmp_path / "images")
  (tmp_path / "a.json").write_text(json.dumps(export()))
  files = coco_instances.find_custom(
    str(tmp_path / "a.json"), str(tmp_path / "images")
  )
  coco_instances.CocoInstances(
    data_dir=str(tmp_path),
    name="x",
    splits={"train": files},
    tolerance=Tolerance(is_strict=True),
  ).prepare()
  check(*read_back(tmp_path, "coco_instances/x", ["train"]))


def test_export_of_supervision(tmp_path):
  supervision = pytest.importorskip("supervision")
  write_images(tmp_path / "images")
  detections = {
    str(tmp_path / "images" / name): supervision.Detections(
      xyxy=np.array([square], float),
      mask=mask(square)[None].astype(bool),
      class_id=np.array([0]),
    )
    for name, square in zip(NAMES, SQUARES, strict=True)
  }
  supervision.DetectionDataset(["cell"], list(detections), detections).as_coco(
    annotations_path=str(tmp_path / "a.json")
  )
  files = coco_instances.find_custom(
    str(tmp_path / "a.json"), str(tmp_path / "images")
  )
  coco_instances.CocoInstances(
    data_dir=str(tmp_path), name="x", splits={"train": files}
  ).prepare()
  masks, problems = read_back(tmp_path, "coco_instances/x", ["train"])
  assert problems == 0 and sorted(masks) == sorted(NAMES)
  for name, square in zip(NAMES, SQUARES, strict=True):
    # Its polygons run through the centres of the outline's pixels, which
    # pycocotools fills without the last row and column.
    left, top, right, bottom = square
    inner = mask((left, top, right - 1, bottom - 1))
    assert (masks[name][0] >= inner).all() and (
      masks[name] <= mask(square)
    ).all()


def test_folders_of_roboflow(tmp_path):
  """A folder for each split, names with a hash, a category of all, id 0."""
  for folder, index in (("train", 0), ("valid", 1)):
    name = f"{NAMES[index][:-4]}_png.rf.0a1b2c.png"
    square = SQUARES[index]
    (tmp_path / "in" / folder).mkdir(parents=True)
    path = tmp_path / "in" / folder
    PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(path / name)
    content = dict(
      info=dict(year="2026", description="Exported from roboflow.com"),
      licenses=[dict(id=1, url="", name="CC BY 4.0")],
      categories=[
        dict(id=0, name="cells", supercategory="none"),
        dict(id=1, name="cell", supercategory="cells"),
      ],
      images=[
        dict(id=0, license=1, file_name=name, height=HEIGHT, width=WIDTH)
        | dict(extra={"name": NAMES[index]})
      ],
      annotations=[
        dict(id=0, image_id=0, category_id=1, bbox=box(square), iscrowd=0)
        | dict(area=area(square), segmentation=[polygon(square)])
      ],
    )
    (path / "_annotations.coco.json").write_text(json.dumps(content))
  coco_instances.CocoInstances(
    data_dir=str(tmp_path / "data"),
    name="x",
    splits=coco_instances.find_coco(str(tmp_path / "in")),
    tolerance=Tolerance(is_strict=True),
  ).prepare()
  splits = ["train", "validation"]
  check(*read_back(tmp_path / "data", "coco_instances/x", splits))


@pytest.mark.parametrize("layout", ["cellpose", "cellpose_cp", "fiji"])
def test_label_images_of_microscopy(tmp_path, layout):
  """Cellpose's training folder and its results; a stack of Fiji."""
  source = tmp_path / "in"
  source.mkdir()
  labels = [mask(square).astype(np.uint16) * 7 for square in SQUARES]
  pixels = [np.full((HEIGHT, WIDTH), i, np.uint8) for i in range(2)]
  if layout == "fiji":
    for part, pages in (("images", pixels), ("labels", labels)):
      (source / part).mkdir()
      first, *rest = (PIL.Image.fromarray(page) for page in pages)
      text = "ImageJ=1.54f\nimages=2\nslices=2\nloop=false\n"
      first.save(
        source / part / "stack.tif",
        save_all=True,
        append_images=rest,
        description=text,
      )
  else:
    end = "_img.png", "_masks.png"
    if layout == "cellpose_cp":
      end = ".png", "_cp_masks.png"
    for i in range(2):
      PIL.Image.fromarray(pixels[i]).save(source / f"00{i}{end[0]}")
      PIL.Image.fromarray(labels[i]).save(source / f"00{i}{end[1]}")
      np.save(source / f"00{i}_seg.npy", labels[i])
  found = label_pairs.find_source(str(source))
  findings = Findings()
  pairs = label_pairs.find_pairs(found, findings)
  assert not len(findings.problems)
  pairs = [pair for key in sorted(pairs) for pair in pairs[key]]
  read = labeled_images.LabeledPairs(pairs, found)
  for i in range(2):
    _, image = read[i]
    (item,) = image.objects
    rle = {"size": [HEIGHT, WIDTH], "counts": item.rle}
    np.testing.assert_array_equal(coco_mask.decode(rle), mask(SQUARES[i]))
