r"""YOLACT on nuclei: microscopy images of hundreds of small touching cells.

Settings chosen from the data (2018 Data Science Bowl, 664 images; sqrt of the
area of a nucleus: 5 to 53 px, median 17): tiles of 256 px, enlarged to 384
because the finest priors have a stride of 8; up to 800 boxes compete because
one class may fill a tile.

Measured: mask AP 0.505 (AP50 0.805) on the 67 validation images after 1,670
steps, 12 CPU-min of training on one core of an AMD EPYC (2026-11-29).

Run:

python -m solo_jax.prepare --dataset=labeled_images --name=nuclei \
    --source=../shared/data/nuclei --data_dir=data
python -m solo_jax.train --config=configs/yolact_nuclei.py \
    --workdir=workdirs/yolact_nuclei
python -m solo_jax.eval --checkpoint=workdirs/yolact_nuclei
"""

import ml_collections

from solo_jax.config import make_config, parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` takes `steps=...`."""
  arg = parse_arg(arg, steps=3000)
  return make_config(
    method="yolact",
    dataset=dict(name="labeled_images/nuclei", num_classes=1),
    transforms=dict(
      image_size=(384, 384),
      augment=(
        ("orient", dict(flip=0.5, vertical_flip=0.5, transpose=0.5)),
        ("scale_jitter", dict(factor=(1.05, 2.1), reference="original")),
        ("color_jitter", dict(strength=0.2)),
      ),
      mask_rule="coverage",
      max_instances=160,
      min_mask_area=4.0,
    ),
    preprocessing=dict(
      short_side=384,
      max_side=384,
      pad_multiple=384,
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
      fpn_channels=48,
      num_protos=16,
      prior_sizes=((14, 24), (36, 54), (80, 110), (160, 220), (300, 360)),
      prior_ratios=(1.0, 1.4, 0.7),
      square_priors=False,
    ),
    loss=dict(max_masks=200),
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
    decode=dict(top_k=800, max_detections=200),
    evaluation=dict(max_detections=500),
  )
