r"""SOLOv2 on nuclei: microscopy images of hundreds of small touching cells.

Settings chosen from the data (2018 Data Science Bowl, 664 images; sqrt of the
area of a nucleus: 5 to 53 px, median 17): tiles of 256 px at the original
resolution, a 64 x 64 grid (4 px per cell) on the stride-4 pyramid level, and
mask features at stride 2 with coverage targets, where perfect masks decode to a
mean recall of 0.979 over IoU 0.50:0.95 (stride 4: 0.852).

Measured: mask AP 0.556 (AP50 0.854) on the 67 validation images after 1,190
steps, 12 CPU-min of training on one core of an AMD EPYC (2026-11-29). With
AdamW: 0.525 (0.829) after 3,900 steps, 72 CPU-min (2026-11-23).

Run:

python -m solo_jax.prepare --dataset=labeled_images --name=nuclei \
    --source=../shared/data/nuclei --data_dir=data
python -m solo_jax.train --config=configs/solov2_nuclei.py \
    --workdir=workdirs/nuclei
python -m solo_jax.eval --checkpoint=workdirs/nuclei
"""

import ml_collections

from solo_jax.config import make_config, parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` takes `steps=...`."""
  arg = parse_arg(arg, steps=3900)
  return make_config(
    method="solov2",
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
      levels=(2, 3),
      strides=(4, 8),
      num_grids=(64, 32),
      fpn_channels=48,
      head_channels=32,
      mask_channels=48,
      kernel_channels=24,
      mask_stride=2,
      num_groups=8,
    ),
    loss=dict(scale_ranges=((1, 24), (18, 256)), max_positives=512),
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
    decode=dict(max_candidates=512, nms_candidates=512, max_detections=250),
    evaluation=dict(batch_size=4, max_detections=500),
  )
