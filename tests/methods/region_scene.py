"""Published Mask R-CNNs as the golden files have them, in this code's terms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.conversion import regions as layouts
from solo_jax.conversion.mapping import convert, flatten
from solo_jax.methods.mask_rcnn.network import MaskRCNN
from solo_jax.methods.point_rend.network import PointRend
from solo_jax.methods.point_rend.subdivision import Subdivision
from solo_jax.methods.regions.anchors import STRIDES, Anchors
from solo_jax.methods.regions.detections import DetectionSettings
from solo_jax.methods.regions.loss import ProposalLoss, StageLoss
from solo_jax.methods.regions.mask_targets import MaskTargets
from solo_jax.methods.regions.matching import Matching
from solo_jax.methods.regions.proposals import Selection
from solo_jax.methods.regions.pyramid import Pooling
from solo_jax.methods.regions.sampling import Sampling
from solo_jax.nn.backbones.resnet import DEPTHS, ResNet

EVERYTHING = Sampling(number=100_000, positive_share=0.5)
# Depth 26 is the fixtures' own; others as published.
BLOCKS = DEPTHS | {26: dict(block="bottleneck", stage_sizes=(2, 2, 2, 2))}
# Standard deviations of the box codes of mmdet's cascades.
STAGE_STDS = (
  (0.1, 0.1, 0.2, 0.2),
  (0.05, 0.05, 0.1, 0.1),
  (0.033, 0.033, 0.067, 0.067),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
  """A golden model.

  Attributes:
    network: With the file's settings.
    variables: Its weights.
    inputs: Normalised and padded. [B, H, W, 3].
    image_size: [B, 2] int32.
    batch: Of the training step.
    settings: Of the loss.
    rules: The layout that its weights were read by.
  """

  network: MaskRCNN | PointRend
  variables: dict
  inputs: jax.Array
  image_size: jax.Array
  batch: types.Batch
  settings: dict
  rules: tuple


def make_scene(golden):
  is_tv = golden.config["framework"] == "torchvision"
  parts = torchvision_parts(golden) if is_tv else mmdet_parts(golden)
  network, settings, rules, size = parts
  inputs = jnp.asarray(golden["network_input"].transpose(0, 2, 3, 1))
  size = jnp.asarray(size, jnp.int32)
  # On tiny boxes nothing depends on the size of the input.
  target = jax.eval_shape(
    lambda: network.init(
      jax.random.key(0),
      jnp.zeros(inputs.shape, jnp.uint8),
      size,
      train=False,
    )
  )
  variables = convert(golden.state_dict(), rules, target)
  return Scene(
    network=network,
    variables=variables,
    inputs=inputs,
    image_size=size,
    batch=make_batch(golden, inputs.shape[1:3], np.asarray(size), is_tv),
    settings=settings,
    rules=rules,
  )


def resnet(config, widths, **changed):
  return ResNet(
    **BLOCKS[config["depth"]],
    widths=widths,
    groups=config.get("groups", 1),
    **changed,
  )


def shared_parts(golden, *, side, base_size, **rest):
  """Arguments that all networks take from the same places of a file."""
  config = golden.config
  (train, test), (kept_train, kept_test) = config["pre_nms"], config["post_nms"]
  clamp = "above" if side else "both"
  selections = [
    Selection(
      before_nms=before,
      after_nms=after,
      nms_threshold=0.7,
      min_side=1e-3 if side else 0.0,
      log_clamp=clamp,
    )
    for before, after in ((train, kept_train), (test, kept_test))
  ]
  pooling = dict(
    base_size=base_size,
    base_level=2 if side else 0,
    ratio_epsilon=0.0 if side else 1e-6,
    log_epsilon=1e-6 if side else 0.0,
    is_aligned=not side,
    num_samples=2 if side else None,
  )
  return dict(
    num_classes=config["num_classes"],
    fpn_channels=config["fpn_channels"],
    select_train=selections[0],
    select_test=selections[1],
    pooling=Pooling(**pooling),
    dense_channels=config["fc_channels"],
    dense_init="fan_in",
    pyramid_init="fan_in",
    stage_gradient=1.0,
    detection=DetectionSettings(
      score_threshold=config["score_threshold"],
      nms_threshold=config["nms_threshold"],
      max_detections=config["max_detections"],
      min_side=1e-2 if side else None,
    ),
    axis_name=None,
    dtype=jnp.float32,
    **rest,
  )


def torchvision_parts(golden):
  config = golden.config
  is_first = config["version"] == 1
  backbone = resnet(
    config,
    tuple(64 * 2**i // config["divide"] for i in range(4)),
    group_width=config["width_per_group"],
    norm_epsilon=config["bn_eps"],
  )
  network = MaskRCNN(
    backbone=backbone,
    norm=None if is_first else "frozen",
    anchors=Anchors(
      sizes=tuple(config["anchor_sizes"]),
      ratios=tuple(config["ratios"]),
      corners="rounded",
      spacing="map_size",
    ),
    proposal_convs=1 if is_first else 2,
    box_convs=0 if is_first else 4,
    box_dense=2 if is_first else 1,
    box_classes="each",
    stage_weights=((10.0, 10.0, 5.0, 5.0),),
    stage_scores="probabilities",
    mean=tuple(255 * x for x in config["mean"]),
    std=tuple(255 * x for x in config["std"]),
    channel_order="rgb",
    mask_convs=4,
    mask_heads="one",
    mask_flow=False,
    mask_scores="mean",
    semantic_classes=0,
    mask_init="small",
    **shared_parts(golden, side=True, base_size=config["canonical_scale"]),
  )
  settings = dict(
    proposals=ProposalLoss(
      trained="all",
      matching=Matching(high=0.7, low=0.3, low_quality="keep", lower_bound=0.0),
      sampling=EVERYTHING,
      beta=1 / 9,
      divisor="sampled",
    ),
    stages=StageLoss(
      matchings=(
        Matching(high=0.5, low=0.5, low_quality="none", lower_bound=0.0),
      ),
      sampling=dataclasses.replace(EVERYTHING, positive_share=0.25),
      weights=(1.0,),
      beta=1 / 9,
      next_regions="sampled",
      mask_regions="sampled",
    ),
    masks=MaskTargets(is_aligned=False, threshold=None),
    semantic_weight=0.0,
    axis_name=None,
  )
  rules = layouts.TORCHVISION_MASK_RCNN
  return network, settings, rules, config["network_sizes"]


def mmdet_matching(assigner):
  return Matching(
    high=assigner["pos_iou_thr"],
    low=assigner["neg_iou_thr"],
    low_quality="claim" if assigner.get("match_low_quality", True) else "none",
    lower_bound=assigner["min_pos_iou"],
  )


def mmdet_parts(golden):
  config, merged = golden.config, golden.config["merged"]
  train, published = merged["train_cfg"], config["published_config"]
  stages = train["rcnn"] if isinstance(train["rcnn"], list) else [train["rcnn"]]
  is_cascade, is_htc = len(stages) > 1, "htc" in published
  is_caffe = "caffe" in published
  preprocess = merged["data_preprocessor"]
  backbone = resnet(
    config,
    tuple(config["base_channels"] * 2**i for i in range(4)),
    group_width=config.get("base_width", 64),
    frozen_stages=1,
    stride_in_1x1=is_caffe and BLOCKS[config["depth"]]["block"] == "bottleneck",
  )
  arguments = dict(
    backbone=backbone,
    norm=None,
    anchors=Anchors(
      sizes=tuple(config["anchor_scale"] * stride for stride in STRIDES),
      ratios=tuple(config["ratios"]),
      corners="exact",
      spacing="stride",
    ),
    proposal_convs=1,
    box_convs=0,
    box_dense=2,
    box_classes="all" if is_cascade else "each",
    stage_weights=tuple(
      tuple(1 / x for x in stds) for stds in STAGE_STDS[: len(stages)]
    ),
    stage_scores="logits",
    mean=tuple(preprocess["mean"]),
    std=tuple(preprocess["std"]),
    channel_order="rgb" if preprocess["bgr_to_rgb"] else "bgr",
    **shared_parts(golden, side=False, base_size=config["finest_scale"]),
  )
  settings = dict(
    proposals=ProposalLoss(
      trained="own_padding"
      if train["rpn"]["allowed_border"] < 0
      else "inside_image",
      matching=mmdet_matching(train["rpn"]["assigner"]),
      sampling=EVERYTHING,
      beta=1 / 9 if is_cascade else 0.0,
      divisor="sampled",
    ),
    stages=StageLoss(
      matchings=tuple(mmdet_matching(x["assigner"]) for x in stages),
      sampling=dataclasses.replace(EVERYTHING, positive_share=0.25),
      weights=(1.0, 0.5, 0.25)[: len(stages)],
      beta=1.0 if is_cascade else 0.0,
      next_regions="sampled",
      mask_regions="refined" if is_htc else "sampled",
    ),
    masks=MaskTargets(is_aligned=True, threshold=0.5),
    axis_name=None,
  )
  if "points" in config:
    subdivision = Subdivision(
      steps=config["points"]["steps"], num_points=config["points"]["test"]
    )
    network = PointRend(subdivision=subdivision, **arguments)
    rules = layouts.MMDET_POINT_REND
  else:
    network = MaskRCNN(
      mask_convs=4,
      mask_heads="each",
      mask_flow=is_htc,
      mask_scores="last" if is_htc else "mean",
      semantic_classes=config.get("num_semantic") or 0,
      mask_init="small",
      **arguments,
    )
    settings["semantic_weight"] = 0.2
    rules = layouts.MMDET_MASK_RCNN
  return network, settings, rules, config["image_sizes"]


def nearest(masks, size):
  """As F.interpolate(mode='nearest'). [N, h, w] -> [N, *size]."""
  rows, columns = (
    np.minimum(
      np.floor(np.arange(new) * np.float32(old / new)).astype(int), old - 1
    )
    for old, new in zip(masks.shape[1:], size, strict=True)
  )
  return masks[:, rows][:, :, columns]


def make_batch(golden, padded_size, sizes, is_tv):
  """Instances of the training step, on full-resolution masks of the frame."""
  counts = [len(golden[f"gt_boxes_{i}"]) for i in range(len(sizes))]
  most = max(counts) + 1  # and padding
  boxes = np.zeros((len(sizes), most, 4), np.float32)
  labels = np.zeros((len(sizes), most), np.int32)
  masks = np.zeros((len(sizes), most, *padded_size), np.float32)
  semantic = np.full((len(sizes), *padded_size), 255, np.uint8)
  for i, (size, count) in enumerate(zip(sizes, counts, strict=True)):
    given = golden.config["image_sizes"][i]
    scale = np.asarray(size, np.float32) / np.asarray(given, np.float32)
    boxes[i, :count] = golden[f"gt_boxes_{i}"] * scale[[1, 0, 1, 0]]
    labels[i, :count] = golden[f"gt_labels_{i}"] - is_tv
    own = nearest(golden.masks(f"gt_masks_packed_{i}", given), size)
    masks[i, :count, : size[0], : size[1]] = own
    if f"gt_semantic_{i}" in golden.arrays:
      semantic[i, : size[0], : size[1]] = golden[f"gt_semantic_{i}"]
  return types.Batch(
    image=np.zeros((len(sizes), *padded_size, 3), np.uint8),
    image_size=np.asarray(sizes, np.int32),
    image_valid=np.ones(len(sizes), bool),
    masks=types.PackedMasks(
      data=(255 * masks).astype(np.uint8), encoding="coverage", stride=1
    ),
    centers=np.zeros((len(sizes), most, 2), np.float32),
    boxes_xyxy=boxes,
    labels=labels,
    valid=np.arange(most) < np.asarray(counts)[:, None],
    num_dropped=np.zeros(len(sizes), np.int32),
    row=np.arange(len(sizes), dtype=np.int32),
    semantic=semantic[:, ::8, ::8],
  )


def source_gradients(golden, scene, gradients):
  """Gradients under the source's names, by converting backwards.

  Every transform permutes or drops entries, so what a source entry became is
  found by converting the numbers of the entries themselves.
  """
  numbers, start = {}, 1
  for name, array in golden.state_dict().items():
    numbers[name] = np.arange(start, start + array.size, dtype=np.float64)
    numbers[name] = numbers[name].reshape(array.shape)
    start += array.size
  wide = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, np.float64), scene.variables
  )
  places = flatten(convert(numbers, scene.rules, wide))
  flat = np.zeros(start)
  for path, gradient in flatten({"params": gradients}).items():
    flat[places[path].astype(np.int64).ravel()] = np.ravel(gradient)
  return {name: flat[array.astype(np.int64)] for name, array in numbers.items()}
