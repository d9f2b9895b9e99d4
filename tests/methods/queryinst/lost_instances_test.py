"""Tests of solo_jax/methods/queryinst/lost_instances.py."""

import dataclasses

import numpy as np

from solo_jax.methods.queryinst.lost_instances import lost_instances
from tests.methods.yolact.method_test import make_batch


def test_each_way_to_get_lost():
  batch = make_batch()
  number = int(batch.valid.sum())
  boxes = np.array(batch.boxes_xyxy)
  boxes[0, 0, 2] = boxes[0, 0, 0]
  batch = dataclasses.replace(batch, boxes_xyxy=boxes)
  found = lost_instances(batch, num_proposals=number - 1)
  no_proposal, no_area = (np.flatnonzero(x).tolist() for x in found.is_lost)
  assert (no_proposal, no_area) == ([number - 1], [0])
  assert [int(np.sum(x)) for x in found.taken] == [number, number]
