"""The rows of the table of fields of region-based networks.

Neutral values are those of detectron2's Mask R-CNN; the recipes of torchvision
and mmdet in configs/ set the fields that differ.
"""

from solo_jax.config_checks import (
  AMOUNT,
  COUNT,
  FACTOR,
  FLAG,
  POSITIVE,
  SHARE,
  Check,
  Field,
  each,
  one_of,
  optional,
  section,
)

MASK_RCNN = ("mask_rcnn",)
POINT_REND = ("point_rend",)
REGIONS = MASK_RCNN + POINT_REND
POSITIVE_SHARE = Check(float, "above 0, at most 1", lambda x: 0 < x <= 1)

REGION_FIELDS = (
  *section(
    "network",
    REGIONS,
    Field("fpn_channels", 256, POSITIVE),
    Field(
      "norm",
      None,
      optional(one_of("batch", "sync", "frozen", "group")),
      "of pyramid, box and mask convolutions",
    ),
    Field(
      "anchor_sizes",
      (32, 64, 128, 256, 512),
      each(FACTOR, 5),
      "sqrt of the area, network px, on P2 to P6",
    ),
    Field("anchor_ratios", (0.5, 1.0, 2.0), each(FACTOR, at_least=1), "h / w"),
    Field(
      "anchor_corners",
      "exact",
      one_of("exact", "rounded"),
      "'rounded' in torchvision",
    ),
    Field(
      "anchor_spacing",
      "stride",
      one_of("stride", "map_size"),
      "'map_size' in torchvision",
    ),
    Field("proposal_convs", 1, POSITIVE, "3x3, of the proposal head"),
    Field(
      "proposals_before_nms",
      (2000, 1000),
      each(POSITIVE, 2),
      "of a level; in training, at test",
    ),
    Field(
      "proposals_after_nms", (1000, 1000), each(POSITIVE, 2), "of an image"
    ),
    Field("proposal_nms_threshold", 0.7, SHARE),
    Field("proposal_min_side", 0.0, AMOUNT, "network px; 0.001 in torchvision"),
    Field(
      "log_clamp",
      "above",
      one_of("above", "both"),
      "of predicted sides; 'both' in mmdet",
    ),
    Field(
      "pool_base_size",
      224.0,
      FACTOR,
      "sqrt of the area of boxes from which on they are on ...",
    ),
    Field("pool_base_level", 2, one_of(0, 1, 2, 3), "... P2 (0) to P5 (3)"),
    Field("pool_ratio_epsilon", 1e-8, AMOUNT, "mmdet 1e-6, torchvision 0"),
    Field("pool_log_epsilon", 0.0, AMOUNT, "torchvision 1e-6"),
    Field("pool_aligned", True, FLAG, "False in torchvision"),
    Field(
      "pool_samples",
      None,
      optional(POSITIVE),
      "along a side of a bin; None: as many as it has cells",
    ),
    Field("box_convs", 0, COUNT, "3x3, of a box head"),
    Field("box_dense", 2, POSITIVE, "layers of a box head"),
    Field("dense_channels", 1024, POSITIVE),
    Field(
      "dense_init",
      "fan_in",
      one_of("fan_in", "xavier", "pytorch"),
      "initial values: 'xavier' in mmdet, 'pytorch' in torchvision",
    ),
    Field(
      "pyramid_init",
      "fan_in",
      one_of("fan_in", "xavier"),
      "initial values: 'xavier' in mmdet",
    ),
    Field(
      "box_classes",
      "each",
      one_of("each", "all"),
      "a box for 'each' class or one for 'all'",
    ),
    Field(
      "stage_weights",
      ((10.0, 10.0, 5.0, 5.0),),
      each(
        Check(
          tuple,
          "four numbers above 0",
          lambda x: len(x) == 4 and all(map(FACTOR.holds, x)),
        ),
        at_least=1,
      ),
      "of box codes x, y, w, h; several stages: a cascade",
    ),
    Field(
      "stage_scores",
      "probabilities",
      one_of("probabilities", "logits"),
      "that stages are averaged by; 'logits' in mmdet",
    ),
    Field(
      "stage_gradient",
      1.0,
      POSITIVE_SHARE,
      "share that reaches the pyramid; 1/3 in detectron2's cascade",
    ),
  ),
  *section(
    "network",
    MASK_RCNN,
    Field("mask_convs", 4, POSITIVE, "3x3, of a mask head"),
    Field(
      "mask_heads", "one", one_of("one", "each"), "for all stages or 'each'"
    ),
    Field("mask_flow", False, FLAG, "a head feeds that of the next stage: HTC"),
    Field(
      "mask_scores",
      "mean",
      one_of("mean", "last"),
      "over the stages' heads; 'last' is mmdet 3.3's HTC",
    ),
    Field(
      "mask_init",
      "small",
      one_of("small", "fan_out"),
      "of logits: 'fan_out' in torchvision and mmdet",
    ),
    Field(
      "semantic_classes", 0, COUNT, "of the semantic branch of HTC; 0: none"
    ),
  ),
  *section(
    "network",
    POINT_REND,
    Field("subdivision_steps", 5, POSITIVE, "doublings of a 7 x 7 mask"),
    Field("subdivision_points", 784, POSITIVE, "cells refined in each"),
  ),
  *section(
    "loss",
    REGIONS,
    Field(
      "anchors_trained",
      "all",
      one_of("all", "own_padding", "inside_image"),
      "mmdet: 'own_padding', cascades 'inside_image'",
    ),
    Field("anchor_high", 0.7, SHARE, "from this overlap on: positive"),
    Field("anchor_low", 0.3, SHARE, "below: background"),
    Field(
      "anchor_low_quality",
      "keep",
      one_of("none", "keep", "claim"),
      "an instance's best anchors; 'claim' in mmdet",
    ),
    Field("anchor_samples", 256, POSITIVE, "per image"),
    Field("anchor_positive_share", 0.5, POSITIVE_SHARE, "at most"),
    Field("anchor_beta", 0.0, AMOUNT, "of smooth L1; 0: L1"),
    Field(
      "anchor_divisor",
      "slots",
      one_of("sampled", "slots"),
      "'sampled' in torchvision and mmdet",
    ),
    Field("region_ious", (0.5,), each(SHARE, at_least=1), "of each stage"),
    Field(
      "region_low_quality",
      "none",
      one_of("none", "keep", "claim"),
      "'claim' in mmdet's Mask R-CNN and HTC",
    ),
    Field("region_samples", 512, POSITIVE, "per image and stage"),
    Field("region_positive_share", 0.25, POSITIVE_SHARE, "at most"),
    Field("region_beta", 0.0, AMOUNT, "of smooth L1; 0: L1"),
    Field(
      "stage_loss_weights", (1.0,), each(AMOUNT, at_least=1), "of each stage"
    ),
    Field(
      "next_regions",
      "all",
      one_of("sampled", "all"),
      "of the next stage: 'sampled' again in mmdet",
    ),
    Field(
      "mask_regions",
      "sampled",
      one_of("sampled", "refined", "predicted"),
      "'refined': HTC; 'predicted': detectron2's PointRend",
    ),
    Field("mask_aligned", True, FLAG, "False in torchvision"),
    Field(
      "mask_target_threshold",
      0.5,
      optional(SHARE),
      "None: covered shares, as in torchvision",
    ),
  ),
  *section(
    "loss",
    MASK_RCNN,
    Field("semantic_weight", 0.2, AMOUNT, "of the semantic branch"),
  ),
  *section(
    "loss",
    POINT_REND,
    Field("points", 196, POSITIVE, "that train a mask"),
    Field("point_candidates", 3, POSITIVE, "drawn for each that is kept"),
    Field("uncertain_share", 0.75, SHARE, "of points: the least certain ones"),
  ),
  *section(
    "decode",
    REGIONS,
    Field("score_threshold", 0.05, SHARE),
    Field("nms_threshold", 0.5, SHARE, "of boxes of one class"),
    Field(
      "min_side",
      0.0,
      optional(AMOUNT),
      "of a box, network px; torchvision 0.01, mmdet None: any",
    ),
    Field(
      "paste",
      "aligned",
      one_of("aligned", "torchvision"),
      "how masks are laid into the image",
    ),
  ),
)
