r"""YOLACT on drawn shapes: minutes on two CPU cores.

A small version of https://arxiv.org/abs/1904.02689: the backbone of
solov2_shapes.py, two sizes of prior boxes on each level, 16 prototypes at
stride 4. Scenes are enlarged from 128 to 192 px, because the finest priors have
a stride of 8 and masks a stride of 4.

Measured: mask AP 0.443 (AP50 0.699, box AP 0.536) on the 200 held-out scenes
after 2,160 steps, 4 CPU-min of training on one core of an AMD EPYC
(2026-11-29). At 128 px, a fifth of the objects overlap no prior by half, and an
object has 2.2 positive priors; at 192 px it is 1 in 200, and 12.

Run:

python -m solo_jax.prepare --dataset=shapes --data_dir=data
python -m solo_jax.train --config=configs/yolact_shapes.py \
    --workdir=workdirs/yolact
python -m solo_jax.eval --checkpoint=workdirs/yolact
"""

import ml_collections

from solo_jax.config import make_config, parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` takes `steps=...`."""
  arg = parse_arg(arg, steps=4000)
  return make_config(
    method="yolact",
    dataset=dict(name="shapes", num_classes=5),
    transforms=dict(
      image_size=(192, 192),
      augment=(
        ("orient", dict(flip=0.5, vertical_flip=0.5, transpose=0.5)),
        ("stretch", {}),
      ),
      mask_rule="coverage",
      max_instances=16,
    ),
    preprocessing=dict(short_side=192, max_side=192),
    backbone=dict(
      name="resnet",
      block="basic",
      stage_sizes=(1, 2, 2, 1),
      widths=(32, 64, 96, 96),
      stem="space_to_depth",
    ),
    network=dict(
      fpn_channels=48,
      num_protos=16,
      prior_sizes=((20, 32), (44, 60), (76, 100), (124, 148), (164, 188)),
      prior_ratios=(1.0, 1.4, 0.7),
      square_priors=False,
    ),
    loss=dict(category_weight=2.0),
    optimizer=dict(
      name="muon",
      learning_rate=4e-3,
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
