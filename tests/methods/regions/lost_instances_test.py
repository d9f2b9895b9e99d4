"""Tests of solo_jax/methods/regions/lost_instances.py."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.regions.lost_instances import (
  NO_ANCHOR,
  NO_AREA,
  lost_instances,
  target_views,
)
from solo_jax.methods.regions.sampling import Sampling
from tests.methods.small_regions import ARGUMENTS, loss_settings, make_batch

ANCHORS = ARGUMENTS["anchors"]
PROPOSALS = loss_settings()["proposals"]
# On P2 at (8, 12) a square anchor of 8; nothing; a second one of the first's
# anchors, which goes to the first; a thin line that no anchor overlaps by 0.7.
BOXES = np.array(
  [[4, 8, 12, 16], [20, 20, 20, 30], [4, 8, 12, 16], [0, 40, 60, 41]],
  np.float32,
)


def make_scene():
  batch = make_batch(1)
  return dataclasses.replace(
    batch,
    image=np.zeros((1, 64, 64, 3), np.uint8),
    boxes_xyxy=jnp.asarray(BOXES)[None],
    valid=jnp.ones((1, 4), bool),
    labels=jnp.zeros((1, 4), jnp.int32),
  )


def test_instances_without_area_or_anchor_are_lost():
  lost = lost_instances(
    make_scene(),
    anchors=ANCHORS,
    proposals=PROPOSALS,
    sampling=Sampling(number=8, positive_share=0.3),
  )
  who = dict(zip(lost.ways, np.asarray(lost.is_lost).tolist(), strict=True))
  assert who[NO_AREA] == [False, True, False, False]
  # Of equals the first has the anchor; the line keeps its best ones.
  assert who[NO_ANCHOR] == [False, False, True, False]
  anchors = lost.sizes["anchors"].tolist()
  assert anchors[0] >= 1 and anchors[1:3] == [0, 0] and anchors[3] >= 1
  regions, detections = lost.taken
  assert regions.tolist() == [4, 0, 4, 4]  # 4 of which 0.3 is one
  assert detections.tolist() == [1, 0, 1, 1]


def test_anchors_are_drawn_at_their_places():
  colors = jnp.eye(4, 3)
  draw = functools.partial(target_views, anchors=ANCHORS, proposals=PROPOSALS)
  (name, picture), *_ = jax.jit(draw)(make_scene(), colors).items()
  picture = np.asarray(picture)
  assert name == "anchors" and picture.shape == (1, 64, 64, 3)
  # The anchor of 8 at row 12, column 8 is of the first instance: red.
  np.testing.assert_allclose(picture[0, 12, 8], [0.6, 0, 0], rtol=1e-6)
  assert not picture[0, 30:36].any()
