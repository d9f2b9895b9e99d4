"""Training of regions, with its random samples, on other devices and processes.

A topology is (processes, devices of each).
"""

import numpy as np
import pytest

from solo_jax.training.logging import read_rows
from tests.training.topologies import train

RUN = (
  "--config.training.num_steps=3",
  "--config.training.batch_size=16",
  "--config.training.checkpoint_every_steps=1000",
  "--config.training.log_every_steps=1",
  "--config.training.picture_every_steps=0",
  "--config.dataset.eval_split=train[:2]",
  "--config.optimizer.name=sgd",
  "--config.optimizer.learning_rate=0.0025",
  "--config.optimizer.warmup_steps=2",
  "--config.transforms.image_size=(64,64)",
  "--config.transforms.augment=(('orient',{'flip':0.5}),"
  "('resize_short_side',{'short_sides':(64,),'max_side':64}))",
  "--config.preprocessing.short_side=64",
  "--config.preprocessing.max_side=64",
  "--config.backbone.stage_sizes=(1,1,1,1)",
  "--config.backbone.widths=(8,8,8,8)",
)
REGIONS = (
  "--config.network.fpn_channels=8",
  "--config.network.dense_channels=8",
  "--config.network.mask_convs=1",
  "--config.network.proposals_before_nms=(40,40)",
  "--config.network.proposals_after_nms=(24,12)",
  # Fewer than there are: anchors and regions are drawn at random.
  "--config.loss.region_samples=8",
  "--config.loss.anchor_samples=16",
  "--config.loss.anchor_divisor=sampled",
)
QUERIES = (
  "--config.network.channels=16",
  "--config.network.num_proposals=16",
  "--config.network.num_stages=2",
  "--config.network.num_heads=2",
  "--config.network.hidden=16",
  "--config.network.dynamic_channels=4",
  "--config.network.num_mask_convs=1",
  # As many as a scene has: what is trained must not depend on the devices.
  "--config.loss.masks_per_image=9",
)


def losses_of(data_dir, workdir, topology, flags, config):
  train(data_dir, workdir, topology, *RUN, *flags, config=config)
  rows = [
    row for row in read_rows(workdir / "metrics.jsonl") if "train/loss" in row
  ]
  assert [row["step"] for row in rows] == [1, 2, 3]
  return [row["train/loss"] for row in rows]


@pytest.mark.slow
def test_losses_are_those_of_one_device(data_dir, tmp_path):
  """Eight devices of one process are compared in toy_methods_test."""
  losses = [
    losses_of(data_dir, tmp_path / str(x), x, REGIONS, "mask_rcnn_shapes")
    for x in ((1, 1), (2, 4))
  ]
  np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.slow
def test_losses_of_queryinst_are_those_of_one_device(data_dir, tmp_path):
  """Its mask heads' batch norms gather statistics over all devices.

  Where cells of mask targets are covered by exactly one half, rounding decides,
  and the loss of a mask changes by more than rounding.
  """
  one, eight = (
    losses_of(data_dir, tmp_path / str(x), x, QUERIES, "queryinst_shapes")
    for x in ((1, 1), (1, 8))
  )
  np.testing.assert_allclose(eight[0], one[0], rtol=1e-6)
  np.testing.assert_allclose(eight, one, rtol=1e-4)
