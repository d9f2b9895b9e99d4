r"""Associative embedding on COCO instance segmentation: a first recipe.

Data, input, backbones and schedules are those of solov2_coco.py, the embedding
that of associative_embedding_nuclei.py (https://arxiv.org/abs/1906.11109). No
pixel-embedding method has published a comparable mask AP on COCO val2017, and
this recipe is a starting point that has not been trained to the end. Expect a
lower AP than SOLOv2's, because classes are predicted pixel by pixel, and large
or divided objects are recognised only by position.

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR
python -m solo_jax.train \
    --config=configs/associative_embedding_coco.py:backbone=r50,schedule=3x \
    --config.backbone.weights=resnet50-0676ba61.pth --workdir=workdirs/coco
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

STEPS_PER_EPOCH = 117_266 // 16  # images of train2017 with instances
EPOCHS = {"1x": (12, (9, 11)), "3x": (36, (27, 33))}  # length, x0.1 after


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,schedule=...,loss=...`."""
  arg = parse_arg(
    arg,
    backbone=("r50", "r101", "lite0"),
    schedule=("1x", "3x"),
    loss="spatial",
    grouping="seed",
    tags=0,
  )
  is_free = arg.loss != "spatial"  # tags of 8 dimensions, of 2 to be binned
  num_tags = 8 if is_free and arg.grouping != "histogram" else 2
  num_epochs, decay_epochs = EPOCHS[arg.schedule]
  if arg.backbone == "lite0":
    backbone = dict(name="efficientnet_lite0", weights="efficientnet_lite0")
    colours = dict(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
  else:
    num_blocks = 6 if arg.backbone == "r50" else 23
    backbone = dict(name="resnet", stage_sizes=(3, 4, num_blocks, 3))
    colours = {}
  is_1x = arg.schedule == "1x"
  sides = (800,) if is_1x else (800, 768, 736, 704, 672, 640)
  resize = dict(short_sides=sides, max_side=1333)
  return make_config(
    method="associative_embedding",
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
    preprocessing=dict(short_side=800, max_side=1333, **colours),
    backbone=dict(norm="frozen", frozen_stages=1, **backbone),
    network=dict(
      embedding="tag" if is_free else "spatial",
      tag_channels=arg.tags or num_tags,
      tag_radius=1.5 if arg.loss == "discriminative" else 1.0,
      coordinate_unit=64.0,
      head_channels=128,
      num_head_convs=4,
    ),
    loss=dict(embedding_loss=arg.loss, foreground_weight=3 if is_free else 1),
    optimizer=dict(
      name="sgd",
      learning_rate=0.01,
      reference_batch_size=16,
      schedule="step",
      decay_steps=tuple(epoch * STEPS_PER_EPOCH for epoch in decay_epochs),
      warmup_steps=500,
      decay_norm_and_bias=True,
      clip_norm=35.0,
    ),
    training=dict(
      batch_size=16,
      num_steps=num_epochs * STEPS_PER_EPOCH,
      eval_every_steps=2 * STEPS_PER_EPOCH,
    ),
    decode=dict(grouping=arg.grouping),
  )
