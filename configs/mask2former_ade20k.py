r"""Mask2Former on ADE20K (150 classes), the published recipes.

Follows https://arxiv.org/abs/2112.01527 and the authors' configs. Published on
val, not measured here: semantic mIoU r50 47.2, r101 47.8, swin_t 47.7, swin_s
51.3, swin_b 53.9, swin_l 56.1; PQ r50 39.7, swin_l 48.1; AP 26.4 and 34.9.
Differences from these runs: any short side from 0.5 to 2 x the input is drawn,
not one of 16; colours change as in torchvision, not as in SSD; loss divisors
are counted over all devices; bfloat16 instead of float16.

python -m solo_jax.prepare --dataset=semantic_images --name=ade20k \
    --source=ADE_DIR  # with images/, labels/ and classes.json (0 is null)
python -m solo_jax.train --config=configs/mask2former_ade20k.py \
    --config.backbone.weights=resnet50-0676ba61.pth --workdir=workdirs/ade20k
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
# fmt: off
STUFF = {
  *range(7), 9, 11, 13, 16, 17, 21, 25, 26, 28, 29, 34, 40, 46, 48, 51, 52, 54,
  59, 60, 61, 63, 68, 77, 79, 84, 91, 94, 96, 99, 100, 101, 105, 106, 109, 113,
  114, 117, 122, 128, 131, 140, 141, 145,
}
# fmt: on


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,task=...`."""
  tasks = ("semantic", "panoptic", "instance")
  arg = parse_arg(arg, backbone=(*BACKBONES,), task=tasks)
  is_wide = arg.backbone in ("swin_b", "swin_l") or arg.task != "semantic"
  side = 640 if is_wide else 512
  is_panoptic = arg.task == "panoptic"
  num_queries = 200 if is_panoptic and arg.backbone == "swin_l" else 100
  things = dict(instance=None, panoptic=tuple({*range(150)} - STUFF))
  return make_config(
    method="mask2former",
    dataset=dict(
      name=f"ade20k_{arg.task}",
      num_classes=100 if arg.task == "instance" else 150,
      keep_empty=False,
      num_workers=8,
    ),
    transforms=dict(
      image_size=(side, side),
      augment=(
        ("scale_jitter", dict(factor=(0.5, 2.0), reference="short")),
        ("color_jitter", dict(strength=0.5)),
        ("orient", dict(flip=0.5)),
      ),
      mask_stride=1,
      mask_rule="majority",
      max_instances=num_queries,
    ),
    preprocessing=dict(
      short_side=side, max_side=4 * side, interpolation="antialias"
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
    training=dict(batch_size=16, num_steps=160_000, precision="bfloat16"),
    decode=dict(things=(things | dict(semantic=()))[arg.task]),
  )
