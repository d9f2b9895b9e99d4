r"""Associative embedding on drawn shapes: the demo's data and budget.

Pixels get an embedding and are grouped by clustering; `loss` selects how the
embedding is trained: `spatial` (https://arxiv.org/abs/1906.11109),
`discriminative` (https://arxiv.org/abs/1708.02551) or `pull_push`
(https://arxiv.org/abs/1611.05424). `grouping` is seed, histogram or mean_shift,
and `tags` is the number of dimensions of free tags.

Measured: mask AP 0.574 (AP50 0.805) on the 200 held-out scenes after 4,620
steps, 4 CPU-min of training on one core of an AMD EPYC (2026-11-29). With
AdamW and 9,000 steps it was 0.495; 0.290 with `loss=discriminative,tags=2`,
0.175 with `loss=pull_push,tags=2` (2026-11-24).

Run:

python -m solo_jax.prepare --dataset=shapes --data_dir=data
python -m solo_jax.train \
    --config=configs/associative_embedding_shapes.py:loss=spatial \
    --workdir=workdirs/associative_embedding
python -m solo_jax.eval --checkpoint=workdirs/associative_embedding
"""

import ml_collections

from solo_jax.config import make_config, parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `loss=...,grouping=...,steps=...`."""
  arg = parse_arg(arg, loss="spatial", grouping="seed", steps=9000, tags=0)
  is_free = arg.loss != "spatial"  # tags of 8 dimensions, of 2 to be binned
  num_tags = 8 if is_free and arg.grouping != "histogram" else 2
  return make_config(
    method="associative_embedding",
    dataset=dict(name="shapes", num_classes=5),
    transforms=dict(
      image_size=(128, 128),
      augment=(
        ("orient", dict(flip=0.5, vertical_flip=0.5, transpose=0.5)),
        ("resize_short_side", dict(short_sides=(128,), max_side=128)),
      ),
      mask_stride=2,
      mask_rule="coverage",
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
      embedding="tag" if is_free else "spatial",
      tag_channels=arg.tags or num_tags,
      tag_radius=1.5 if arg.loss == "discriminative" else 1.0,
      coordinate_unit=16.0,
      fpn_channels=40,
      head_channels=48,
      mask_stride=2,
      num_groups=8,
    ),
    loss=dict(embedding_loss=arg.loss, foreground_weight=3 if is_free else 1),
    optimizer=dict(
      name="muon",
      learning_rate=6e-3,
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
    decode=dict(grouping=arg.grouping, min_pixels=4, max_detections=30),
  )
