r"""YOLACT and YOLACT++ on COCO, the published recipes.

Follows https://arxiv.org/abs/1904.02689 and https://arxiv.org/abs/1912.06218
(backbone=r50_dcn, r101_dcn); recipe=mmdet is mmdetection's network, schedule
and losses. Published mask AP, not measured here: on test-dev r50 28.2,
darknet53 28.7, r101 29.8, r101 with side=700 31.2, r50_dcn 34.1, r101_dcn 34.6;
mmdet on val2017 r50 29.0, r101 30.4. Images are stretched to a square. A
difference from these runs: objects cut by a crop keep their visible part.

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR
python -m solo_jax.train --config=configs/yolact_coco.py:backbone=r50 \
    --config.backbone.weights=resnet50_torchvision --workdir=workdirs/yolact
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

RESNET, R101 = dict(name="resnet"), dict(stage_sizes=(3, 4, 23, 3))
BACKBONES = {
  "r50": RESNET,
  "r101": RESNET | R101,
  "darknet53": dict(name="darknet"),
  "r50_dcn": RESNET | dict(deformable="v2"),
  "r101_dcn": RESNET | R101 | dict(deformable="v2", deformable_every=3),
}
SCALES = (24, 48, 96, 192, 384)  # of priors at 550 px
MMDET = dict(
  network=dict(rectified_pyramid=False, p6_source="c5", square_priors=False)
  | dict(prior_ratios=(0.5, 1.0, 2.0)),
  loss=dict(assignment="best_prior", empty_image="all", least_count=1)
  | dict(semantic_labels="previous", semantic_on_empty=False),
  decode=dict(scored="detection", candidates_per_level=1000, clip_boxes=True),
)
DECAYS = (280_000, 600_000, 700_000, 750_000)  # steps
EPOCH = 117_266 // 8


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,recipe=...,side=...`."""
  arg = parse_arg(
    arg,
    backbone=tuple(BACKBONES),
    recipe=("official", "mmdet"),
    side=(550, 700),
  )
  is_plus, is_mmdet = "_dcn" in arg.backbone, arg.recipe == "mmdet"
  octave = (1, 2 ** (1 / 3), 2 ** (2 / 3)) if is_plus else (1,)
  sizes = tuple(int(side / 550 * arg.side) for side in SCALES)
  network = dict(
    prior_sizes=tuple(tuple(float(s * x) for x in octave) for s in sizes)
  )
  sections = MMDET if is_mmdet else dict(network={}, loss={}, decode={})
  if is_plus:
    network |= dict(mask_score_channels=(8, 16, 32, 64, 128))
    network["square_priors"] = False
    sections = sections | dict(loss=dict(mask_score_weight=25.0))
  sections = sections | dict(network=sections["network"] | network)
  decays = tuple(EPOCH * epoch for epoch in (20, 42, 49, 52))
  inputs = dict(mean=(123.68, 116.78, 103.94), std=(58.40, 57.12, 57.38))
  if arg.backbone == "darknet53":
    inputs = dict(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
  augment = ("distort", {}), ("window", dict(largest=4.0))
  return make_config(
    method="yolact",
    dataset=dict(name="coco_instances/2017", num_classes=80)
    | dict(keep_empty=False, num_workers=8),
    transforms=dict(image_size=(arg.side, arg.side))
    | dict(augment=(*augment, ("orient", dict(flip=0.5))))
    | dict(mask_stride=2, mask_rule="coverage", max_crowds=10),
    preprocessing=inputs
    | dict(short_side=arg.side, max_side=arg.side)
    | dict(keep_aspect=False, pad_multiple=1),
    backbone=BACKBONES[arg.backbone] | dict(norm="batch"),
    optimizer=dict(name="sgd", learning_rate=1e-3, reference_batch_size=8)
    | dict(decay_steps=decays if is_mmdet else DECAYS, schedule="step")
    | dict(weight_decay=5e-4, decay_norm_and_bias=True)
    | dict(warmup_steps=500, warmup_factor=0.1),
    training=dict(batch_size=8, num_steps=55 * EPOCH if is_mmdet else 800_000)
    | dict(eval_every_steps=10_000),
    **sections,
  )
