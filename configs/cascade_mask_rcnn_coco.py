r"""Cascade Mask R-CNN on COCO instance segmentation, the published recipes.

Follows https://arxiv.org/abs/1906.09756. Published box / mask AP on val2017,
not measured here: detectron2 r50 1x 42.1 / 36.4, 3x 44.3 / 38.5; mmdet r50 1x
41.2 / 35.9, 20e 41.9 / 36.5, 3x 44.3 / 38.5, r101 20e 43.4 / 37.8, 3x 45.5 /
39.6, x101_32x4d 3x 46.3 / 40.1, x101_64x4d 3x 46.6 / 40.3.

python -m solo_jax.train --workdir=workdirs/cascade \
    --config=configs/cascade_mask_rcnn_coco.py:recipe=mmdet,schedule=20e \
    --config.backbone.weights=resnet50-0676ba61.pth
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

EPOCHS = {"1x": (12, 8, 11), "20e": (20, 16, 19), "3x": (36, 27, 33)}
STEPS = {"1x": (90_000, 60_000, 80_000), "3x": (270_000, 210_000, 250_000)}
GROUPS = {"x101_32x4d": (32, 4), "x101_64x4d": (64, 4)}
STDS = ((0.1, 0.2), (0.05, 0.1), (0.033, 0.067))  # of centres, of sides
ONE = (10.0, 10.0, 5.0, 5.0)
RECIPES = dict(
  detectron2=dict(
    network=dict(
      stage_weights=tuple(tuple(k * x for x in ONE) for k in (1, 2, 3)),
      stage_gradient=1 / 3,
    ),
    loss=dict(stage_loss_weights=(1, 1, 1)),
    decode={},
  ),
  mmdet=dict(
    network=dict(pool_base_size=56, pool_base_level=0, pool_ratio_epsilon=1e-6)
    | dict(stage_weights=tuple((1 / x, 1 / x, 1 / w, 1 / w) for x, w in STDS))
    | dict(log_clamp="both", stage_scores="logits", mask_heads="each")
    | dict(dense_init="xavier", pyramid_init="xavier", mask_init="fan_out"),
    loss=dict(anchors_trained="inside_image", anchor_low_quality="claim")
    | dict(anchor_beta=1 / 9, anchor_divisor="sampled", region_beta=1)
    | dict(stage_loss_weights=(1, 0.5, 0.25), next_regions="sampled"),
    decode=dict(min_side=None),
  ),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `recipe=,backbone=,schedule=`."""
  arg = parse_arg(
    arg,
    recipe=tuple(RECIPES),
    backbone=("r50", "r50_caffe", "r101", *GROUPS),
    schedule=tuple(EPOCHS),
  )
  is_d2, depth = arg.recipe == "detectron2", arg.backbone[:3]
  is_caffe = arg.backbone == "r50_caffe" or is_d2 and arg.backbone not in GROUPS
  length, *decays = (117_266 // 16 * epoch for epoch in EPOCHS[arg.schedule])
  if is_d2 and arg.schedule in STEPS:
    length, *decays = STEPS[arg.schedule]
  inputs = dict(short_side=800, max_side=1333)
  inputs["interpolation"] = "antialias" if is_d2 else "bilinear"
  if is_caffe:
    inputs |= dict(mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0))
    inputs["channel_order"] = "bgr"
  sides = (800,)
  if is_d2 or arg.schedule == "3x":
    sides = tuple(range(640, 801, 32 if is_caffe else 1))
  resize = dict(short_sides=sides, max_side=1333)
  groups, width = GROUPS.get(arg.backbone, (1, 64))
  recipe = RECIPES[arg.recipe]
  network = recipe["network"] | dict(box_classes="all")
  network["proposals_after_nms"] = (2000, 1000)
  loss = recipe["loss"] | dict(region_ious=(0.5, 0.6, 0.7))
  return make_config(
    method="mask_rcnn",
    dataset=dict(name="coco_instances/2017", num_classes=80)
    | dict(keep_empty=False, group_by_orientation=True, num_workers=8),
    transforms=dict(image_size=(800, 1344), mask_frame="box")
    | dict(augment=(("orient", dict(flip=0.5)), ("resize_short_side", resize))),
    preprocessing=inputs,
    backbone=dict(name="resnet", stride_in_1x1=is_caffe, frozen_stages=1)
    | dict(norm="constant" if is_caffe else "frozen")
    | dict(stage_sizes=(3, 4, 6 if depth == "r50" else 23, 3))
    | dict(groups=groups, group_width=width),
    network=network,
    loss=loss,
    decode=recipe["decode"],
    optimizer=dict(name="sgd", learning_rate=0.02, reference_batch_size=16)
    | dict(schedule="step", decay_steps=decays, decay_norm_and_bias=True)
    | dict(warmup_steps=1000 if is_d2 else 500, warmup_factor=0.001),
    training=dict(batch_size=16, num_steps=length, eval_every_steps=10_000),
  )
