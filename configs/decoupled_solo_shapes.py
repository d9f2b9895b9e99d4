r"""Decoupled SOLO on drawn shapes: the demo's data and budget.

Follows https://arxiv.org/abs/1912.04488, section 5, in miniature: as
solo_shapes.py, with masks that are products of a column and a row map.

Measured: mask AP .446 (S .391, M .651) on the 200 held-out scenes, 20.4 CPU-min
on one core, beside other work (2026-11-24).

Run:

python -m solo_jax.prepare --dataset=shapes --data_dir=data
python -m solo_jax.train --config=configs/decoupled_solo_shapes.py \
    --workdir=workdirs/decoupled_solo_shapes
python -m solo_jax.eval --checkpoint=workdirs/decoupled_solo_shapes
"""

import ml_collections
from ml_collections.config_dict import placeholder

from solo_jax.config import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the demo configuration; `arg` takes `steps=...`."""
  arg = parse_arg(arg, steps=9000)
  config = ml_collections.ConfigDict()
  config.method = "decoupled_solo"
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
      levels=(2, 3),  # pyramid level that each grid reads ...
      strides=(4, 8),  # ... resized to the map of this stride; masks: half
      num_grids=(16, 8),
      fpn_channels=40,
      head_channels=48,
      num_head_convs=2,
      num_groups=8,
      shared_tower=True,  # the light variant; False: a tower for x, one for y
      deformable=placeholder(str),  # 'v1' or 'v2': convolutions of the head
      deformable_convs="all",  # or 'last' of each tower
    )
  )

  config.loss = ml_collections.ConfigDict(
    dict(
      scale_ranges=((1, 36), (24, 128)),
      center_sigma=0.2,
      max_positives=96,
      category_weight=3.0,
      mask_weight=3.0,
      focal_alpha=0.25,
      focal_gamma=2.0,
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
      score_threshold=0.1,
      mask_threshold=0.5,
      max_candidates=200,  # after the score threshold
      nms_candidates=200,  # published nms_pre, after the area filter
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
