r"""Mask2Former on drawn shapes: the demo's data and budget.

A small version of https://arxiv.org/abs/2112.01527: queries attend to the
pixels of their masks, losses are computed at points, and there is no grid and
no suppression.

Measured: mask AP 0.146 (AP50 0.243) on the 200 held-out scenes after 3,060
steps, 4 CPU-min of training on one core of an AMD EPYC (2026-11-29). With
AdamW: 0.163 after 8,000 steps; 0.042 after 7,000 with the published weights of
the losses, with which the class loss stays at chance level.

Run:

python -m solo_jax.prepare --dataset=shapes --data_dir=data
python -m solo_jax.train --config=configs/mask2former_shapes.py \
    --workdir=workdirs/mask2former
python -m solo_jax.eval --checkpoint=workdirs/mask2former
"""

import ml_collections

from solo_jax.config import make_config, parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` takes `steps=...`."""
  arg = parse_arg(arg, steps=8000)
  return make_config(
    method="mask2former",
    dataset=dict(name="shapes", num_classes=5),
    transforms=dict(
      image_size=(128, 128),
      augment=(
        ("orient", dict(flip=0.5, vertical_flip=0.5, transpose=0.5)),
        ("resize_short_side", dict(short_sides=(128,), max_side=128)),
      ),
      mask_stride=1,
      mask_rule="majority",
      max_instances=12,
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
      num_queries=12,
      channels=64,
      mask_channels=64,
      num_heads=4,
      num_encoder_layers=1,
      encoder_hidden=128,
      num_decoder_layers=3,
      decoder_hidden=128,
    ),
    # The class weighs ten times the published 2 in the loss, not in matching.
    loss=dict(num_points=400, category_weight=20.0),
    optimizer=dict(
      name="muon",
      learning_rate=2e-3,
      backbone_factor=3.0,
      reference_batch_size=4,
      warmup_steps=200,
      weight_decay=0.05,
      clip_norm=1.0,
    ),
    training=dict(
      batch_size=4,
      num_steps=arg.steps,
      log_every_steps=100,
      picture_every_steps=3000,
    ),
    decode=dict(max_detections=30),
  )
