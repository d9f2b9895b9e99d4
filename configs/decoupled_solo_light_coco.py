r"""Decoupled SOLO light on COCO instance segmentation, the published recipes.

Follows https://arxiv.org/abs/1912.04488, section 5, and the authors' light
settings: input of 852 x 512, one tower of four convolutions; 36 epochs of 16
images, short side 352 to 512. `recipe` is official (the authors') or mmdet
(no clipping). Published mask AP on val2017, not measured here:
official r50 33.0, r50_dcn 35.0; mmdet r50 32.9.

Differs from the published runs: a batch is padded to one size, in either
orientation, instead of to its largest image, and the counts that divide the
losses run over all devices.

Run (`weights` is torchvision's file; without it all values start at random):

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR \
    --data_dir=data
python -m solo_jax.train --config=configs/decoupled_solo_light_coco.py \
    --config.backbone.weights=resnet50-0676ba61.pth \
    --workdir=workdirs/decoupled_solo_light_r50
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

STEPS_PER_EPOCH = 117_266 // 16  # images of train2017 with instances


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,recipe=...`."""
  arg = parse_arg(
    arg, backbone=("r50", "r50_dcn"), recipe=("official", "mmdet")
  )
  deformable = "v1" if arg.backbone == "r50_dcn" else None
  sides = (512, 480, 448, 416, 384, 352)
  resize = dict(short_sides=sides, max_side=852)
  return make_config(
    method="decoupled_solo",
    dataset=dict(
      name="coco_instances/2017",
      num_classes=80,
      keep_empty=False,
      group_by_orientation=True,
      num_workers=8,
    ),
    transforms=dict(
      image_size=(512, 864),
      augment=(("orient", dict(flip=0.5)), ("resize_short_side", resize)),
    ),
    preprocessing=dict(short_side=512, max_side=852),
    backbone=dict(
      name="resnet", deformable=deformable, norm="frozen", frozen_stages=1
    ),
    network=dict(
      num_head_convs=4,
      shared_tower=True,
      deformable=deformable,
      deformable_convs="last" if deformable else "all",
    ),
    loss=dict(
      scale_ranges=((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))
    ),
    optimizer=dict(
      name="sgd",
      learning_rate=0.01,
      reference_batch_size=16,
      schedule="step",
      decay_steps=(27 * STEPS_PER_EPOCH, 33 * STEPS_PER_EPOCH),
      warmup_steps=500,
      warmup_factor=1 / 3,
      decay_norm_and_bias=True,
      clip_norm=None if arg.recipe == "mmdet" else 35.0,
    ),
    training=dict(
      batch_size=16,
      num_steps=36 * STEPS_PER_EPOCH,
      eval_every_steps=2 * STEPS_PER_EPOCH,
    ),
  )
