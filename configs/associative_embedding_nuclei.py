r"""Associative embedding on nuclei: hundreds of small touching cells.

Data, input and augmentation are those of solov2_nuclei.py: tiles of 256 px at
the image's own resolution, maps at stride 2, coverage targets. Each pixel is
sent to the centre of its nucleus by the `spatial` loss
(https://arxiv.org/abs/1906.11109); `loss=discriminative` and `loss=pull_push`
learn tags that are free of place. An image may hold any number of instances: no
grid limits them, `decode.max_detections` does, tile by tile.

Measured: label images with Kaggle .553 [.503, .599] and AP50 .842 on the 54
fluorescence images of validation, .493 and .748 on all 67; 84 CPU-min on one
core of an Intel Xeon (2026-11-26). docs/associative_embedding.md has the rest.

Run:

python -m solo_jax.prepare --dataset=labeled_images --name=nuclei \
    --source=../shared/data/nuclei --data_dir=data
python -m solo_jax.train --config=configs/associative_embedding_nuclei.py \
    --workdir=workdirs/associative_embedding_nuclei
python -m solo_jax.eval --checkpoint=workdirs/associative_embedding_nuclei
"""

import ml_collections
from ml_collections.config_dict import placeholder

from solo_jax.config import parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `loss=...,grouping=...,steps=...`."""
  arg = parse_arg(arg, loss="spatial", grouping="seed", steps=5500, tags=0)
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
      name="labeled_images/nuclei",  # <builder>[/<config>] below data_dir
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
      image_size=(256, 256),  # padded network input in training
      short_sides=(256,),  # short side drawn from these ...
      max_side=256,  # ... while the long side stays within this
      scale_jitter=(0.7, 1.4),  # (low, high) of large-scale jitter, or None
      jitter_reference="original",  # ... of the 'fit' or 'original' size
      flip=0.5,
      vertical_flip=0.5,
      transpose=0.5,
      color_jitter=0.2,  # strength for brightness, contrast, saturation
      mask_stride=2,
      mask_rule="coverage",  # 'published', 'majority' bits; 8-bit 'coverage'
      max_instances=160,
      min_mask_area=4.0,  # network pixels; smaller instances are left out
    )
  )

  # What inference does to an image before the network.
  config.preprocessing = ml_collections.ConfigDict(
    dict(
      mean=(123.675, 116.28, 103.53),  # RGB
      std=(58.395, 57.12, 57.375),
      channel_order="rgb",  # 'bgr' for caffe-style weights; mean, std then BGR
      short_side=256,
      max_side=256,
      pad_multiple=256,
      interpolation="bilinear",  # or 'area' (antialiased when shrinking)
      tile_size=256,  # larger images are read in tiles of so many pixels ...
      tile_overlap=64,  # ... that share so many with their neighbours
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
      coordinate_unit=8.0,  # 'spatial': input pixels to a unit
      fpn_channels=48,
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
      learning_rate=4e-3,  # for reference_batch_size images a step
      reference_batch_size=8,  # linear rule: lr * batch_size / reference
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
      batch_size=8,  # global, over all devices and processes
      num_steps=arg.steps,
      init_from=placeholder(str),  # folder of a checkpoint to start from
      precision="float32",  # or 'bfloat16' (convolutions only)
      checkpoint_every_steps=500,
      keep_latest=2,
      keep_best=1,
      eval_every_steps=0,  # 0: at the end only
      log_every_steps=50,
      picture_every_steps=1000,  # 0: never
      num_pictures=4,
      max_nonfinite_steps=20,  # in a row, then the run stops
    )
  )

  config.decode = ml_collections.ConfigDict(
    dict(
      grouping=arg.grouping,  # 'seed', 'histogram' or 'mean_shift'
      foreground_threshold=0.5,
      seed_threshold=0.8,
      radii=(1.0,),  # factors of the radius, each with its own groups
      min_pixels=3,
      min_unclaimed=0.9,  # share of a group that no other has taken
      competing=True,  # groups share pixels out: objects that never overlap
      score_terms=("category", "membership", "quality"),  # also 'seed'
      score_threshold=0.05,
      mask_threshold=0.5,
      nms_kernel="gaussian",  # or 'linear'
      nms_sigma=2.0,
      update_threshold=0.05,
      max_detections=250,
    )
  )

  config.evaluation = ml_collections.ConfigDict(
    dict(batch_size=4, max_detections=500)
  )
  return config
