r"""Decoupled SOLO light on COCO instance segmentation, the published recipes.

Follows https://arxiv.org/abs/1912.04488, section 5, and the authors' light
settings: input of 852 x 512, one tower of four convolutions; 36 epochs of 16
images, short side 352 to 512. `recipe` is official (the authors') or mmdet
(no clipping). Published mask AP on val2017, not measured here:
official r50 33.0, r50_dcn 35.0; mmdet r50 32.9.

Differs from the published runs: a batch is padded to one size, in either
orientation, instead of to its largest image, and the counts that divide the
losses run over all devices.

Run (`weights` is torchvision's file; without it training starts from noise):

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR \
    --data_dir=data
python -m solo_jax.train --config=configs/decoupled_solo_light_coco.py \
    --config.backbone.weights=resnet50-0676ba61.pth \
    --workdir=workdirs/decoupled_solo_light_r50
"""

import ml_collections
from ml_collections.config_dict import placeholder

from solo_jax.config import parse_arg

TRAIN_IMAGES = 117_266  # of train2017 with instances
BATCH_SIZE = 16
STEPS_PER_EPOCH = TRAIN_IMAGES // BATCH_SIZE
BACKBONES = ("r50", "r50_dcn")
RECIPES = ("official", "mmdet")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,recipe=...`."""
  arg = parse_arg(arg, backbone="r50", recipe="official")
  if arg.backbone not in BACKBONES or arg.recipe not in RECIPES:
    raise ValueError(
      f"expected backbone={'|'.join(BACKBONES)} and "
      f"recipe={'|'.join(RECIPES)}, got backbone={arg.backbone}, "
      f"recipe={arg.recipe}"
    )
  dcn = arg.backbone == "r50_dcn"
  deformable = "v1" if dcn else placeholder(str)
  config = ml_collections.ConfigDict()
  config.method = "decoupled_solo"
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
      image_size=(512, 864),  # padded network input in training
      short_sides=(512, 480, 448, 416, 384, 352),  # drawn from these ...
      max_side=852,  # ... while the long side stays within this
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
      mean=(123.675, 116.28, 103.53),  # RGB
      std=(58.395, 57.12, 57.375),
      channel_order="rgb",  # 'bgr' for caffe-style weights; mean, std then BGR
      short_side=512,
      max_side=852,
      pad_multiple=32,
      interpolation="bilinear",  # or when shrinking 'antialias' or 'area'
      # Larger images are read in tiles of so many pixels ...
      tile_size=placeholder(int),
      tile_overlap=0,  # ... that share so many with their neighbours
    )
  )

  config.backbone = ml_collections.ConfigDict(
    dict(
      name="resnet",  # 'resnet' or 'efficientnet_lite0'
      block="bottleneck",  # 'basic' or 'bottleneck'
      stage_sizes=(3, 4, 6, 3),
      widths=(64, 128, 256, 512),
      stem="conv7",  # 7x7 stride 2 and max pool; or 'space_to_depth'
      stride_in_1x1=False,  # True: caffe stride placement
      deformable=deformable,  # 'v1' or 'v2': deformable 3x3, C3 to C5
      groups=1,  # ResNeXt-101 64x4d: 64 and ...
      group_width=64,  # ... 4
      norm="frozen",  # 'batch' (plain), 'sync' (over devices) or 'frozen'
      frozen_stages=1,  # 1: stem and first stage get no gradient
      remat=(),  # stages 1 to 4 computed twice, to save memory
      weights=placeholder(str),  # a .pth file of torchvision
    )
  )

  config.network = ml_collections.ConfigDict(
    dict(
      levels=(2, 3, 4, 5, 6),  # pyramid level that each grid reads ...
      # ... resized to the map of this stride; masks: half.
      strides=(8, 8, 16, 32, 32),
      num_grids=(40, 36, 24, 16, 12),
      fpn_channels=256,
      head_channels=256,
      num_head_convs=4,
      num_groups=32,
      shared_tower=True,  # True: the light variant
      deformable=deformable,  # 'v1' or 'v2': convolutions of the head
      deformable_convs="last" if dcn else "all",  # or 'last' of each tower
    )
  )

  config.loss = ml_collections.ConfigDict(
    dict(
      scale_ranges=((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)),
      center_sigma=0.2,
      max_positives=384,
      category_weight=1.0,
      mask_weight=3.0,
      focal_alpha=0.25,
      focal_gamma=2.0,
    )
  )

  config.optimizer = ml_collections.ConfigDict(
    dict(
      name="sgd",  # 'adamw' or 'sgd'
      learning_rate=0.01,  # for reference_batch_size images a step
      reference_batch_size=16,  # linear rule: lr * batch_size / reference
      schedule="step",  # 'cosine' or 'step'
      # 'step': x0.1 at each
      decay_steps=(27 * STEPS_PER_EPOCH, 33 * STEPS_PER_EPOCH),
      warmup_steps=500,
      warmup_factor=1 / 3,
      momentum=0.9,  # sgd
      weight_decay=1e-4,
      decay_norm_and_bias=True,
      # None: off
      clip_norm=placeholder(float) if arg.recipe == "mmdet" else 35.0,
      accumulate=1,  # micro-batches a step
      ema_decay=placeholder(float),  # None: off
    )
  )

  config.training = ml_collections.ConfigDict(
    dict(
      batch_size=BATCH_SIZE,  # global, over all devices and processes
      num_steps=36 * STEPS_PER_EPOCH,
      init_from=placeholder(str),  # folder of a checkpoint to start from
      precision="float32",  # or 'bfloat16' (convolutions only)
      checkpoint_every_steps=1000,
      keep_latest=2,
      keep_best=1,
      eval_every_steps=2 * STEPS_PER_EPOCH,  # 0: at the end only
      log_every_steps=50,
      picture_every_steps=2000,  # 0: never
      num_pictures=4,
      max_nonfinite_steps=20,  # in a row, then the run stops
    )
  )

  config.decode = ml_collections.ConfigDict(
    dict(
      score_threshold=0.1,
      mask_threshold=0.5,
      max_candidates=1000,  # after the score threshold
      nms_candidates=500,  # published nms_pre, after the area filter
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
