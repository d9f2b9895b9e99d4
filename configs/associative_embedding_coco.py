r"""Associative embedding on COCO instance segmentation: a first recipe.

Data, input, backbones and schedules are those of solov2_coco.py, the embedding
that of associative_embedding_nuclei.py. No pixel-embedding method has published
a mask AP on COCO val2017 that this could be compared with, and nobody has run
this recipe to its end: a starting point, no result. Expect less than SOLOv2:
classes are told apart pixel by pixel, large and cut-up objects by place.

Run (`weights` is torchvision's file; without it training starts from noise):

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR \
    --data_dir=data
python -m solo_jax.train \
    --config=configs/associative_embedding_coco.py:backbone=r50,schedule=3x \
    --config.backbone.weights=resnet50-0676ba61.pth \
    --workdir=workdirs/associative_embedding_r50_3x
"""

import ml_collections
from ml_collections.config_dict import placeholder

from solo_jax.config import parse_arg

TRAIN_IMAGES = 117_266  # of train2017 with instances
BATCH_SIZE = 16
EPOCHS = {"1x": (12, (9, 11)), "3x": (36, (27, 33))}  # length, x0.1 after
STAGE_SIZES = {"r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3)}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,schedule=...,loss=...`."""
  arg = parse_arg(
    arg,
    backbone="r50",
    schedule="1x",
    loss="spatial",
    grouping="seed",
    tags=0,
  )
  if arg.backbone not in ("r50", "r101", "lite0") or arg.schedule not in EPOCHS:
    raise ValueError(
      "expected backbone=r50|r101|lite0 and schedule=1x|3x, got "
      f"backbone={arg.backbone}, schedule={arg.schedule}"
    )
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
  is_lite = arg.backbone == "lite0"
  num_epochs, decay_epochs = EPOCHS[arg.schedule]
  steps_per_epoch = TRAIN_IMAGES // BATCH_SIZE
  config = ml_collections.ConfigDict()
  config.method = "associative_embedding"
  config.seed = 0

  config.dataset = ml_collections.ConfigDict(
    dict(
      name="coco_instances/2017",  # <builder>[/<config>] below data_dir
      data_dir="data",
      train_split="train",
      eval_split="validation",
      num_classes=80,
      keep_empty=False,  # False: train without images that have no instance
      group_by_orientation=True,  # True: portrait batches use the swapped size
      num_workers=8,
    )
  )

  # Training augmentation, in the order it is applied.
  config.transforms = ml_collections.ConfigDict(
    dict(
      image_size=(800, 1344),  # padded network input in training
      # Short side drawn from these ...
      short_sides=(
        (800,) if arg.schedule == "1x" else (800, 768, 736, 704, 672, 640)
      ),
      max_side=1333,  # ... while the long side stays within this
      scale_jitter=placeholder(tuple),  # (low, high) factors, or None
      jitter_reference="fit",  # ... of the 'fit' or 'original' size
      flip=0.5,
      vertical_flip=0.0,
      transpose=0.0,
      color_jitter=0.0,  # strength for brightness, contrast, saturation
      mask_stride=4,
      mask_rule="published",  # 'published', 'majority' bits; 8-bit 'coverage'
      max_instances=100,
      min_mask_area=1.0,  # network pixels; smaller instances are left out
    )
  )

  # What inference does to an image before the network.
  config.preprocessing = ml_collections.ConfigDict(
    dict(
      # RGB: torchvision's constants, or those of the Lite0 weights.
      mean=(127.0, 127.0, 127.0) if is_lite else (123.675, 116.28, 103.53),
      std=(128.0, 128.0, 128.0) if is_lite else (58.395, 57.12, 57.375),
      channel_order="rgb",  # 'bgr' for caffe-style weights; mean, std then BGR
      short_side=800,
      max_side=1333,
      pad_multiple=32,
      interpolation="bilinear",  # or 'area' (antialiased when shrinking)
      # Larger images are read in tiles of so many pixels ...
      tile_size=placeholder(int),
      tile_overlap=0,  # ... that share so many with their neighbours
    )
  )

  config.backbone = ml_collections.ConfigDict(
    dict(
      # 'resnet' or 'efficientnet_lite0'
      name="efficientnet_lite0" if is_lite else "resnet",
      block="bottleneck",  # 'basic' or 'bottleneck'
      stage_sizes=None if is_lite else STAGE_SIZES[arg.backbone],
      widths=(64, 128, 256, 512),
      stem="conv7",  # 7x7 stride 2 and max pool; or 'space_to_depth'
      stride_in_1x1=False,  # True: caffe stride placement
      deformable=placeholder(str),  # 'v1' or 'v2': deformable 3x3, C3 to C5
      groups=1,  # ResNeXt-101 64x4d: 64 and ...
      group_width=64,  # ... 4
      norm="frozen",  # 'batch' (plain), 'sync' (over devices) or 'frozen'
      frozen_stages=1,  # 1: stem and first stage get no gradient
      remat=(),  # stages 1 to 4 computed twice, to save memory
      # 'efficientnet_lite0', or a .pth file of torchvision
      weights="efficientnet_lite0" if is_lite else placeholder(str),
    )
  )

  config.network = ml_collections.ConfigDict(
    dict(
      embedding="spatial" if is_spatial else "tag",
      tag_channels=tag_channels,
      tag_radius=tag_radius,  # of an instance; 'spatial': the initial one
      coordinate_unit=64.0,  # 'spatial': input pixels to a unit
      fpn_channels=256,
      head_channels=128,
      num_head_convs=4,
      num_hourglasses=0,  # stacked before the head
      mask_stride=4,
      num_groups=32,
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
      name="sgd",  # 'adamw' or 'sgd'
      learning_rate=0.01,  # for reference_batch_size images a step
      reference_batch_size=16,  # linear rule: lr * batch_size / reference
      schedule="step",  # 'cosine' or 'step'
      decay_steps=tuple(
        e * steps_per_epoch for e in decay_epochs
      ),  # 'step': x0.1 at each
      warmup_steps=500,
      warmup_factor=0.01,
      momentum=0.9,  # sgd
      weight_decay=1e-4,
      decay_norm_and_bias=True,
      clip_norm=35.0,  # None: off
      accumulate=1,  # micro-batches a step
      ema_decay=placeholder(float),  # None: off
    )
  )

  config.training = ml_collections.ConfigDict(
    dict(
      batch_size=BATCH_SIZE,  # global, over all devices and processes
      num_steps=num_epochs * steps_per_epoch,
      init_from=placeholder(str),  # folder of a checkpoint to start from
      precision="float32",  # or 'bfloat16' (convolutions only)
      checkpoint_every_steps=1000,
      keep_latest=2,
      keep_best=1,
      eval_every_steps=2 * steps_per_epoch,  # 0: at the end only
      log_every_steps=50,
      picture_every_steps=2000,  # 0: never
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
      min_pixels=16,
      min_unclaimed=0.5,  # share of a group that no other has taken
      competing=False,  # groups share pixels out: objects that never overlap
      score_terms=("category", "membership", "quality"),  # also 'seed'
      score_threshold=0.05,
      mask_threshold=0.5,
      nms_kernel="gaussian",  # or 'linear'
      nms_sigma=2.0,
      update_threshold=0.05,
      max_detections=100,
    )
  )

  config.evaluation = ml_collections.ConfigDict(
    dict(batch_size=8, max_detections=100)
  )
  return config
