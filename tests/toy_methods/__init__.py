"""Two methods that no code of the package knows, each a file and a row here.

They stand for the families that a new method may belong to: queries that are
matched to the ground truth, and boxes that are proposed and then refined.
"""

import pathlib
import runpy

import ml_collections

from solo_jax.methods import table
from tests.toy_methods import queries, two_stage

ROWS = {
  "toy_queries": table.Row(queries.make, queries.problems),
  "toy_two_stage": table.Row(two_stage.make, two_stage.problems),
}
# Sections of the config that are a method's own.
SECTIONS = {
  "toy_queries": dict(
    network=dict(num_queries=12, channels=16),
    loss=dict(num_points=48, no_object_weight=0.2),
  ),
  "toy_two_stage": dict(
    network=dict(num_proposals=8, channels=16),
    loss=dict(num_samples=8, min_iou=0.5),
  ),
}
DECODE = dict(score_threshold=0.02, mask_threshold=0.5, max_detections=6)
SIDE = 64


def make_config(method, data_dir, **training):
  """The complete config of a run of 30 steps, small enough for a test.

  The loss is a mean over images and nothing is normalised over a batch, so
  that the number of devices and micro-batches decides rounding alone.
  """
  root = pathlib.Path(__file__).parents[2]
  path = str(root / "configs" / "solov2_shapes.py")
  config = runpy.run_path(path)["get_config"]().to_dict()
  config["method"] = method
  config["dataset"]["data_dir"] = str(data_dir)
  config["transforms"] |= dict(
    image_size=(SIDE, SIDE), short_sides=(SIDE,), max_side=SIDE, mask_stride=4
  )
  config["preprocessing"] |= dict(short_side=SIDE, max_side=SIDE)
  config["backbone"] |= dict(
    stage_sizes=(1, 1, 1, 1), widths=(8, 8, 16, 16), norm="frozen"
  )
  config["optimizer"] |= dict(
    name="sgd",
    learning_rate=0.02,
    reference_batch_size=16,
    schedule="step",
    warmup_steps=3,
  )
  config["training"] |= dict(
    batch_size=16,
    num_steps=30,
    checkpoint_every_steps=15,
    log_every_steps=1,
    picture_every_steps=30,
    num_pictures=1,
  )
  config["training"] |= training
  config["evaluation"]["batch_size"] = 2
  config |= SECTIONS[method] | dict(decode=dict(DECODE))
  return ml_collections.ConfigDict(config).lock()
