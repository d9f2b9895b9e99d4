"""Two methods that no code of the package knows, each a file and a row here.

They stand for the families that a new method may belong to: queries that are
matched to the ground truth, and boxes that are proposed and then refined.
"""

from solo_jax import config as configuration
from solo_jax.config_checks import FACTOR, POSITIVE, REQUIRED, Field, section
from solo_jax.methods import table
from tests.toy_methods import queries, two_stage

ROWS = {
  "toy_queries": table.Row(queries.make, queries.problems),
  "toy_two_stage": table.Row(two_stage.make, two_stage.problems),
}
OWN = {
  "toy_queries": dict(
    network=dict(num_queries=12, channels=16),
    loss=dict(num_points=48, no_object_weight=0.2),
    decode=dict(score_threshold=0.02),
  ),
  "toy_two_stage": dict(
    network=dict(num_proposals=8, channels=16),
    loss=dict(num_samples=8, min_iou=0.5),
    decode=dict(score_threshold=0.02),
  ),
}
# A method of the package, for what is tested of its runs.
REGIONS = dict(
  network=dict(
    fpn_channels=16,
    anchor_sizes=(10, 16, 28, 48, 80),
    proposals_before_nms=(40, 40),
    proposals_after_nms=(24, 12),
    pool_base_size=24,
    pool_base_level=0,
    pool_samples=2,
    dense_channels=16,
    mask_convs=1,
    # Draws matter little from the smaller values of the default.
    pyramid_init="xavier",
    dense_init="xavier",
    mask_init="fan_out",
  ),
  loss=dict(anchor_samples=16, region_samples=8, anchor_divisor="sampled"),
  # Scores of 30 steps, mostly of background.
  decode=dict(score_threshold=1e-6),
)
# Rows of the table of config fields.
FIELDS = tuple(
  row
  for method, sections in OWN.items()
  for name, values in sections.items()
  for row in section(
    name,
    (method,),
    *(
      Field(field, REQUIRED, POSITIVE if isinstance(value, int) else FACTOR)
      for field, value in values.items()
    ),
  )
)
SIDE = 64


def register(setitem, setattr_):
  """Adds the rows to the tables, by functions like those of a MonkeyPatch."""
  for name, row in ROWS.items():
    setitem(table.METHODS, name, row)
  setattr_(configuration, "FIELDS", (*configuration.FIELDS, *FIELDS))


def make_config(method, data_dir, **training):
  """The complete config of a run of 30 steps, small enough for a test.

  The loss is a mean over images and nothing is normalised over a batch, so
  that the number of devices and micro-batches decides rounding alone.
  """
  own = (OWN | {"mask_rcnn": REGIONS})[method]
  return configuration.make_config(
    method=method,
    dataset=dict(name="shapes", num_classes=5, data_dir=str(data_dir)),
    transforms=dict(
      image_size=(SIDE, SIDE),
      augment=(
        ("resize_short_side", dict(short_sides=(SIDE,), max_side=SIDE)),
      ),
      mask_stride=4,
      mask_rule="coverage",
      max_instances=16,
    ),
    preprocessing=dict(short_side=SIDE, max_side=SIDE),
    backbone=dict(
      name="resnet",
      block="basic",
      stage_sizes=(1, 1, 1, 1),
      widths=(8, 8, 16, 16),
      stem="space_to_depth",
      norm="frozen",
    ),
    optimizer=dict(
      name="sgd",
      learning_rate=0.02,
      reference_batch_size=16,
      schedule="step",
      warmup_steps=3,
      clip_norm=10.0,
    ),
    training=dict(
      batch_size=16,
      num_steps=30,
      checkpoint_every_steps=15,
      log_every_steps=1,
      picture_every_steps=30,
      num_pictures=1,
    )
    | training,
    evaluation=dict(batch_size=2),
    **own
    | dict(decode=own["decode"] | dict(mask_threshold=0.2, max_detections=6)),
  )
