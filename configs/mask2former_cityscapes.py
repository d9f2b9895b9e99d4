r"""Mask2Former on Cityscapes, the published recipes.

Follows https://arxiv.org/abs/2112.01527 and the authors' configs. Published on
val, not measured here: PQ r50 62.1, r101 62.4, swin_t 63.9, swin_s 64.8, swin_b
66.1, swin_l 66.6; instance AP 37.4, 38.5, 39.7, 41.8, 42.0, 43.7; semantic mIoU
79.4, 80.1, 82.1, 82.6, 83.3, 83.3. Differences from these runs: any short side
from 0.5 to 2 x 1024 is drawn, not one of 16; colours change as in torchvision,
not as in SSD; loss divisors are counted over all devices; bfloat16 instead of
float16.

Prepare the records with --dataset=coco_panoptic, from the panoptic JSON and PNG
that cityscapesscripts' createPanopticImgs.py writes. `task=semantic` needs
records of --dataset=semantic_images, `task=instance` any with the 8 things.

python -m solo_jax.train --config=configs/mask2former_cityscapes.py \
    --config.backbone.weights=resnet50-0676ba61.pth --workdir=workdirs/city
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

DEEP = dict(name="swin", depths=(2, 2, 18, 2))
WIDE = DEEP | dict(window_size=12)
BACKBONES = {
  "r50": dict(name="resnet", norm="sync"),
  "r101": dict(name="resnet", norm="sync", stage_sizes=(3, 4, 23, 3)),
  "swin_t": dict(name="swin"),
  "swin_s": DEEP,
  "swin_b": WIDE | dict(embed_dim=128, num_heads=(4, 8, 16, 32)),
  "swin_l": WIDE | dict(embed_dim=192, num_heads=(6, 12, 24, 48)),
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,task=...`."""
  tasks = ("panoptic", "instance", "semantic")
  arg = parse_arg(arg, backbone=(*BACKBONES,), task=tasks)
  num_queries = 200 if arg.backbone == "swin_l" else 100
  return make_config(
    method="mask2former",
    dataset=dict(
      name=f"cityscapes_{arg.task}",
      num_classes=8 if arg.task == "instance" else 19,
      keep_empty=False,
      num_workers=8,
    ),
    transforms=dict(
      image_size=(512, 1024),
      augment=(
        ("scale_jitter", dict(factor=(0.5, 2.0), reference="original")),
        ("color_jitter", dict(strength=0.5)),
        ("orient", dict(flip=0.5)),
      ),
      mask_stride=1,
      mask_rule="majority",
      max_instances=num_queries,
    ),
    preprocessing=dict(
      short_side=1024, max_side=2048, interpolation="antialias"
    ),
    backbone=BACKBONES[arg.backbone],
    network=dict(num_queries=num_queries),
    optimizer=dict(
      learning_rate=1e-4,
      reference_batch_size=16,
      backbone_factor=0.1,
      schedule="poly",
      weight_decay=0.05,
      decay_bias=True,
      clip_norm=0.01,
    ),
    training=dict(
      batch_size=16,
      num_steps=90_000,
      precision="bfloat16",
      eval_every_steps=5000,
    ),
    decode=dict(
      things=dict(panoptic=tuple(range(11, 19)), instance=None, semantic=())[
        arg.task
      ]
    ),
  )
