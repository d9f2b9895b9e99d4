r"""PointRend on COCO instance segmentation, the published recipes.

Follows https://arxiv.org/abs/1912.08193. Published mask AP on val2017, not
measured here: detectron2 r50 1x 36.2, 3x 38.3, r101 3x 40.1, x101_32x8d 3x
41.1; mmdet (r50_caffe) 1x 36.3, 3x 38.0.

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR
python -m solo_jax.train --config=configs/point_rend_coco.py:schedule=3x \
    --config.training.init_from=CONVERTED_R50 --workdir=workdirs/point_rend

Convert the weights of MSRA's ResNet with solo_jax.convert first.
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

EPOCH = 117_266 // 16
EPOCHS = {"1x": (12, 8, 11), "3x": (36, 28, 34)}
STEPS = {"1x": (90_000, 60_000, 80_000), "3x": (270_000, 210_000, 250_000)}
RECIPES = dict(
  detectron2=dict(network={}, loss=dict(mask_regions="predicted"), decode={}),
  mmdet=dict(
    network=dict(pool_base_size=56, pool_base_level=0, pool_ratio_epsilon=1e-6)
    | dict(log_clamp="both", stage_scores="logits")
    | dict(dense_init="xavier", pyramid_init="xavier"),
    loss=dict(anchors_trained="own_padding", anchor_low_quality="claim")
    | dict(anchor_divisor="sampled", region_low_quality="claim"),
    decode=dict(min_side=None),
  ),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `recipe=,backbone=,schedule=`."""
  arg = parse_arg(
    arg,
    recipe=tuple(RECIPES),
    backbone=("r50_caffe", "r101_caffe", "x101_32x8d"),
    schedule=tuple(EPOCHS),
  )
  is_d2, is_x101 = arg.recipe == "detectron2", arg.backbone == "x101_32x8d"
  length, *decays = (EPOCH * epoch for epoch in EPOCHS[arg.schedule])
  if is_d2:
    length, *decays = STEPS[arg.schedule]
  resize = dict(short_sides=tuple(range(640, 801, 32)), max_side=1333)
  return make_config(
    method="point_rend",
    dataset=dict(name="coco_instances/2017", num_classes=80)
    | dict(keep_empty=False, group_by_orientation=True, num_workers=8),
    transforms=dict(
      image_size=(800, 1344),
      augment=(("orient", dict(flip=0.5)), ("resize_short_side", resize)),
      mask_frame="box",
    ),
    preprocessing=dict(
      mean=(103.53, 116.28, 123.675),
      std=(57.375, 57.12, 58.395) if is_x101 else (1.0, 1.0, 1.0),
      channel_order="bgr",
      short_side=800,
      max_side=1333,
      interpolation="antialias" if is_d2 else "bilinear",
    ),
    backbone=dict(
      name="resnet",
      norm="constant",
      frozen_stages=1,
      stage_sizes=(3, 4, 6 if arg.backbone == "r50_caffe" else 23, 3),
      stride_in_1x1=not is_x101,
      groups=32 if is_x101 else 1,
      group_width=8 if is_x101 else 64,
    ),
    optimizer=dict(
      name="sgd",
      learning_rate=0.02,
      reference_batch_size=16,
      schedule="step",
      decay_steps=decays,
      warmup_steps=1000 if is_d2 else 500,
      warmup_factor=0.001,
      decay_norm_and_bias=True,
    ),
    training=dict(batch_size=16, num_steps=length, eval_every_steps=10_000),
    **RECIPES[arg.recipe],
  )
