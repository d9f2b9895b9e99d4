"""Samples and datasets made by hand for the tests of solo_jax/inspection."""

import copy
import types as python_types

import cv2
import jax
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from solo_jax import types
from solo_jax.building import build_method
from solo_jax.data.records import open_records
from solo_jax.data.shapes import Shapes
from solo_jax.inspection.frames import inference_frames, make_example
from solo_jax.inspection.lost_instances import judge_frame
from solo_jax.inspection.statistics import Statistics
from solo_jax.inspection.suggested_config import Suggestion
from tests.config_test import load


def sections(name, arg="", **changed):
  """Sections of a config file as plain dicts, some fields changed."""
  config = load(name, arg).to_dict()
  for key, value in changed.items():
    section, field = key.split("__")
    assert field in config[section], key
    config[section][field] = value
  return config


def make_sample(boxes, size=(64, 64), labels=None, crowds=()):
  """An image with filled boxes (x1, y1, x2, y2), in whole pixels."""
  masks = np.zeros((len(boxes), *size), bool)
  for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
    mask[top:bottom, left:right] = True
  boxes = np.array(boxes, np.float64).reshape(-1, 4)
  image = np.full((*size, 3), 40, np.uint8)
  for i, mask in enumerate(masks):
    image[mask] = 90 + 20 * (i % 8)
  is_crowd = np.zeros(len(boxes), bool)
  is_crowd[list(crowds)] = True
  return types.Sample(
    image=image,
    masks=masks,
    labels=np.array(labels if labels is not None else [0] * len(boxes)).astype(
      np.int32
    ),
    areas=masks.sum((1, 2)).astype(np.float64),
    boxes_xyxy=boxes,
    is_crowd=is_crowd,
    annotation_ids=np.arange(len(boxes)) + 1,
    image_id=7,
    file_name="7.png",
    original_size=size,
    affine=np.eye(2, 3),
    image_size=size,
  )


GRID = dict(
  network__num_grids=(8, 4),
  loss__scale_ranges=((4, 16), (14, 40)),
  loss__center_sigma=0.2,
  transforms__max_instances=6,
  transforms__min_mask_area=4.0,
  preprocessing__short_side=64,
  preprocessing__max_side=64,
)


def judge(sample, name="solov2_shapes", max_detections=None, **changed):
  """What becomes of the instances of a sample, as it is predicted."""
  config = sections(name, **changed)
  (frame,) = inference_frames(sample, config["preprocessing"])
  return judge_frame(
    frame,
    make_example(frame, config["transforms"]),
    jax.jit(build_method(config).lost_instances),
    min_mask_area=config["transforms"]["min_mask_area"],
    max_detections=max_detections,
  )


class SampleRecords(python_types.SimpleNamespace):
  """Samples behind the interface of `Records`."""

  def __init__(self, samples, split="train", class_names=("thing", "other")):
    self.samples = samples
    self.split = split
    self.whole_split = split.partition("[")[0]
    self.split_sizes = {self.whole_split: len(samples)}
    self.image_ids = np.arange(len(samples)) + 1
    self.class_names = class_names
    self.category_ids = tuple(range(1, len(class_names) + 1))
    self.heights = np.array([s.original_size[0] for s in samples])
    self.widths = np.array([s.original_size[1] for s in samples])
    self.num_objects = np.array([np.sum(~s.is_crowd) for s in samples])
    self.num_crowds = np.array([np.sum(s.is_crowd) for s in samples])
    self.is_thing = ()
    self.federated = None
    self.metadata = dict(problems=[], num_problems=0)

  def __len__(self):
    return len(self.samples)

  def __getitem__(self, index):
    sample = self.samples[index]
    sizes = sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]
    boxes = np.concatenate([sample.boxes_xyxy[:, :2], sizes], 1)
    rles = [coco_mask.encode(np.asfortranarray(m)) for m in sample.masks]
    return dict(
      image=cv2.imencode(".png", sample.image[..., ::-1])[1].tobytes(),
      image_id=index + 1,
      file_name=sample.file_name.encode(),
      height=sample.original_size[0],
      width=sample.original_size[1],
      objects=dict(
        annotation_id=sample.annotation_ids,
        label=sample.labels,
        is_crowd=sample.is_crowd,
        rle=[rle["counts"] for rle in rles],
        area=[np.float64(a).tobytes() for a in sample.areas],
        bbox=[box.tobytes() for box in boxes],
      ),
    )


def make_statistics(
  *,
  sizes=(20.0, 30.0, 40.0),
  short=480,
  long=640,
  per_image=5,
  images=100,
  empty=0,
):
  """Statistics of equal images."""
  return Statistics(
    split="train",
    num_images=images,
    num_instances=images * per_image,
    num_crowds=0,
    num_empty=empty,
    most_instances=per_image,
    heights=np.full(images, short),
    widths=np.full(images, long),
    num_examined=images,
    instances_of_class={"thing": 1},
    images_of_class={"thing": 1},
    object_sizes=np.array(sizes),
    object_extents=np.array(sizes),
    instances_per_image=np.full(images, per_image),
    num_grey=0,
    num_16_bit=0,
    findings=[],
    digests={},
  )


def after(step, config, *arguments):
  """A suggestion after one step."""
  made = Suggestion(copy.deepcopy(config))
  step(made, *arguments)
  return made


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
  """Drawn scenes: the records of train and validation."""
  data_dir = str(tmp_path_factory.mktemp("data"))
  Shapes(data_dir=data_dir, num_train=10, num_validation=6).prepare()
  return python_types.SimpleNamespace(
    data_dir=data_dir,
    train=open_records(data_dir, "shapes", "train"),
    validation=open_records(data_dir, "shapes", "validation"),
  )
