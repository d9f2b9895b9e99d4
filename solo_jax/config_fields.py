"""The table of all fields of a configuration.

To add a field, add a row here or, if only some methods have it, to
config_methods.py, config_queries.py or config_regions.py. Its default must
reproduce what a run did before the field existed, because older checkpoints are
read with it.
"""

from solo_jax.config_augmentations import STAGES
from solo_jax.config_checks import (
  ALL,
  AMOUNT,
  COUNT,
  FACTOR,
  FLAG,
  NUMBER,
  POSITIVE,
  REQUIRED,
  SHARE,
  TEXT,
  Field,
  each,
  one_of,
  optional,
  section,
)
from solo_jax.config_methods import METHOD_FIELDS
from solo_jax.config_queries import QUERY_FIELDS
from solo_jax.config_queryinst import QUERYINST_FIELDS
from solo_jax.config_regions import REGION_FIELDS
from solo_jax.config_yolact import YOLACT_FIELDS

FIELDS = (
  *section(
    "",
    ALL,
    Field("method", REQUIRED, TEXT, "folder of solo_jax/methods"),
    Field("seed", 0, COUNT, "of initial weights, image order and augmentation"),
  ),
  *section(
    "dataset",
    ALL,
    Field("name", REQUIRED, TEXT, "<builder>[/<config>] below data_dir"),
    Field("data_dir", "data", TEXT, "folder of prepared datasets"),
    Field("train_split", "train", TEXT, "or a part of it: 'train[:100]'"),
    Field("eval_split", "validation", TEXT, "as train_split"),
    Field("num_classes", REQUIRED, POSITIVE, "must equal the dataset's"),
    Field("keep_empty", True, FLAG, "False: skip images without instances"),
    Field(
      "group_by_orientation", False, FLAG, "True: separate portrait batches"
    ),
    Field("num_workers", 0, COUNT, "worker processes that read images"),
  ),
  *section(
    "transforms",
    ALL,
    Field(
      "image_size",
      REQUIRED,
      each(POSITIVE, 2),
      "padded input in training",
    ),
    Field("augment", REQUIRED, STAGES, "(name, settings), in this order"),
    Field(
      "mask_frame",
      "image",
      one_of("image", "box"),
      "targets over the whole 'image' or inside each 'box'",
    ),
    Field("box_mask_size", 112, POSITIVE, "cells along a side of a 'box'"),
    Field("mask_stride", 4, POSITIVE, "input pixels of a target's"),
    Field(
      "mask_rule",
      "published",
      one_of("published", "majority", "coverage"),
      "'published', 'majority' bits; 8-bit 'coverage'",
    ),
    Field("max_instances", 100, POSITIVE, "per image; more are lost"),
    Field("max_crowds", 0, COUNT, "boxes of crowds per image, for YOLACT"),
    Field("min_mask_area", 1.0, AMOUNT, "network pixels; skip smaller ones"),
  ),
  *section(
    "preprocessing",
    ALL,
    Field(
      "mean", (123.675, 116.28, 103.53), each(NUMBER, 3), "in channel_order"
    ),
    Field("std", (58.395, 57.12, 57.375), each(FACTOR, 3), "in channel_order"),
    Field(
      "channel_order",
      "rgb",
      one_of("rgb", "bgr"),
      "'bgr' for caffe-style weights",
    ),
    Field("short_side", REQUIRED, POSITIVE, "resized to this length ..."),
    Field(
      "max_side", REQUIRED, POSITIVE, "... if the long side stays within this"
    ),
    Field(
      "keep_aspect", True, FLAG, "False: stretched to a square of short_side"
    ),
    Field(
      "size_rounding",
      "nearest",
      one_of("nearest", "down"),
      "of resized sides; 'down' in torchvision",
    ),
    Field("pad_multiple", 32, POSITIVE, "sides are padded to a multiple"),
    Field(
      "interpolation",
      "bilinear",
      one_of("bilinear", "area", "antialias"),
      "or 'area', 'antialias' when shrinking",
    ),
    Field(
      "tile_size", None, optional(POSITIVE), "cuts larger images into tiles ..."
    ),
    Field("tile_overlap", 0, COUNT, "... that neighbouring tiles share"),
  ),
  *section(
    "backbone",
    ALL,
    Field("name", REQUIRED, TEXT, "a row of solo_jax/backbones.py"),
    Field("frozen_stages", 0, COUNT, "1: stem and first stage get no gradient"),
    Field(
      "remat", (), each(one_of(1, 2, 3, 4)), "stages recomputed to save memory"
    ),
    Field(
      "weights",
      None,
      optional(TEXT),
      "a file, name or address, or a package's: see solo_jax/backbones.py",
    ),
  ),
  *section(
    "backbone",
    ("resnet",),
    Field("block", "bottleneck", one_of("basic", "bottleneck")),
    Field(
      "stage_sizes",
      (3, 4, 6, 3),
      each(POSITIVE, 4),
      "blocks; ResNet-101: (3, 4, 23, 3)",
    ),
    Field(
      "widths",
      (64, 128, 256, 512),
      each(POSITIVE, 4),
      "channels inside the blocks",
    ),
    Field(
      "stem",
      "conv7",
      one_of("conv7", "space_to_depth"),
      "'conv7' (stride 2, max pool) or 'space_to_depth'",
    ),
    Field("stride_in_1x1", False, FLAG, "True: caffe stride placement"),
    Field(
      "deformable",
      None,
      optional(one_of("v1", "v2")),
      "'v1' or 'v2': deformable 3x3, C3 to C5",
    ),
    Field("deformable_every", 1, POSITIVE, "blocks; 3: YOLACT++'s R101"),
    Field("groups", 1, POSITIVE, "ResNeXt-101 64x4d: 64 and ..."),
    Field("group_width", 64, POSITIVE, "... 4"),
    Field("norm_epsilon", 1e-5, AMOUNT, "torchvision's Mask R-CNN v1 file: 0"),
  ),
  *section(
    "backbone",
    ("darknet",),
    Field("stage_sizes", (1, 2, 8, 8, 4), each(POSITIVE, 5), "blocks"),
    Field("width", 32, POSITIVE, "channels of the stem"),
  ),
  *section(
    "backbone",
    ("resnet", "efficientnet_lite0", "darknet"),
    Field(
      "norm",
      "sync",
      one_of("batch", "sync", "frozen", "constant", "group"),
      "'sync': over devices; 'frozen', 'constant': affine too",
    ),
  ),
  *section(
    "backbone",
    ("swin",),
    Field("embed_dim", 96, POSITIVE, "channels of the first stage"),
    Field("depths", (2, 2, 6, 2), each(POSITIVE, 4), "blocks; S, B, L: 18"),
    Field("num_heads", (3, 6, 12, 24), each(POSITIVE, 4), "of each stage"),
    Field("window_size", 7, POSITIVE, "pixels of a map; B, L: 12"),
    Field("mlp_ratio", 4, POSITIVE, "hidden channels, by the stage's"),
    Field("drop_path_rate", 0.3, SHARE, "images that skip the last block"),
  ),
  *METHOD_FIELDS,
  *REGION_FIELDS,
  *QUERY_FIELDS,
  *YOLACT_FIELDS,
  *QUERYINST_FIELDS,
  *section(
    "decode",
    ALL,
    Field("mask_threshold", 0.5, SHARE),
    Field("max_detections", 100, POSITIVE, "per image or tile"),
  ),
  *section(
    "optimizer",
    ALL,
    Field("name", "adamw", one_of("adamw", "muon", "sgd")),
    Field(
      "learning_rate",
      REQUIRED,
      FACTOR,
      "at reference_batch_size images per step",
    ),
    Field(
      "reference_batch_size",
      REQUIRED,
      POSITIVE,
      "linear rule: lr * batch / reference",
    ),
    Field(
      "backbone_factor", 1.0, AMOUNT, "factor of the backbone's learning rate"
    ),
    Field("schedule", "cosine", one_of("cosine", "poly", "step")),
    Field("decay_steps", (), each(COUNT), "'step': x0.1 at each of these"),
    Field("warmup_steps", 0, COUNT, "linear, from ..."),
    Field("warmup_factor", 0.01, AMOUNT, "... this share of the rate"),
    Field("momentum", 0.9, AMOUNT, "sgd"),
    Field("weight_decay", 0.0001, AMOUNT),
    Field("decay_norm_and_bias", False, FLAG, "as PyTorch's SGD does"),
    Field("decay_bias", False, FLAG, "True: of layers, not of norms"),
    Field("clip_norm", None, optional(FACTOR), "None: off"),
    Field("accumulate", 1, POSITIVE, "micro-batches per step"),
    Field("ema_decay", None, optional(SHARE), "None: off"),
  ),
  *section(
    "training",
    ALL,
    Field(
      "batch_size", REQUIRED, POSITIVE, "global, over all devices and processes"
    ),
    Field("num_steps", REQUIRED, POSITIVE),
    Field("init_from", None, optional(TEXT), "folder or name of a checkpoint"),
    Field(
      "precision",
      "float32",
      one_of("float32", "bfloat16"),
      "or 'bfloat16' (convolutions only)",
    ),
    Field("checkpoint_every_steps", 1000, POSITIVE),
    Field("keep_latest", 2, POSITIVE, "checkpoints"),
    Field("keep_best", 1, COUNT, "checkpoints to keep, by mask AP"),
    Field("eval_every_steps", 0, COUNT, "0: at the end only"),
    Field("log_every_steps", 50, POSITIVE),
    Field("picture_every_steps", 2000, COUNT, "0: never"),
    Field("num_pictures", 4, COUNT),
    Field("max_nonfinite_steps", 20, COUNT, "in a row before the run stops"),
  ),
  *section(
    "evaluation",
    ALL,
    Field("batch_size", 8, POSITIVE, "on each device"),
    Field("max_detections", 100, POSITIVE, "per image"),
  ),
)
