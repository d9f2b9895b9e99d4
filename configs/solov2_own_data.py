r"""SOLOv2 for a few dozen to a few thousand photographs of your own.

EfficientNet-Lite0 with ImageNet weights, mask features at stride 2, images of
320 to 480 px drawn anew each time and mirrored. A start for the dataset doctor,
which fits sizes, grids, capacities and schedule to the data. Not trained to its
end yet; docs/own_data.md has what 200 small steps gave on 54 photographs.

python -m solo_jax.prepare --dataset=coco_instances --name=my_data \
    --train_annotations=train.json --train_images=images/ \
    --validation_annotations=val.json --validation_images=images/
python -m solo_jax.inspect_data --config=configs/solov2_own_data.py \
    --config.dataset.name=coco_instances/my_data --out=doctor
python -m solo_jax.train --config=doctor/suggested_config.py \
    --workdir=workdirs/my_data
"""

import ml_collections
from ml_collections.config_dict import placeholder

from solo_jax.config import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `steps=...`."""
  arg = parse_arg(arg, steps=2000)
  config = ml_collections.ConfigDict()
  config.method = "solov2"
  config.seed = 0

  config.dataset = ml_collections.ConfigDict(
    dict(
      name="coco_instances/my_data",  # <builder>[/<config>] below data_dir
      data_dir="data",
      train_split="train",
      eval_split="validation",
      num_classes=1,
      keep_empty=True,  # False: train without images that have no instance
      group_by_orientation=False,  # True: portrait batches use the swapped size
      num_workers=0,
    )
  )

  # Training augmentation, in the order it is applied.
  config.transforms = ml_collections.ConfigDict(
    dict(
      image_size=(480, 640),  # padded network input in training
      # Short side drawn from these ...
      short_sides=(320, 352, 384, 416, 448, 480),
      max_side=640,  # ... while the long side stays within this
      scale_jitter=placeholder(tuple),  # (low, high) factors, or None
      jitter_reference="fit",  # ... of the 'fit' or 'original' size
      flip=0.5,
      vertical_flip=0.0,
      transpose=0.0,
      color_jitter=0.0,  # strength for brightness, contrast, saturation
      mask_stride=2,
      mask_rule="coverage",  # 'published', 'majority' bits; 8-bit 'coverage'
      max_instances=64,
      min_mask_area=1.0,  # network pixels; smaller instances are left out
    )
  )

  # What inference does to an image before the network.
  config.preprocessing = ml_collections.ConfigDict(
    dict(
      mean=(127.0, 127.0, 127.0),  # RGB, as the weights were trained
      std=(128.0, 128.0, 128.0),
      channel_order="rgb",  # 'bgr' for caffe-style weights; mean, std then BGR
      short_side=384,
      max_side=640,
      pad_multiple=32,
      interpolation="bilinear",  # or 'area' (antialiased when shrinking)
      # Larger images are read in tiles of so many pixels ...
      tile_size=placeholder(int),
      tile_overlap=0,  # ... that share so many with their neighbours
    )
  )

  config.backbone = ml_collections.ConfigDict(
    dict(
      name="efficientnet_lite0",  # 'resnet' or 'efficientnet_lite0'
      block=None,  # 'basic' or 'bottleneck'
      stage_sizes=None,
      widths=None,
      stem=None,  # or 'conv7' (7x7 stride 2 and max pool)
      stride_in_1x1=None,  # True: caffe stride placement
      deformable=None,  # 'v1' or 'v2': deformable 3x3, C3 to C5
      groups=None,  # ResNeXt-101 64x4d: 64 and ...
      group_width=None,  # ... 4
      norm="frozen",  # 'batch' (plain), 'sync' (over devices) or 'frozen'
      frozen_stages=0,  # 1: stem and first stage get no gradient
      remat=(),  # stages 1 to 4 computed twice, to save memory
      weights="efficientnet_lite0",  # 'efficientnet_lite0' or a .pth file
    )
  )

  config.network = ml_collections.ConfigDict(
    dict(
      levels=(2, 3, 4, 5),  # pyramid level that each grid reads ...
      strides=(4, 8, 16, 32),  # ... resized to the map of this stride
      num_grids=(36, 24, 16, 12),
      fpn_channels=96,
      head_channels=96,
      num_head_convs=2,
      mask_channels=96,
      kernel_channels=64,
      mask_stride=2,
      num_groups=16,
      deformable=placeholder(str),  # 'v1' or 'v2': convolutions of the head
      deformable_convs="all",  # or 'last' of each tower
    )
  )

  config.loss = ml_collections.ConfigDict(
    dict(
      scale_ranges=((1, 48), (24, 96), (48, 192), (96, 1024)),
      center_sigma=0.2,
      max_positives=512,
      category_weight=1.0,
      mask_weight=3.0,
      focal_alpha=0.25,
      focal_gamma=2.0,
      mask_average="pairs",  # or 'cells', mmdetection's divisor
    )
  )

  config.optimizer = ml_collections.ConfigDict(
    dict(
      name="adamw",  # 'adamw' or 'sgd'
      learning_rate=1e-3,  # for reference_batch_size images a step
      reference_batch_size=8,  # linear rule: lr * batch_size / reference
      schedule="cosine",  # 'cosine' or 'step'
      decay_steps=(),  # 'step': x0.1 at each
      warmup_steps=100,
      warmup_factor=0.01,
      momentum=0.9,  # sgd
      weight_decay=1e-4,
      decay_norm_and_bias=False,
      clip_norm=10.0,  # None: off
      accumulate=1,  # micro-batches a step
      ema_decay=placeholder(float),  # None: off
    )
  )

  config.training = ml_collections.ConfigDict(
    dict(
      batch_size=8,  # global, over all devices and processes
      num_steps=arg.steps,
      init_from=placeholder(str),  # folder of a checkpoint to start from
      precision="float32",  # or 'bfloat16' (convolutions only)
      checkpoint_every_steps=250,
      keep_latest=2,
      keep_best=1,
      eval_every_steps=500,  # 0: at the end only
      log_every_steps=10,
      picture_every_steps=500,  # 0: never
      num_pictures=8,
      max_nonfinite_steps=20,  # in a row, then the run stops
    )
  )

  config.decode = ml_collections.ConfigDict(
    dict(
      score_threshold=0.05,
      mask_threshold=0.5,
      max_candidates=512,  # after the score threshold
      nms_candidates=256,  # published nms_pre, after the area filter
      nms_kernel="gaussian",  # or 'linear'
      nms_sigma=2.0,
      update_threshold=0.02,
      max_detections=100,
    )
  )

  config.evaluation = ml_collections.ConfigDict(
    dict(batch_size=8, max_detections=100)
  )
  return config
