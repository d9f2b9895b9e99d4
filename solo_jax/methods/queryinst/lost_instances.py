"""Finds instances that QueryInst is not trained on.

Shape letters: N instances, Q proposals.
"""

import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.interface import Capacity, LostInstances, Way
from solo_jax.methods.regions.box_coding import area
from solo_jax.methods.regions.lost_instances import DETECTIONS

NO_PROPOSAL = Way(
  "no proposal", "beyond network.num_proposals: neither box nor mask is trained"
)
NO_AREA = Way("no area", "its box has no area: no proposal can find it")
PROPOSALS = Capacity("proposals", ("network.num_proposals",))


def lost_instances(batch: types.Batch, *, num_proposals: int) -> LostInstances:
  """Returns instances beyond the proposals or without area.

  Args:
    batch: Batch of one image.
    num_proposals: Q.

  Returns:
    The lost instances.
  """
  valid = batch.valid[0]
  has_proposal = jnp.arange(len(valid)) < num_proposals
  has_area = area(batch.boxes_xyxy[0]) > 0
  taken = valid.astype(jnp.int32)
  return LostInstances(
    ways=(NO_PROPOSAL, NO_AREA),
    is_lost=(valid & ~has_proposal, valid & has_proposal & ~has_area),
    capacities=(PROPOSALS, DETECTIONS),
    taken=(taken, taken),
  )
