r"""SOLOv2 light on COCO instance segmentation, the published recipes.

Follows https://arxiv.org/abs/2003.10152: smaller input, a narrower and shorter
head; 36 epochs of 16 images, short side 352 to 512, x0.1 after 27 and 33.
`recipe` is official (the authors') or mmdet (masks averaged over cells).
Published mask AP on val2017, not measured here: official r18 29.6, r34 32.0,
r50 33.7 (tested at 768 x 448), r50_dcn 36.4 (852 x 512); mmdet r18 29.7, r50
33.7. Padding and loss divisors differ as in solov2_coco.py.

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR
python -m solo_jax.train --config=configs/solov2_light_coco.py:backbone=r18 \
    --config.backbone.weights=resnet18-f37072fd.pth \
    --workdir=workdirs/solov2_light_r18
"""

import ml_collections

from solo_jax.config import make_config, parse_arg

STEPS_PER_EPOCH = 117_266 // 16  # images of train2017 with instances
STAGE_SIZES = {"r18": (2, 2, 2, 2), "r34": (3, 4, 6, 3), "r50": (3, 4, 6, 3)}
RANGES = ((1, 56), (28, 112), (56, 224), (112, 448), (224, 896))
DCN_RANGES = ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the configuration of `backbone=...,recipe=...`."""
  arg = parse_arg(
    arg,
    backbone=("r50", "r18", "r34", "r50_dcn"),
    recipe=("official", "mmdet"),
  )
  is_mmdet = arg.recipe == "mmdet"
  depth, _, dcn = arg.backbone.partition("_")
  deformable = "v1" if dcn else None
  # The deformable model is tested, and its grids are laid out, for 512 px.
  short_side, max_side = (512, 852) if dcn else (448, 768)
  sides = (512, 480, 448, 416, 384, 352)
  resize = dict(short_sides=sides, max_side=max_side)
  return make_config(
    method="solov2",
    dataset=dict(
      name="coco_instances/2017",
      num_classes=80,
      keep_empty=False,
      group_by_orientation=True,
      num_workers=8,
    ),
    transforms=dict(
      image_size=(512, 864) if dcn else (512, 768),
      augment=(("orient", dict(flip=0.5)), ("resize_short_side", resize)),
    ),
    preprocessing=dict(short_side=short_side, max_side=max_side),
    backbone=dict(
      name="resnet",
      block="bottleneck" if depth == "r50" else "basic",
      stage_sizes=STAGE_SIZES[depth],
      deformable=deformable,
      norm="frozen",
      frozen_stages=1,
    ),
    network=dict(
      num_head_convs=3 if dcn else 2,
      kernel_channels=128,
      deformable=deformable,
      deformable_convs="last" if dcn else "all",
    ),
    loss=dict(
      scale_ranges=DCN_RANGES if dcn else RANGES,
      mask_average="cells" if is_mmdet else "pairs",
    ),
    optimizer=dict(
      name="sgd",
      learning_rate=0.01,
      reference_batch_size=16,
      schedule="step",
      decay_steps=(27 * STEPS_PER_EPOCH, 33 * STEPS_PER_EPOCH),
      warmup_steps=500,
      warmup_factor=1 / 3 if is_mmdet else 0.01,
      decay_norm_and_bias=True,
      clip_norm=35.0,
    ),
    training=dict(
      batch_size=16,
      num_steps=36 * STEPS_PER_EPOCH,
      eval_every_steps=2 * STEPS_PER_EPOCH,
    ),
  )
