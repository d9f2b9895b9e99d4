"""Tests of solo_jax/inspection/oracle_outputs.py: the targets, as outputs."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.inspection.frames import (
  inference_frames,
  make_example,
  mask_weights,
)
from solo_jax.inspection.lost_instances import to_batch
from solo_jax.inspection.oracle_outputs import owners, perfect_outputs
from solo_jax.inspection.suggestion import build_method
from solo_jax.methods.grid.targets import Targets
from tests.inspection.conftest import make_sample, sections

# Apart, of different classes and both levels; on whole cells of stride 8.
BOXES = [(8, 8, 24, 24), (32, 0, 64, 32), (0, 40, 16, 64), (40, 40, 56, 56)]
LABELS = [1, 0, 2, 1]
KINDS = {
  "solov2": ("solov2_shapes", ""),
  "solo": ("solo_shapes", ""),
  "decoupled_solo": ("decoupled_solo_shapes", ""),
  "spatial": ("associative_embedding_shapes", ""),
  "pull_push": ("associative_embedding_shapes", "loss=pull_push"),
}


@functools.cache
def setting(kind):
  """Method, batch, loss section and the true masks of a kind of network."""
  config = sections(*KINDS[kind])
  config["decode"]["max_detections"] = 8
  if "max_candidates" in config["decode"]:
    config["decode"] |= dict(max_candidates=64, nms_candidates=64)
    config["network"]["num_grids"] = (8, 4)
    config["loss"]["scale_ranges"] = ((1, 24), (20, 64))
  settings = config["transforms"] | dict(max_instances=6)
  rule = config["preprocessing"] | dict(short_side=64, max_side=64)
  (frame,) = inference_frames(make_sample(BOXES, labels=LABELS), rule)
  example = make_example(frame, settings)
  return (
    build_method(config),
    to_batch(example),
    config["loss"],
    mask_weights(example),
  )


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_finds_exactly_the_targets(kind):
  method, batch, loss, truth = setting(kind)

  @jax.jit
  def detect(batch):
    outputs = perfect_outputs(method.network, batch, loss)
    return method.decode(outputs, batch.image_size)

  decoded = detect(batch)
  valid = np.asarray(decoded.valid[0]) & (np.asarray(decoded.scores[0]) > 0.5)
  labels = np.asarray(decoded.labels[0])[valid]
  masks = np.float32(np.asarray(decoded.masks.probs[0])[valid] > 0.5)
  assert sorted(labels) == sorted(LABELS)
  shared = np.einsum("mhw,nhw->mn", masks, truth)
  either = masks.sum((1, 2))[:, None] + truth.sum((1, 2))[None] - shared
  assert ((shared / either).max(0) > 0.98).all()
  best = (shared / either).argmax(0)
  np.testing.assert_array_equal(labels[best], LABELS)
  assert int(decoded.num_dropped[0]) == 0


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "solo"])
def test_the_loss_has_nothing_to_improve(kind):
  method, batch, loss, _ = setting(kind)

  @jax.jit
  def score(batch, share):
    outputs = perfect_outputs(method.network, batch, loss)
    return method.loss(jax.tree.map(lambda x: share * x, outputs), batch)

  perfect, terms = score(batch, 1.0)
  blank, _ = score(batch, 0.0)
  assert perfect < 0.05 * blank, terms
  if "mask_iou" in terms:
    assert terms["mask_iou"] > 0.98
  else:
    assert terms["mask_loss"] < 0.01


def test_the_last_instance_owns_a_cell_and_centres_come_first():
  # Instance 0 claims cells 4, 5; instance 1 claims 5, 6; instance 2 only 6.
  targets = Targets(
    category=jnp.zeros(9, jnp.int32),
    cell=jnp.array([4, 5, 6, 5, 6, 0]),
    instance=jnp.array([0, 1, 2, 0, 1, 0]),
    valid=jnp.array([True] * 5 + [False]),
    num_dropped=jnp.array(0),
  )
  owner, first = owners(targets, 9, 4)
  assert owner.tolist() == [-1, -1, -1, -1, 0, 1, 2, -1, -1]
  assert first.tolist() == [4, 5, 6, 9]


def test_an_unknown_network_is_refused():
  with pytest.raises(TypeError, match="no perfect outputs of a Dense"):
    perfect_outputs(nn.Dense(1), None, {})
