r"""Mask R-CNN on COCO instance segmentation, the published recipes.

Follows https://arxiv.org/abs/1703.06870. Published box / mask AP on val2017,
not measured here: detectron2 r50 3x 41.0 / 37.2, mmdet r50 1x 38.2 / 34.7,
torchvision (r50, 26ep) 37.9 / 34.6. `outputs=90` adds outputs for the ids that
COCO skips, as in torchvision's file.

python -m solo_jax.train --workdir=workdirs/mask_rcnn \
    --config=configs/mask_rcnn_coco.py:recipe=mmdet,schedule=1x \
    --config.backbone.weights=resnet50-0676ba61.pth
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

EPOCHS = {"1x": (12, 8, 11), "2x": (24, 16, 22), "3x": (36, 27, 33)}
EPOCHS["26ep"] = (26, 16, 22)
STEPS = {"1x": (90_000, 60_000, 80_000), "3x": (270_000, 210_000, 250_000)}
GROUPS = {"x101_32x4d": (32, 4), "x101_64x4d": (64, 4), "x101_32x8d": (32, 8)}
RECIPES = dict(  # what differs from the neutral values, those of detectron2
  detectron2=dict(network={}, loss={}, decode={}),
  mmdet=dict(
    network=dict(pool_base_size=56, pool_base_level=0, pool_ratio_epsilon=1e-6)
    | dict(log_clamp="both", stage_scores="logits", mask_init="fan_out")
    | dict(dense_init="xavier", pyramid_init="xavier"),
    loss=dict(anchors_trained="own_padding", anchor_low_quality="claim")
    | dict(anchor_divisor="sampled", region_low_quality="claim"),
    decode=dict(min_side=None),
  ),
  torchvision=dict(
    network=dict(anchor_corners="rounded", anchor_spacing="map_size")
    | dict(proposals_after_nms=(2000, 1000), proposal_min_side=1e-3)
    | dict(pool_ratio_epsilon=0, pool_log_epsilon=1e-6)
    | dict(pool_aligned=False, pool_samples=2)
    | dict(dense_init="pytorch", mask_init="fan_out"),
    loss=dict(anchor_beta=1 / 9, region_beta=1 / 9, anchor_divisor="sampled")
    | dict(mask_aligned=False, mask_target_threshold=None),
    decode=dict(min_side=0.01, paste="torchvision"),
  ),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `recipe=,backbone=,schedule=,outputs=`."""
  arg = parse_arg(
    arg,
    recipe=tuple(RECIPES),
    backbone=("r50", "r50_caffe", "r101", *GROUPS),
    schedule=tuple(EPOCHS),
    outputs=(80, 90),
  )
  is_d2, is_tv = arg.recipe == "detectron2", arg.recipe == "torchvision"
  is_caffe = arg.backbone == "r50_caffe" or is_d2 and arg.backbone not in GROUPS
  length, *decays = (117_266 // 16 * epoch for epoch in EPOCHS[arg.schedule])
  if is_d2 and arg.schedule in STEPS:
    length, *decays = STEPS[arg.schedule]
  inputs = dict(short_side=800, max_side=1333)
  if is_d2 or is_caffe or arg.backbone == "x101_32x8d":
    std = (1.0, 1.0, 1.0) if is_caffe else (57.375, 57.12, 58.395)
    inputs |= dict(mean=(103.53, 116.28, 123.675), std=std, channel_order="bgr")
  sides = tuple(range(640, 801, 32 if is_d2 or is_caffe else 1))
  sides = sides if is_d2 or arg.schedule == "3x" else (800,)
  inputs["interpolation"] = "antialias" if is_d2 else "bilinear"
  rounding = dict(size_rounding="down" if is_tv else "nearest")
  resize = dict(short_sides=sides, max_side=1333) | rounding
  groups, width = GROUPS.get(arg.backbone, (1, 64))
  return make_config(
    method="mask_rcnn",
    dataset=dict(name="coco_instances/2017", num_classes=arg.outputs)
    | dict(keep_empty=False, group_by_orientation=True, num_workers=8),
    transforms=dict(image_size=(800, 1344), mask_frame="box")
    | dict(augment=(("orient", dict(flip=0.5)), ("resize_short_side", resize))),
    preprocessing=inputs | rounding,
    backbone=dict(
      name="resnet",
      norm="frozen" if arg.recipe == "mmdet" and not is_caffe else "constant",
      norm_epsilon=0 if is_tv else 1e-5,
      frozen_stages=1,
      stage_sizes=(3, 4, 6 if "r50" in arg.backbone else 23, 3),
      stride_in_1x1=is_caffe,
    )
    | dict(groups=groups, group_width=width),
    optimizer=dict(name="sgd", learning_rate=0.02, reference_batch_size=16)
    | dict(schedule="step", decay_steps=decays, decay_norm_and_bias=True)
    | dict(warmup_steps=500 if arg.recipe == "mmdet" else 1000)
    | dict(warmup_factor=0.001),
    training=dict(batch_size=16, num_steps=length, eval_every_steps=10_000),
    **RECIPES[arg.recipe],
  )
