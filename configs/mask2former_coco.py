r"""Mask2Former on COCO, the published recipes for instances and panoptic maps.

Follows https://arxiv.org/abs/2112.01527 and the authors' configs; recipe=mmdet
resizes as mmdetection does. Published on val2017, not measured here: mask AP
r50 43.7, r101 44.2, swin_t 45.0, swin_s 46.3, swin_b 48.1 (ImageNet-21k),
swin_l 50.1; PQ 51.9, 52.6, 53.2, 54.6, 56.4, 57.8. Differences from these runs:
margins have the mean colour; loss divisors are counted over all devices;
bfloat16.

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR
python -m solo_jax.train --config=configs/mask2former_coco.py:backbone=swin_t \
    --config.backbone.weights=swin_tiny_patch4_window7_224.pth \
    --workdir=workdirs/mask2former

`task=panoptic` needs records of --dataset=coco_panoptic.
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

DEEP = dict(name="swin", depths=(2, 2, 18, 2))
WIDE = DEEP | dict(window_size=12)
BACKBONES = {
  "r50": dict(name="resnet", norm="frozen"),
  "r101": dict(name="resnet", norm="frozen", stage_sizes=(3, 4, 23, 3)),
  "swin_t": dict(name="swin"),
  "swin_s": DEEP,
  "swin_b": WIDE | dict(embed_dim=128, num_heads=(4, 8, 16, 32)),
  "swin_l": WIDE | dict(embed_dim=192, num_heads=(6, 12, 24, 48)),
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,task=...,recipe=...`."""
  arg = parse_arg(
    arg,
    backbone=(*BACKBONES,),
    task=("instance", "panoptic"),
    recipe=("official", "mmdet"),
  )
  interpolation = "antialias" if arg.recipe == "official" else "bilinear"
  is_panoptic, is_large = arg.task == "panoptic", arg.backbone == "swin_l"
  epochs = 2 if is_large else 1  # of 50
  num_queries = 200 if is_large else 100
  jitter = dict(factor=(0.1, 2.0))
  return make_config(
    method="mask2former",
    dataset=dict(
      name="coco_panoptic/2017" if is_panoptic else "coco_instances/2017",
      num_classes=133 if is_panoptic else 80,
      keep_empty=False,
      num_workers=8,
    ),
    transforms=dict(
      image_size=(1024, 1024),
      augment=(("orient", dict(flip=0.5)), ("scale_jitter", jitter)),
      mask_stride=1,
      mask_rule="majority",
      max_instances=num_queries,
    ),
    preprocessing=dict(
      short_side=800, max_side=1333, interpolation=interpolation
    ),
    backbone=BACKBONES[arg.backbone],
    network=dict(num_queries=num_queries),
    optimizer=dict(
      learning_rate=1e-4,
      reference_batch_size=16,
      backbone_factor=0.1,
      schedule="step",
      decay_steps=(327_778 * epochs, 355_092 * epochs),
      weight_decay=0.05,
      decay_bias=True,
      clip_norm=0.01,
    ),
    training=dict(
      batch_size=16,
      num_steps=368_750 * epochs,
      precision="bfloat16",
      checkpoint_every_steps=5000,
      eval_every_steps=5000,
    ),
    decode=dict(things=tuple(range(80)) if is_panoptic else None),
  )
