r"""Cascade Mask R-CNN and HTC on drawn shapes: minutes on two CPU cores.

Small versions of https://arxiv.org/abs/1906.09756 and
https://arxiv.org/abs/1901.07518: mask_rcnn_shapes.py with three stages. With
`kind=htc`, each stage has a mask head, which gets the features of the previous
one. There is no semantic branch.

Measured on the 200 held-out scenes, 4 CPU-min of training on one core of an
AMD EPYC (2026-11-29): `kind=cascade` mask AP 0.518 (AP50 0.759, box AP 0.614),
2,470 steps; `kind=htc` 0.476 (0.683, box AP 0.519), 1,410 steps.

Run:

python -m solo_jax.prepare --dataset=shapes --data_dir=data
python -m solo_jax.train --config=configs/cascade_mask_rcnn_shapes.py:kind=htc \
    --workdir=workdirs/htc
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

STDS = ((0.1, 0.2), (0.05, 0.1), (0.033, 0.067))  # of centres, of sides


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` takes `kind=...,steps=...`."""
  arg = parse_arg(arg, kind=("cascade", "htc"), steps=6000)
  is_htc = arg.kind == "htc"
  return make_config(
    method="mask_rcnn",
    dataset=dict(name="shapes", num_classes=5),
    transforms=dict(
      image_size=(128, 128),
      augment=(
        ("orient", dict(flip=0.5, vertical_flip=0.5, transpose=0.5)),
        ("resize_short_side", dict(short_sides=(128,), max_side=128)),
      ),
      mask_frame="box",
      box_mask_size=56,
      max_instances=16,
    ),
    preprocessing=dict(short_side=128, max_side=128),
    backbone=dict(
      name="resnet",
      block="basic",
      stage_sizes=(1, 2, 2, 1),
      widths=(32, 64, 96, 96),
      stem="space_to_depth",
    ),
    network=dict(
      fpn_channels=48,
      anchor_sizes=(14, 24, 40, 64, 96),
      proposals_before_nms=(200, 200),
      proposals_after_nms=(100, 60),
      pool_base_size=40.0,
      pool_base_level=1,
      pool_samples=2,
      dense_channels=128,
      dense_init="xavier",
      pyramid_init="xavier",
      mask_convs=2,
      stage_weights=tuple((1 / x, 1 / x, 1 / w, 1 / w) for x, w in STDS),
      box_classes="all",
      mask_heads="each" if is_htc else "one",
      mask_flow=is_htc,
    ),
    loss=dict(
      anchor_samples=64,
      region_samples=32,
      mask_target_threshold=None,
      region_ious=(0.5, 0.6, 0.7),
      stage_loss_weights=(1, 0.5, 0.25),
    ),
    optimizer=dict(
      name="muon",
      learning_rate=2e-3,
      reference_batch_size=4,
      warmup_steps=200,
      weight_decay=0.05,
      clip_norm=10.0,
    ),
    training=dict(
      batch_size=4,
      num_steps=arg.steps,
      log_every_steps=100,
      picture_every_steps=3000,
    ),
    decode=dict(max_detections=30),
  )
