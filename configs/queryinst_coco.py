r"""QueryInst on COCO instance segmentation, the published recipes.

Follows https://arxiv.org/abs/2105.01928. Published box / mask AP on val2017,
not measured here: mmdet r50 1x 42.0 / 37.5, 3x 44.8 / 39.8, 300 queries 47.5 /
41.7; r101 3x 46.4 / 41.0, 300 queries 49.0 / 42.9; the authors', 300 queries:
r50 46.9 / 41.4, r101 48.0 / 42.4, swin_l 50e 56.1 / 48.9. With 300 queries,
half of the images are cropped first, as in DETR. AP counts 100 detections per
image, so no more are returned.

python -m solo_jax.train --workdir=workdirs/queryinst \
    --config=configs/queryinst_coco.py:backbone=r50,schedule=3x \
    --config.backbone.weights=resnet50_torchvision
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

EPOCH = 117_266 // 16
SCHEDULES = {"1x": (12, (8, 11)), "3x": (36, (27, 33)), "50e": (50, (40,))}
RESNET = dict(name="resnet", norm="frozen", frozen_stages=1)
BACKBONES = {
  "r50": RESNET,
  "r101": RESNET | dict(stage_sizes=(3, 4, 23, 3)),
  "swin_l": dict(name="swin", depths=(2, 2, 18, 2), embed_dim=192)
  | dict(num_heads=(6, 12, 24, 48)),
}
# The authors trained the backbone at the rate of the rest.
OPTIMIZERS = {
  "mmdet": dict(learning_rate=1e-4, backbone_factor=0.1, clip_norm=0.1),
  "official": dict(learning_rate=2.5e-5, clip_norm=1.0),
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=,queries=,schedule=,recipe=`."""
  arg = parse_arg(
    arg,
    backbone=tuple(BACKBONES),
    queries=("100", "300"),
    schedule=tuple(SCHEDULES),
    recipe=tuple(OPTIMIZERS),
  )
  epochs, decays = SCHEDULES[arg.schedule]
  num_queries, side = int(arg.queries), 800
  sides = {
    "1x": (800,),
    "3x": tuple(range(480, 801, 32)),
    "50e": tuple(range(400, 1201)),
  }[arg.schedule]
  augment = [("orient", dict(flip=0.5))]
  if num_queries == 300:
    crop = dict(probability=0.5, short_sides=(400, 500, 600), sides=(384, 600))
    augment.append(("crop", crop))
  augment.append(("resize_short_side", dict(short_sides=sides, max_side=1333)))
  return make_config(
    method="queryinst",
    dataset=dict(
      name="coco_instances/2017",
      num_classes=80,
      keep_empty=False,
      group_by_orientation=True,
      num_workers=8,
    ),
    transforms=dict(
      image_size=(1216, 1344) if max(sides) > side else (side, 1344),
      augment=tuple(augment),
      mask_frame="box",
    ),
    preprocessing=dict(
      short_side=side, max_side=1333, interpolation="bilinear"
    ),
    backbone=BACKBONES[arg.backbone],
    network=dict(num_proposals=num_queries),
    loss=dict(masks_per_image=32),  # the average is 7, the capacity 100
    optimizer=dict(
      reference_batch_size=16,
      schedule="step",
      decay_steps=tuple(EPOCH * epoch for epoch in decays),
      decay_norm_and_bias=True,
      warmup_steps=1000,
      warmup_factor=0.001,
      weight_decay=1e-4,
      **OPTIMIZERS[arg.recipe],
    ),
    training=dict(
      batch_size=16, num_steps=EPOCH * epochs, eval_every_steps=2 * EPOCH
    ),
  )
