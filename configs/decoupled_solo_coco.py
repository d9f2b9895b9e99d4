r"""Decoupled SOLO on COCO instance segmentation, the published recipes.

Follows https://arxiv.org/abs/1912.04488, section 5: 12 epochs (1x) or 36 (3x,
short side 640 to 800) of 16 images; a mask is the product of a column's and a
row's channel. `recipe` is official (the authors') or mmdet (no clipping; 1x has
another warm-up and decays at 8 and 11 instead of 9 and 11). Published mask AP
on val2017, not measured here: official r50 1x 33.9, 3x 36.4, r101 3x 37.9;
mmdet r50 1x 33.9, 3x 36.7.

Differs from the published runs: a batch is padded to one size, in either
orientation, instead of to its largest image, and the counts that divide the
losses run over all devices.

Run (`weights` is torchvision's file; without it all values start at random):

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR \
    --data_dir=data
python -m solo_jax.train --config=configs/decoupled_solo_coco.py \
    --config.backbone.weights=resnet50-0676ba61.pth \
    --workdir=workdirs/decoupled_solo_r50_1x
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

STEPS_PER_EPOCH = 117_266 // 16  # images of train2017 with instances
STAGE_SIZES = {"r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3)}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,recipe=...,schedule=...`."""
  arg = parse_arg(
    arg,
    backbone=("r50", "r101"),
    recipe=("official", "mmdet"),
    schedule=("1x", "3x"),
  )
  is_1x, is_mmdet = arg.schedule == "1x", arg.recipe == "mmdet"
  num_epochs, decay_epochs = (12, (9, 11)) if is_1x else (36, (27, 33))
  if is_1x and is_mmdet:
    decay_epochs = (8, 11)  # mmdetection's default
  sides = (800,) if is_1x else (800, 768, 736, 704, 672, 640)
  resize = dict(short_sides=sides, max_side=1333)
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
      image_size=(800, 1344),
      augment=(("orient", dict(flip=0.5)), ("resize_short_side", resize)),
    ),
    preprocessing=dict(short_side=800, max_side=1333),
    backbone=dict(
      name="resnet",
      stage_sizes=STAGE_SIZES[arg.backbone],
      norm="frozen",
      frozen_stages=1,
    ),
    network=dict(num_head_convs=7),
    optimizer=dict(
      name="sgd",
      learning_rate=0.01,
      reference_batch_size=16,
      schedule="step",
      decay_steps=tuple(e * STEPS_PER_EPOCH for e in decay_epochs),
      warmup_steps=500,
      warmup_factor=0.001 if is_1x and is_mmdet else 1 / 3,
      decay_norm_and_bias=True,
      clip_norm=None if is_mmdet else 35.0,
    ),
    training=dict(
      batch_size=16,
      num_steps=num_epochs * STEPS_PER_EPOCH,
      eval_every_steps=2 * STEPS_PER_EPOCH,
    ),
  )
