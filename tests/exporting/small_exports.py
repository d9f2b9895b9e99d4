"""Small checkpoints of every method, and comparisons with their exports."""

import functools
import importlib.util
import pathlib
import sys

import cv2
import jax
import numpy as np

from solo_jax.building import build_method, build_predictor
from solo_jax.checkpoints.state import variable_shapes
from solo_jax.checkpoints.store import Checkpoint

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
METHODS = (
  "solov2",
  "solo",
  "decoupled_solo",
  "associative_embedding",
  "mask_rcnn",
  "yolact",
)
SIDE = 64
# With the weights of `make_variables`: nothing in MEAN, a few objects in most
# images, more candidates than there is room for in NOISE.
THRESHOLDS = dict(
  solov2=dict(score_threshold=0.8, max_candidates=8),
  solo=dict(score_threshold=0.79, max_candidates=6),
  decoupled_solo=dict(score_threshold=0.79, max_candidates=6),
  associative_embedding=dict(
    seed_threshold=0.8,
    score_threshold=0.0,
    min_unclaimed=0.0,
    min_pixels=1,
    max_detections=3,
  ),
  mask_rcnn=dict(score_threshold=0.2),
  yolact=dict(score_threshold=0.2),
)
# Sizes of the network, and what else makes it small.
SMALL = dict(num_head_convs=1, head_channels=8, fpn_channels=8)
NETWORKS = dict(
  solov2=SMALL | dict(mask_channels=8, kernel_channels=8),
  solo=SMALL,
  decoupled_solo=SMALL,
  associative_embedding={},
  mask_rcnn=dict(
    fpn_channels=8,
    dense_channels=8,
    mask_convs=1,
    proposals_before_nms=(20, 20),
    proposals_after_nms=(10, 10),
  ),
  yolact=dict(fpn_channels=8, num_protos=4),
)
MEAN = np.full((SIDE, SIDE, 3), (124, 116, 104), np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def make_checkpoint(method, **preprocessing):
  """A checkpoint of a method's demo config, small, with random weights."""
  name = f"{method}_shapes"
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config()
  config.preprocessing.update(short_side=SIDE, max_side=SIDE, **preprocessing)
  config.backbone.update(stage_sizes=(1, 1, 1, 1), widths=(8, 8, 8, 8))
  config.network.update(**NETWORKS[method])
  if "update_threshold" in config.decode:
    config.decode.update_threshold = 1e-9
  config.decode.update(**dict(max_detections=10) | THRESHOLDS[method])
  num_classes = config.dataset.num_classes
  return Checkpoint(
    config=config.lock(),
    class_names=tuple("abcde"[:num_classes]),
    category_ids=tuple(range(3, 3 + num_classes)),
    variables=make_variables(config),
    step=7,
  )


def make_variables(config):
  """Kernels that keep the variance, everything else as before training."""
  rng = np.random.default_rng(0)

  def make(path, shape):
    name = path[-1].key
    if name != "kernel":
      return np.full(shape.shape, name in ("scale", "var"), np.float32)
    scale = np.sqrt(np.prod(shape.shape[:-1]))
    return (rng.normal(size=shape.shape) / scale).astype(np.float32)

  shapes = variable_shapes(
    build_method(config).network, image_size=(SIDE, SIDE)
  )
  return jax.tree_util.tree_map_with_path(make, shapes)


def load_module(path):
  """Imports the predictor.py of an export, as a program next to it would."""
  spec = importlib.util.spec_from_file_location(f"{path.parent.name}_", path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


@functools.cache
def native(method):
  checkpoint = make_checkpoint(method)
  return build_predictor(checkpoint.config, checkpoint.variables, batch_size=1)


def assert_same(found, expected, size):
  """Detections of the loader against Instances."""
  assert len(found) == len(expected)
  np.testing.assert_allclose(
    [x.score for x in found], expected.scores, rtol=1e-5
  )
  assert [x.label for x in found] == expected.labels.tolist()
  for detection, mask, box in zip(
    found, expected.masks, expected.tight_boxes_xyxy, strict=True
  ):
    # A pixel may be within rounding of the threshold.
    assert (detection.full_mask(size) != mask).mean() < 1e-3
    np.testing.assert_allclose(detection.box_xyxy, box, atol=1)
    assert detection.class_name == "abcde"[detection.label]
    assert detection.category_id == detection.label + 3


def smooth(size, seed=0):
  """Soft colours. [*size, 3] uint8."""
  rng = np.random.default_rng(seed)
  return cv2.resize(
    rng.integers(0, 256, (8, 8, 3), np.uint8),
    size[::-1],
    interpolation=cv2.INTER_CUBIC,
  )


def assert_same_everywhere(exported, predictor):
  """Ordinary images of several sizes, an empty one and a crowded one."""
  before = predictor.num_dropped
  counts = {}
  for name, image in dict(
    ordinary=smooth((SIDE, SIDE)),
    small=smooth((30, 41), seed=1),
    large=smooth((90, 83), seed=2),
    grey=smooth((50, 60), seed=3)[..., 0],
    deep=smooth((50, 60), seed=3).astype(np.uint16) * 100,
    empty=MEAN,
    crowded=NOISE,
  ).items():
    dropped = predictor.num_dropped
    expected, found = predictor(image), exported(image)
    counts[name] = len(expected), predictor.num_dropped - dropped
    assert_same(found, expected, image.shape[:2])
  assert counts["empty"] == (0, 0)
  assert sum(found for found, _ in counts.values()) > 4, counts
  if not expected.has_predicted_boxes:  # else all candidates compete
    assert sum(dropped for _, dropped in counts.values()) > 0, counts
  assert exported.num_dropped == predictor.num_dropped - before
