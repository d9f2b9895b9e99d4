"""Networks and arrays of the fixtures of YOLACT, as solo_jax needs them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.conversion import yolact
from solo_jax.conversion.mapping import convert
from solo_jax.methods.yolact.detections import DetectionSettings
from solo_jax.methods.yolact.network import YOLACT
from solo_jax.methods.yolact.priors import Priors
from solo_jax.nn.backbones.resnet import DEPTHS, ResNet

# Width / height 1, 1/2, 2 in the authors' code; height / width in mmdetection.
RATIOS = {"original": (1.0, 2.0, 0.5), "mmdet": (0.5, 1.0, 2.0)}


def kind(golden):
  return "mmdet" if "base_sizes" in golden.config else "original"


def resnet(config):
  if "backbone" in config:
    base = config["backbone"]["base_channels"]
    shape = DEPTHS[config["backbone"]["depth"]]
  else:
    base = config["width"]
    shape = dict(block="bottleneck", stage_sizes=tuple(config["layers"]))
  return ResNet(**shape, widths=tuple(base * 2**i for i in range(4)))


def make_priors_rule(golden):
  config = golden.config
  if kind(golden) == "mmdet":
    sizes = tuple((3.0 * size,) for size in config["base_sizes"])
    return Priors(sizes=sizes, ratios=RATIOS["mmdet"], is_square=False)
  return Priors(
    sizes=tuple(map(tuple, config["pred_scales"])),
    ratios=RATIOS["original"],
    is_square=config["square_anchors"],
  )


def make_detection_settings(golden):
  config = golden.config
  is_mmdet = kind(golden) == "mmdet"
  return DetectionSettings(
    min_score=config["score_thr" if is_mmdet else "conf_thresh"],
    scored="detection" if is_mmdet else "prior",
    candidates_per_level=config["nms_pre"] if is_mmdet else None,
    clip_boxes=is_mmdet,
    top_k=config["top_k"],
    nms_threshold=0.5,
    across_classes=False,
    max_detections=config["max_per_img" if is_mmdet else "max_detections"],
  )


def make_network(golden):
  config = golden.config
  is_mmdet = kind(golden) == "mmdet"
  return YOLACT(
    backbone=resnet(config),
    num_classes=config["num_classes"],
    fpn_channels=config["fpn_channels"],
    is_rectified=not is_mmdet,
    p6_source="c5" if is_mmdet else "p5",
    num_protos=config["num_protos"],
    priors=make_priors_rule(golden),
    mask_score_channels=tuple(config.get("maskiou_channels", ())),
    detection=make_detection_settings(golden),
    mean=(123.68, 116.78, 103.94),
    std=(58.40, 57.12, 57.38),
    channel_order="rgb",
    dtype=jnp.float32,
  )


def make_variables(golden, network):
  """Converts the weights; the mask scores are a head of their own."""
  size = side(golden)
  shapes = jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    jnp.zeros((1, size, size, 3), jnp.uint8),
    jnp.full((1, 2), size),
  )
  # Inference never reads it, and the fixtures of whole models lack it.
  source = golden.state_dict()
  if kind(golden) == "mmdet":
    source, rules = yolact.prepare_mmdet(source), yolact.MMDET
  else:
    rules = yolact.ORIGINAL
    source = yolact.prepare_original(source)
  semantic = ("semantic_seg_conv", "mask_head.segm_branch.segm_conv")
  if not any(name.startswith(semantic) for name in source):
    source |= {
      f"{semantic[0]}.weight": np.zeros(
        (golden.config["num_classes"], golden.config["fpn_channels"], 1, 1)
      ),
      f"{semantic[0]}.bias": np.zeros(golden.config["num_classes"]),
    }
  shapes = dict(shapes)
  return convert(source, rules, shapes)


def side(golden):
  config = golden.config
  return config["input_size" if kind(golden) == "mmdet" else "max_size"]


def assert_close(actual, expected, tolerance, name=""):
  """Compares relative to the largest value."""
  scale = np.abs(expected).max()
  np.testing.assert_allclose(
    actual, expected, rtol=0, atol=tolerance * scale, err_msg=name
  )
