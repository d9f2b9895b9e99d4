r"""Associative embedding on nuclei: hundreds of small touching cells.

Data and input are those of solov2_nuclei.py. With `loss=spatial`
(https://arxiv.org/abs/1906.11109), pixels vote for the centre of their nucleus;
the other losses learn free tags.
Measured: mask AP 0.484 (AP50 0.781) and Kaggle's metric 0.507 on the 67
validation images after 1,740 steps, 12 CPU-min of training on one core of an
AMD EPYC (2026-11-29). With AdamW: Kaggle 0.493, 84 CPU-min on an Intel Xeon
(2026-11-26; docs/associative_embedding.md).

python -m solo_jax.prepare --dataset=labeled_images --name=nuclei \
    --source=../shared/data/nuclei
python -m solo_jax.train --config=configs/associative_embedding_nuclei.py \
    --workdir=workdirs/nuclei
"""

import ml_collections

from solo_jax.config import make_config, parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `loss=...,grouping=...,steps=...`."""
  arg = parse_arg(arg, loss="spatial", grouping="seed", steps=5500, tags=0)
  is_free = arg.loss != "spatial"  # tags of 8 dimensions, of 2 to be binned
  num_tags = 8 if is_free and arg.grouping != "histogram" else 2
  return make_config(
    method="associative_embedding",
    dataset=dict(name="labeled_images/nuclei", num_classes=1),
    transforms=dict(
      image_size=(256, 256),
      augment=(
        ("orient", dict(flip=0.5, vertical_flip=0.5, transpose=0.5)),
        ("scale_jitter", dict(factor=(0.7, 1.4), reference="original")),
        ("color_jitter", dict(strength=0.2)),
      ),
      mask_stride=2,
      mask_rule="coverage",
      max_instances=160,
      min_mask_area=4.0,
    ),
    preprocessing=dict(
      short_side=256,
      max_side=256,
      pad_multiple=256,
      tile_size=256,
      tile_overlap=64,
    ),
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
      coordinate_unit=8.0,
      fpn_channels=48,
      head_channels=48,
      mask_stride=2,
      num_groups=8,
    ),
    loss=dict(embedding_loss=arg.loss, foreground_weight=3 if is_free else 1),
    optimizer=dict(
      name="muon",
      learning_rate=8e-3,
      reference_batch_size=8,
      warmup_steps=200,
      weight_decay=0.05,
      clip_norm=10.0,
    ),
    training=dict(
      batch_size=8,
      num_steps=arg.steps,
      checkpoint_every_steps=500,
      picture_every_steps=1000,
    ),
    decode=dict(
      grouping=arg.grouping,
      seed_threshold=0.8,
      min_pixels=3,
      min_unclaimed=0.9,
      competing=True,
      max_detections=250,
    ),
    evaluation=dict(batch_size=4, max_detections=500),
  )
