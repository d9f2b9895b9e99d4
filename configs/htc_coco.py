r"""Hybrid Task Cascade on COCO instance segmentation, mmdet's recipes.

Follows https://arxiv.org/abs/1901.07518. Published box / mask AP on val2017,
not measured here: r50 1x 42.3 / 37.4, 20e 43.3 / 38.3, r101 20e 44.8 / 39.6,
x101_32x4d 20e 46.1 / 40.5, x101_64x4d 20e 47.0 / 41.4. Masks are averaged over
the stages as published; mmdet 3.3 uses network.mask_scores=last instead.
`semantic=false` removes the semantic branch, which needs COCO-stuff's maps.

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR \
    --stuff_maps=stuffthingmaps_trainval2017.zip
python -m solo_jax.train --config=configs/htc_coco.py:schedule=20e \
    --config.backbone.weights=resnet50-0676ba61.pth --workdir=workdirs/htc
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

EPOCH = 117_266 // 16
EPOCHS = {"1x": (12, 8, 11), "20e": (20, 16, 19)}
GROUPS = {"x101_32x4d": (32, 4), "x101_64x4d": (64, 4)}
GROUPS["x101_64x4d_dcn"] = GROUPS["x101_64x4d"]
STDS = ((0.1, 0.2), (0.05, 0.1), (0.033, 0.067))  # of centres, of sides


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=,schedule=,semantic=`."""
  arg = parse_arg(
    arg,
    backbone=("r50", "r101", *GROUPS),
    schedule=tuple(EPOCHS),
    semantic=True,
  )
  length, *decays = (EPOCH * epoch for epoch in EPOCHS[arg.schedule])
  groups, width = GROUPS.get(arg.backbone, (1, 64))
  is_dcn = arg.backbone.endswith("dcn")
  sides, longest = (tuple(range(400, 1401)), 1600) if is_dcn else ((800,), 1333)
  resize = dict(short_sides=sides, max_side=longest)
  return make_config(
    method="mask_rcnn",
    dataset=dict(name="coco_instances/2017", num_classes=80)
    | dict(keep_empty=False, group_by_orientation=True, num_workers=8),
    transforms=dict(
      image_size=(1408, 1600) if is_dcn else (800, 1344),
      augment=(("orient", dict(flip=0.5)), ("resize_short_side", resize)),
      mask_frame="box",
    ),
    preprocessing=dict(short_side=800, max_side=1333),
    backbone=dict(name="resnet", norm="frozen", frozen_stages=1)
    | dict(stage_sizes=(3, 4, 6 if arg.backbone == "r50" else 23, 3))
    | dict(deformable="v1" if is_dcn else None)
    | dict(groups=groups, group_width=width),
    network=dict(pool_base_size=56, pool_base_level=0, pool_ratio_epsilon=1e-6)
    | dict(stage_weights=tuple((1 / x, 1 / x, 1 / w, 1 / w) for x, w in STDS))
    | dict(log_clamp="both", stage_scores="logits", box_classes="all")
    | dict(proposals_after_nms=(2000, 1000), mask_heads="each", mask_flow=True)
    | dict(dense_init="xavier", pyramid_init="xavier", mask_init="fan_out")
    | dict(semantic_classes=183 if arg.semantic else 0),
    loss=dict(anchors_trained="inside_image", anchor_low_quality="claim")
    | dict(anchor_beta=1 / 9, anchor_divisor="sampled", region_beta=1)
    | dict(stage_loss_weights=(1, 0.5, 0.25), next_regions="sampled")
    | dict(region_ious=(0.5, 0.6, 0.7), region_low_quality="claim")
    | dict(mask_regions="refined"),
    decode=dict(score_threshold=0.001, min_side=None),
    optimizer=dict(name="sgd", learning_rate=0.02, reference_batch_size=16)
    | dict(schedule="step", decay_steps=decays, decay_norm_and_bias=True)
    | dict(warmup_steps=500, warmup_factor=0.001),
    training=dict(batch_size=16, num_steps=length, eval_every_steps=2 * EPOCH),
  )
