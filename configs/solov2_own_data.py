r"""SOLOv2 for your own photographs, a few dozen to a few thousand.

EfficientNet-Lite0 with ImageNet weights, mask features at stride 2, images of
random sizes of 320 to 480 px, mirrored at random. A starting point for the
dataset doctor, which adapts sizes, grids, capacities and schedule to the data.
Not trained to the end yet; docs/own_data.md has the result of 200 small steps
on 54 photographs.

python -m solo_jax.prepare --dataset=coco_instances --name=my_data \
    --train_annotations=train.json --train_images=images/ \
    --validation_annotations=val.json --validation_images=images/
python -m solo_jax.inspect_data --config=configs/solov2_own_data.py \
    --config.dataset.name=coco_instances/my_data --out=doctor
python -m solo_jax.train --config=doctor/suggested_config.py \
    --workdir=workdirs/my_data
"""

import ml_collections

from solo_jax.config import make_config, parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `steps=...,short_side=...` (px)."""
  arg = parse_arg(arg, steps=2000, short_side=384)
  unit = arg.short_side // 12
  sides = tuple(unit * n for n in range(10, 16))
  resize = dict(short_sides=sides, max_side=20 * unit)
  return make_config(
    method="solov2",
    dataset=dict(name="coco_instances/my_data", num_classes=1),
    transforms=dict(
      image_size=(-(-15 * unit // 32) * 32, -(-20 * unit // 32) * 32),
      augment=(("orient", dict(flip=0.5)), ("resize_short_side", resize)),
      mask_stride=2,
      mask_rule="coverage",
      max_instances=64,
    ),
    preprocessing=dict(
      mean=(127.0, 127.0, 127.0),  # as the weights were trained
      std=(128.0, 128.0, 128.0),
      short_side=arg.short_side,
      max_side=20 * unit,
    ),
    backbone=dict(
      name="efficientnet_lite0", norm="frozen", weights="efficientnet_lite0"
    ),
    network=dict(
      levels=(2, 3, 4, 5),
      strides=(4, 8, 16, 32),
      num_grids=(36, 24, 16, 12),
      fpn_channels=96,
      head_channels=96,
      mask_channels=96,
      kernel_channels=64,
      mask_stride=2,
      num_groups=16,
    ),
    loss=dict(
      scale_ranges=((1, 48), (24, 96), (48, 192), (96, 1024)), max_positives=512
    ),
    optimizer=dict(
      learning_rate=1e-3,
      reference_batch_size=8,
      warmup_steps=100,
      clip_norm=10.0,
    ),
    training=dict(
      batch_size=8,
      num_steps=arg.steps,
      checkpoint_every_steps=250,
      eval_every_steps=500,
      log_every_steps=10,
      picture_every_steps=500,
      num_pictures=8,
    ),
    decode=dict(
      score_threshold=0.05,
      max_candidates=512,
      nms_candidates=256,
      update_threshold=0.02,
    ),
  )
