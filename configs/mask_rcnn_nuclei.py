r"""Mask R-CNN on nuclei: microscopy images of hundreds of small touching cells.

Settings chosen from the data (2018 Data Science Bowl, 664 images; sqrt of the
area of a nucleus: 5 to 53 px, median 17): tiles of 256 px at the original
resolution as in solov2_nuclei.py, anchors of 8 px and more on the stride-4
level, 128 regions per tile, masks of 28 x 28 in their boxes.

Measured: mask AP 0.600 (AP50 0.877) on the 67 validation images after 3,000
steps, 35.8 CPU-min with evaluation on one core of an AMD EPYC; 0.549 (0.841)
after 1,080, 12 CPU-min of training (2026-11-29).

Run:

python -m solo_jax.prepare --dataset=labeled_images --name=nuclei \
    --source=../shared/data/nuclei --data_dir=data
python -m solo_jax.train --config=configs/mask_rcnn_nuclei.py \
    --workdir=workdirs/mask_rcnn_nuclei
python -m solo_jax.eval --checkpoint=workdirs/mask_rcnn_nuclei
"""

import ml_collections

from solo_jax.config import make_config, parse_arg


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` takes `steps=...`."""
  arg = parse_arg(arg, steps=3000)
  return make_config(
    method="mask_rcnn",
    dataset=dict(name="labeled_images/nuclei", num_classes=1),
    transforms=dict(
      image_size=(256, 256),
      augment=(
        ("orient", dict(flip=0.5, vertical_flip=0.5, transpose=0.5)),
        ("scale_jitter", dict(factor=(0.7, 1.4), reference="original")),
        ("color_jitter", dict(strength=0.2)),
      ),
      mask_frame="box",
      box_mask_size=56,
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
      fpn_channels=48,
      anchor_sizes=(12, 24, 40, 64, 96),
      proposals_before_nms=(500, 500),
      proposals_after_nms=(300, 300),
      pool_base_size=48.0,
      pool_base_level=1,
      pool_samples=2,
      dense_channels=128,
      dense_init="xavier",
      pyramid_init="xavier",
      mask_convs=2,
    ),
    loss=dict(region_samples=128, mask_target_threshold=None),
    optimizer=dict(
      name="muon",
      learning_rate=2e-3,
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
    decode=dict(max_detections=250),
    evaluation=dict(batch_size=4, max_detections=500),
  )
