r"""Mask R-CNN with large-scale jitter and long schedules on COCO, as published.

Follows https://arxiv.org/abs/2012.07177 and https://arxiv.org/abs/2111.11429:
batch norm everywhere, a box head of convolutions. Published box / mask AP on
val2017, not measured here: torchvision_v2 (400ep) 47.4 / 41.8; detectron2 100ep
44.6 / 40.3, 200ep 46.3 / 41.7, 400ep 47.4 / 42.5; detectron2_gn, which is
trained like mask_rcnn_coco (3x) with group norm, 42.6 / 38.6. `outputs=90` adds
outputs for the ids that COCO skips, as in torchvision's file.

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR
python -m solo_jax.train --workdir=workdirs/mask_rcnn_lsj \
    --config=configs/mask_rcnn_lsj_coco.py:recipe=torchvision_v2
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

EPOCH = 117_266 // 64
EPOCHS = {"400ep": 400, "200ep": 200, "100ep": 100}
TORCHVISION = dict(
  network=dict(anchor_corners="rounded", anchor_spacing="map_size")
  | dict(proposals_after_nms=(2000, 1000), proposal_min_side=1e-3)
  | dict(pool_ratio_epsilon=0, pool_log_epsilon=1e-6)
  | dict(pool_aligned=False, pool_samples=2)
  | dict(dense_init="pytorch", mask_init="fan_out"),
  loss=dict(anchor_beta=1 / 9, region_beta=1 / 9, anchor_divisor="sampled")
  | dict(mask_aligned=False, mask_target_threshold=None),
  decode=dict(min_side=0.01, paste="torchvision"),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `recipe=,schedule=,outputs=`."""
  arg = parse_arg(
    arg,
    recipe=("torchvision_v2", "detectron2", "detectron2_gn"),
    schedule=(*EPOCHS, "3x"),
    outputs=(80, 90),
  )
  is_tv, is_gn = arg.recipe == "torchvision_v2", arg.recipe == "detectron2_gn"
  recipe = TORCHVISION if is_tv else dict(network={}, loss={}, decode={})
  norm = "group" if is_gn else "sync"
  network = dict(norm=norm, box_convs=4, box_dense=1)
  network["proposal_convs"] = 1 if is_gn else 2
  recipe = recipe | dict(network=recipe["network"] | network)
  rounding = dict(size_rounding="down" if is_tv else "nearest")
  jitter = ("scale_jitter", dict(factor=(0.1, 2.0)) | rounding)
  size, batch, decay = (1024, 1024), 64, 4e-5
  if arg.schedule == "3x":
    sides = tuple(range(640, 801, 32))
    jitter = ("resize_short_side", dict(short_sides=sides, max_side=1333))
    size, batch, decay = (800, 1344), 16, 1e-4
    length, decays = 270_000, (210_000, 250_000)
  else:
    length = EPOCH * EPOCHS[arg.schedule]
    decays = tuple(int(length * share) for share in (0.88, 0.96))
  inputs = dict(short_side=800, max_side=1333, size_rounding="down")
  if not is_tv:
    inputs = dict(short_side=800, max_side=1333, interpolation="antialias")
    inputs |= dict(mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0))
    inputs["channel_order"] = "bgr"
  return make_config(
    method="mask_rcnn",
    dataset=dict(name="coco_instances/2017", num_classes=arg.outputs)
    | dict(keep_empty=False, group_by_orientation=True, num_workers=8),
    transforms=dict(image_size=size, mask_frame="box")
    | dict(augment=(("orient", dict(flip=0.5)), jitter)),
    preprocessing=inputs,
    backbone=dict(name="resnet", stride_in_1x1=arg.recipe == "detectron2")
    | dict(norm=norm, frozen_stages=1 if is_gn else 0),
    optimizer=dict(
      name="sgd",
      learning_rate=0.02 if arg.schedule == "3x" else 0.1,
      reference_batch_size=batch,
      schedule="step",
      decay_steps=decays,
      warmup_steps=1000,
      warmup_factor=0.001,
      weight_decay=decay,
      decay_norm_and_bias=True,
    ),
    training=dict(batch_size=batch, num_steps=length, eval_every_steps=20_000),
    **recipe,
  )
