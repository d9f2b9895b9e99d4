r"""Associative embedding on drawn shapes: the demo's data and budget.

Pixels get an embedding and are grouped by clustering; `loss` chooses what makes
the embedding: `spatial` (https://arxiv.org/abs/1906.11109), `discriminative`
(https://arxiv.org/abs/1708.02551) or `pull_push`
(https://arxiv.org/abs/1611.05424). `grouping` is seed, histogram or mean_shift,
`tags` the length of the tags that are free of place.

Measured: mask AP .495 (S .439, M .718) on the 200 held-out scenes, 12.6 CPU-min
on one core (2026-11-24); .290 with `loss=discriminative,tags=2`, .175 with
`loss=pull_push,tags=2`.

Run:

python -m solo_jax.prepare --dataset=shapes --data_dir=data
python -m solo_jax.train \
    --config=configs/associative_embedding_shapes.py:loss=spatial \
    --workdir=workdirs/associative_embedding
python -m solo_jax.eval --checkpoint=workdirs/associative_embedding
"""

import ml_collections
from ml_collections.config_dict import placeholder

from solo_jax.config import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `loss=...,grouping=...,steps=...`."""
  arg = parse_arg(arg, loss="spatial", grouping="seed", steps=9000, tags=0)
  if arg.loss not in ("pull_push", "discriminative", "spatial"):
    raise ValueError(
      f"config argument loss={arg.loss!r}; expected "
      "loss=pull_push|discriminative|spatial"
    )
  # Free tags: 8 dimensions, or 2 where they are binned.
  is_spatial = arg.loss == "spatial"
  binned = is_spatial or arg.grouping == "histogram"
  tag_channels = arg.tags or (2 if binned else 8)
  tag_radius = dict(pull_push=1.0, discriminative=1.5, spatial=1.0)[arg.loss]
  config = ml_collections.ConfigDict()
  config.method = "associative_embedding"
  config.seed = 0

  config.dataset = ml_collections.ConfigDict(
    dict(
      name="shapes",  # <builder>[/<config>] below data_dir
      data_dir="data",
      train_split="train",
      eval_split="validation",
      num_classes=5,
      keep_empty=True,  # False: train without images that have no instance
      group_by_orientation=False,  # True: portrait batches use the swapped size
      num_workers=0,
    )
  )

  # Training augmentation, in the order it is applied.
  config.transforms = ml_collections.ConfigDict(
    dict(
      image_size=(128, 128),  # padded network input in training
      short_sides=(128,),  # short side drawn from these ...
      max_side=128,  # ... while the long side stays within this
      scale_jitter=placeholder(tuple),  # (low, high) factors, or None
      jitter_reference="fit",  # ... of the 'fit' or 'original' size
      flip=0.5,
      vertical_flip=0.5,
      transpose=0.5,
      color_jitter=0.0,  # strength for brightness, contrast, saturation
      mask_stride=2,
      mask_rule="coverage",  # 'published', 'majority' bits; 8-bit 'coverage'
      max_instances=16,
      min_mask_area=1.0,  # network pixels; smaller instances are left out
    )
  )

  # What inference does to an image before the network.
  config.preprocessing = ml_collections.ConfigDict(
    dict(
      mean=(123.675, 116.28, 103.53),  # RGB
      std=(58.395, 57.12, 57.375),
      channel_order="rgb",  # 'bgr' for caffe-style weights; mean, std then BGR
      short_side=128,
      max_side=128,
      pad_multiple=32,
      interpolation="bilinear",  # or 'area' (antialiased when shrinking)
      # Larger images are read in tiles of so many pixels ...
      tile_size=placeholder(int),
      tile_overlap=0,  # ... that share so many with their neighbours
    )
  )

  config.backbone = ml_collections.ConfigDict(
    dict(
      name="resnet",  # 'resnet' or 'efficientnet_lite0'
      block="basic",  # 'basic' or 'bottleneck'
      stage_sizes=(1, 2, 2, 1),
      widths=(32, 64, 96, 96),
      stem="space_to_depth",  # or 'conv7' (7x7 stride 2 and max pool)
      stride_in_1x1=False,  # True: caffe stride placement
      deformable=placeholder(str),  # 'v1' or 'v2': deformable 3x3, C3 to C5
      groups=1,  # ResNeXt-101 64x4d: 64 and ...
      group_width=64,  # ... 4
      norm="sync",  # 'batch' (plain), 'sync' (over devices) or 'frozen'
      frozen_stages=0,  # 1: stem and first stage get no gradient
      remat=(),  # stages 1 to 4 computed twice, to save memory
      weights=placeholder(str),  # 'efficientnet_lite0' or a .pth file
    )
  )

  config.network = ml_collections.ConfigDict(
    dict(
      embedding="spatial" if is_spatial else "tag",
      tag_channels=tag_channels,
      tag_radius=tag_radius,  # of an instance; 'spatial': the initial one
      coordinate_unit=16.0,  # 'spatial': input pixels to a unit
      fpn_channels=40,
      head_channels=48,
      num_head_convs=2,
      num_hourglasses=0,  # stacked before the head
      mask_stride=2,
      num_groups=8,
    )
  )

  config.loss = ml_collections.ConfigDict(
    dict(
      embedding_loss=arg.loss,
      mask_loss="dice",  # 'spatial': or 'lovasz'
      foreground_weight=1.0 if is_spatial else 3.0,
      category_weight=3.0,
      pull_weight=0.3,  # of the other losses
      push_weight=0.3,
      norm_weight=0.001,  # 'discriminative'
      mask_weight=8.0,  # 'spatial'
      spread_weight=0.1,  # 'spatial'
      seed_weight=1.0,
      quality_weight=1.0,
    )
  )

  config.optimizer = ml_collections.ConfigDict(
    dict(
      name="adamw",  # 'adamw' or 'sgd'
      learning_rate=3e-3,  # for reference_batch_size images a step
      reference_batch_size=4,  # linear rule: lr * batch_size / reference
      schedule="cosine",  # 'cosine' or 'step'
      decay_steps=(),  # 'step': x0.1 at each
      warmup_steps=200,
      warmup_factor=0.01,
      momentum=0.9,  # sgd
      weight_decay=0.05,
      decay_norm_and_bias=False,
      clip_norm=10.0,  # None: off
      accumulate=1,  # micro-batches a step
      ema_decay=placeholder(float),  # None: off
    )
  )

  config.training = ml_collections.ConfigDict(
    dict(
      batch_size=4,  # global, over all devices and processes
      num_steps=arg.steps,
      init_from=placeholder(str),  # folder of a checkpoint to start from
      precision="float32",  # or 'bfloat16' (convolutions only)
      checkpoint_every_steps=1000,
      keep_latest=2,
      keep_best=1,
      eval_every_steps=0,  # 0: at the end only
      log_every_steps=100,
      picture_every_steps=3000,  # 0: never
      num_pictures=4,
      max_nonfinite_steps=20,  # in a row, then the run stops
    )
  )

  config.decode = ml_collections.ConfigDict(
    dict(
      grouping=arg.grouping,  # 'seed', 'histogram' or 'mean_shift'
      foreground_threshold=0.5,
      seed_threshold=0.5,
      radii=(1.0,),  # factors of the radius, each with its own groups
      min_pixels=4,
      min_unclaimed=0.5,  # share of a group that no other has taken
      competing=False,  # groups share pixels out: objects that never overlap
      score_terms=("category", "membership", "quality"),  # also 'seed'
      score_threshold=0.05,
      mask_threshold=0.5,
      nms_kernel="gaussian",  # or 'linear'
      nms_sigma=2.0,
      update_threshold=0.05,
      max_detections=30,
    )
  )

  config.evaluation = ml_collections.ConfigDict(
    dict(batch_size=8, max_detections=100)
  )
  return config
