"""The table rows of fields that only some methods have.

A method exists if at least one row belongs to it. Default grids and weights are
the published ones.
"""

from solo_jax.config_checks import (
  AMOUNT,
  COUNT,
  FACTOR,
  FLAG,
  POSITIVE,
  REQUIRED,
  SHARE,
  SIZES,
  Field,
  each,
  low_high,
  one_of,
  optional,
  section,
)

GRIDS = ("solo", "decoupled_solo", "solov2")
EMBEDDING = ("associative_embedding",)

METHOD_FIELDS = (
  *section(
    "network",
    GRIDS,
    Field(
      "levels",
      (2, 3, 4, 5, 6),
      each(one_of(2, 3, 4, 5, 6), at_least=1),
      "pyramid level that each grid reads ...",
    ),
    Field(
      "strides",
      (8, 8, 16, 32, 32),
      SIZES,
      "... resized to the map of this stride",
    ),
    Field("num_grids", (40, 36, 24, 16, 12), SIZES, "cells along a side"),
    Field(
      "deformable",
      None,
      optional(one_of("v1", "v2")),
      "'v1' or 'v2': convolutions of the head",
    ),
    Field(
      "deformable_convs",
      "all",
      one_of("all", "last"),
      "or 'last' of each tower",
    ),
  ),
  *section(
    "network",
    EMBEDDING,
    Field(
      "embedding",
      "spatial",
      one_of("spatial", "tag"),
      "'spatial': to the centre; 'tag': free",
    ),
    Field("tag_channels", 2, POSITIVE, "of the embedding"),
    Field(
      "tag_radius", 1.0, FACTOR, "of an instance; 'spatial': the initial one"
    ),
    Field(
      "coordinate_unit", REQUIRED, FACTOR, "'spatial': input pixels to a unit"
    ),
    Field("num_hourglasses", 0, COUNT, "stacked before the head"),
  ),
  *section(
    "network",
    GRIDS + EMBEDDING,
    Field("fpn_channels", 256, POSITIVE),
    Field("head_channels", 256, POSITIVE),
    Field("num_head_convs", 2, POSITIVE),
    Field("num_groups", 32, POSITIVE, "of group norm"),
  ),
  *section(
    "network",
    ("solov2",),
    Field("mask_channels", 128, POSITIVE),
    Field("kernel_channels", 256, POSITIVE),
    Field(
      "refine",
      None,
      optional(one_of("points")),
      "'points': masks doubled by PointRend's head",
    ),
  ),
  *section(
    "network",
    ("solov2", *EMBEDDING),
    Field("mask_stride", 4, one_of(2, 4), "as transforms.mask_stride"),
  ),
  *section(
    "network",
    ("decoupled_solo",),
    Field("shared_tower", False, FLAG, "True: the light variant"),
  ),
  *section(
    "loss",
    GRIDS,
    Field(
      "scale_ranges",
      ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
      each(low_high(AMOUNT), at_least=1),
      "sqrt of the box area, network px, of each grid",
    ),
    Field("center_sigma", 0.2, FACTOR, "centre region / box"),
    Field("max_positives", 384, POSITIVE, "cells of instances"),
    Field("focal_alpha", 0.25, SHARE),
    Field("focal_gamma", 2.0, AMOUNT),
    Field("category_weight", 1.0, AMOUNT),
    Field("mask_weight", 3.0, AMOUNT),
  ),
  *section(
    "loss",
    EMBEDDING,
    Field(
      "embedding_loss",
      "spatial",
      one_of("pull_push", "discriminative", "spatial"),
    ),
    Field(
      "mask_loss",
      "dice",
      one_of("dice", "lovasz"),
      "'spatial': 'dice' or 'lovasz'",
    ),
    Field("foreground_weight", 1.0, AMOUNT),
    Field("category_weight", 3.0, AMOUNT),
    Field("mask_weight", 8.0, AMOUNT, "'spatial'"),
    Field("pull_weight", 0.3, AMOUNT, "not of 'spatial'"),
    Field("push_weight", 0.3, AMOUNT, "not of 'spatial'"),
    Field("norm_weight", 0.001, AMOUNT, "'discriminative'"),
    Field("spread_weight", 0.1, AMOUNT, "'spatial'"),
    Field("seed_weight", 1.0, AMOUNT),
    Field("quality_weight", 1.0, AMOUNT),
  ),
  *section(
    "loss",
    ("solov2",),
    Field(
      "mask_average",
      "pairs",
      one_of("pairs", "cells"),
      "'pairs', or 'cells' as in mmdetection",
    ),
  ),
  *section(
    "decode",
    EMBEDDING,
    Field("score_threshold", 0.05, SHARE),
    Field("grouping", "seed", one_of("seed", "histogram", "mean_shift")),
    Field("foreground_threshold", 0.5, SHARE),
    Field("seed_threshold", 0.5, SHARE),
    Field(
      "radii",
      (1.0,),
      each(FACTOR, at_least=1),
      "factors of the radius, each with its own groups",
    ),
    Field("min_pixels", 16, COUNT, "of a group"),
    Field(
      "min_unclaimed", 0.5, SHARE, "share of a group not yet taken by another"
    ),
    Field(
      "competing",
      False,
      FLAG,
      "each pixel to one group: objects never overlap",
    ),
    Field(
      "score_terms",
      ("category", "membership", "quality"),
      each(one_of("category", "membership", "quality", "seed")),
      "factors of a score; also 'seed'",
    ),
  ),
  *section(
    "decode",
    GRIDS,
    Field("score_threshold", 0.1, SHARE),
    Field("max_candidates", 1000, POSITIVE, "after the score threshold"),
    Field(
      "nms_candidates",
      500,
      POSITIVE,
      "published nms_pre, after the area filter",
    ),
  ),
  *section(
    "decode",
    GRIDS + EMBEDDING,
    Field("nms_kernel", "gaussian", one_of("gaussian", "linear")),
    Field("nms_sigma", 2.0, FACTOR),
    Field("update_threshold", 0.05, SHARE, "on scores after matrix NMS"),
  ),
)
