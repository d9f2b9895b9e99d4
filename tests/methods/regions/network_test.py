"""Tests of solo_jax/methods/regions/network.py.

That published weights give published outputs is tested with the networks.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.regions.network import Features
from tests.methods.small_regions import (
  make_batch,
  make_features,
  make_network,
  make_variables,
)


@functools.cache
def scene(**changed):
  network, batch = make_network(**changed), make_batch()
  return network, batch, make_variables(network, batch)


def test_outputs_have_their_static_shapes():
  network, batch, variables = scene()
  outputs = jax.jit(functools.partial(network.apply, train=False))(
    variables, batch.image, batch.image_size
  )
  found = outputs.detections
  assert found.boxes.shape == (2, 5, 4)
  assert outputs.mask_probs.shape == (2, 5, 28, 28)
  valid = np.asarray(found.valid)
  assert valid.any()
  scores = np.asarray(found.scores)
  assert (np.diff(scores, axis=1) <= 0).all()
  assert (scores[valid] > 0.05).all()
  boxes = np.asarray(found.boxes)
  assert (boxes[..., 2] <= 64).all()
  assert (boxes[..., 3] <= 56).all()  # clipped to the image, not its padding


def test_several_stages_average_what_is_asked_for(monkeypatch):
  """Scores of fixed stages, by hand."""
  three = tuple((w, w, w / 2, w / 2) for w in (10.0, 20.0, 30.0))
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 2, (3, 2, 8, 3)).astype(np.float32)
  codes = np.zeros((2, 8, 1, 4), np.float32)
  for kind in ("logits", "probabilities"):
    network, batch, variables = scene(
      stage_weights=three, box_classes="all", stage_scores=kind
    )
    monkeypatch.setattr(
      type(network),
      "box_stage",
      lambda self, stage, *_, **__: (logits[stage], codes),
    )

    def call(network, batch=batch):
      features = make_features()
      raw = network.propose(features)
      return (
        network.select(raw, batch.image_size, train=False),
        network.detect(features, batch.image_size, train=False),
      )

    chosen, found = jax.jit(nn.apply(call, network))(variables)
    if kind == "logits":
      probs = jax.nn.softmax(logits.mean(0))
    else:
      probs = jax.nn.softmax(logits).mean(0)
    best = np.max(np.asarray(probs)[..., :2], axis=-1)
    best = np.where(chosen.valid, best, 0).max(1)
    np.testing.assert_allclose(found.scores[:, 0], best, rtol=1e-5)


def test_semantic_features_are_added_to_every_box():
  network, batch, variables = scene(semantic_classes=3)

  def call(network):
    features = network.features(batch.image, batch.image_size, train=False)
    bare = Features(pyramid=features.pyramid)
    arguments = batch.boxes_xyxy, batch.valid
    return [
      network.pool(x, *arguments, size)
      for size in (7, 14)
      for x in (features, bare)
    ] + [features.semantic]

  *pooled, semantic = jax.jit(nn.apply(call, network))(variables)
  small, bare_small, large, bare_large = map(np.asarray, pooled)
  added = large - bare_large
  assert np.abs(added[batch.valid]).max() > 0
  # A constant map is added as it is; boxes read averages of 2x2.
  np.testing.assert_allclose(
    small - bare_small,
    added.reshape(2, 3, 7, 2, 7, 2, -1).mean((3, 5)),
    atol=1e-4,
  )
  assert semantic.shape[1:3] == (8, 8)


def test_gradient_of_a_stage_is_scaled(pool_by_products):
  _, _, variables = scene()
  batch = make_batch(1)

  def gradient(share):
    network = make_network(stage_gradient=share)

    def loss(level):
      def call(network):
        pyramid = tuple(x + level for x in make_features(1).pyramid)
        features = Features(pyramid=pyramid)
        boxes = jnp.asarray(batch.boxes_xyxy)
        logits, _ = network.box_stage(
          0, features, boxes, batch.valid, train=True
        )
        return jnp.sum(logits[..., 0])

      return nn.apply(call, network)(variables)

    return jax.jit(jax.value_and_grad(loss))(0.1)

  (value, whole), (same, third) = gradient(1.0), gradient(0.25)
  np.testing.assert_allclose(value, same, rtol=1e-6)
  np.testing.assert_allclose(whole * 0.25, third, rtol=1e-5)
