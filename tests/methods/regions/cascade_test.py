"""Tests of solo_jax/methods/regions/cascade.py."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.mask_rcnn.loss import mask_rcnn_loss
from solo_jax.methods.regions.cascade import region_loss
from solo_jax.methods.regions.network import Features
from tests.methods.small_regions import (
  loss_settings,
  make_batch,
  make_features,
  make_network,
  make_variables,
  matching,
)

THREE = dict(
  stage_weights=(
    (10.0, 10.0, 5.0, 5.0),
    (20.0, 20.0, 10.0, 10.0),
    (30.0, 30.0, 15.0, 15.0),
  ),
  box_classes="all",
)
THREE_LOSS = dict(
  matchings=(matching(0.5), matching(0.6), matching(0.7)),
  weights=(1.0, 0.5, 0.25),
)


@functools.cache
def variables_of(network):
  return make_variables(network, make_batch())


def run_loss(network, batch, settings, seed=0):
  """The loss, its terms and its gradients."""
  compute = compile_loss(network, tuple(settings.items()))
  return compute(variables_of(network), batch, jax.random.key(seed))


@functools.cache
def compile_loss(network, settings):
  @jax.jit
  def compute(variables, batch, key):
    def loss(params):
      (value, terms), _ = nn.apply(
        lambda network: mask_rcnn_loss(network, batch, **dict(settings)),
        network,
        mutable=["batch_stats"],
      )(variables | {"params": params}, rngs={"draws": key})
      return value, terms

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])

  return compute


@pytest.mark.slow
def test_every_parameter_of_the_three_stages_is_trained(pool_by_products):
  # HTC with the semantic branch: all that a network can have.
  network = make_network(
    **THREE, mask_heads="each", mask_flow=True, semantic_classes=3
  )
  settings = loss_settings(**THREE_LOSS, mask_regions="refined")
  (value, terms), gradients = run_loss(network, make_batch(), settings)
  np.testing.assert_allclose(
    value,
    sum(x for name, x in terms.items() if name != "instances_dropped"),
    rtol=1e-5,
  )
  for name in ("category_loss", "stage1_category_loss", "stage2_category_loss"):
    assert float(terms[name]) > 0
  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
    assert np.isfinite(gradient).all(), path
    assert np.any(gradient != 0), path


def test_batches_without_anything(pool_by_products):
  network = make_network()
  batch = make_batch()
  nowhere = batch.boxes_xyxy[:, :, [0, 1, 0, 1]]
  for name, changed in (
    ("no instances", dict(valid=batch.valid & False)),
    ("no area", dict(boxes_xyxy=nowhere)),
    ("no images", dict(image_valid=batch.image_valid & False)),
  ):
    (value, terms), gradients = run_loss(
      network, dataclasses.replace(batch, **changed), loss_settings()
    )
    assert np.isfinite(value), name
    assert float(terms["mask_loss"]) == float(terms["box_loss"]) == 0, name
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients)), name
    if name == "no images":
      assert float(value) == 0
      assert not any(np.any(x) for x in jax.tree.leaves(gradients))
    else:
      assert float(terms["category_loss"]) > 0


def test_an_image_draws_the_same_in_any_batch(pool_by_products):
  network, batch = make_network(), make_batch(2)
  whole = jax.tree.map(lambda x: x, batch)
  ones = [
    dataclasses.replace(batch, image_valid=np.arange(2) == i) for i in range(2)
  ]
  swapped = jax.tree.map(lambda x: x[::-1], batch)
  settings = loss_settings()
  (value, terms), _ = run_loss(network, whole, settings)
  (again, _), _ = run_loss(network, swapped, settings)
  np.testing.assert_allclose(value, again, rtol=1e-5)
  (other, _), _ = run_loss(network, whole, settings, seed=1)
  assert float(other) != float(value)
  # All slots are taken in both images, so means of classes are equal shares.
  alone = [run_loss(network, x, settings)[0][1]["category_loss"] for x in ones]
  np.testing.assert_allclose(np.mean(alone), terms["category_loss"], rtol=1e-5)


def test_mean_over_devices_is_the_loss_of_the_batch(pool_by_products):
  """Divisors are counts of both images: 1 and 2 instances, equal draws."""
  network, batch = make_network(), make_batch(2)
  batch = dataclasses.replace(
    batch, valid=batch.valid & [[True, False, True], [True, True, True]]
  )
  (_, expected), _ = run_loss(network, batch, loss_settings())
  settings = loss_settings() | dict(axis_name="devices")

  def run(batch):
    compute = nn.apply(
      lambda network: mask_rcnn_loss(network, batch, **settings),
      network,
      mutable=["batch_stats"],
    )
    rngs = {"draws": jax.random.key(0)}
    return compute(variables_of(network), rngs=rngs)[0][1]

  parts = jax.tree.map(lambda x: x[:, None], batch)
  terms = jax.jit(jax.vmap(run, axis_name="devices"))(parts)
  for name, value in expected.items():
    found = terms[name].sum() if "dropped" in name else terms[name].mean()
    np.testing.assert_allclose(found, value, rtol=1e-5, err_msg=name)
  assert not np.allclose(*terms["category_loss"])


def record_regions(network, settings, batch):
  """The regions that masks of each stage would train on."""
  found = []

  def mask_loss(stage, features, regions):
    found.append(regions)
    return {}

  def call(network):
    region_loss(
      network,
      make_features(len(batch.image)),
      batch,
      proposals=settings["proposals"],
      stages=settings["stages"],
      mask_loss=mask_loss,
      axis_name=None,
    )
    return found

  run = jax.jit(nn.apply(call, network, mutable=["batch_stats"]))
  return run(variables_of(network), rngs={"draws": jax.random.key(0)})[0]


@pytest.mark.slow
def test_what_the_next_stage_trains_on(pool_by_products):
  network, batch = make_network(**THREE), make_batch(1)
  settings = loss_settings(**THREE_LOSS)
  sampled = record_regions(network, settings, batch)
  for regions in sampled:  # the instances again at every stage
    np.testing.assert_array_equal(regions.is_instance.sum(1), 2)
    np.testing.assert_allclose(regions.boxes[0, :2], batch.boxes_xyxy[0, :2])
  relabelled = record_regions(
    network, loss_settings(**THREE_LOSS, next_regions="all"), batch
  )
  assert not np.asarray(relabelled[1].is_instance).any()
  # Slots are kept: those of the instances are refined ones of theirs.
  refined, truth = relabelled[1].boxes[0, :2], batch.boxes_xyxy[0, :2]
  distances = np.abs(refined[:, None] - truth).max(-1)
  np.testing.assert_array_equal(distances.argmin(1), [0, 1])
  assert distances.min(1).min() > 0


def test_regions_of_masks(pool_by_products):
  network, batch = make_network(), make_batch(1)
  plain = record_regions(network, loss_settings(), batch)[0]
  predicted = record_regions(
    network, loss_settings(mask_regions="predicted"), batch
  )[0]
  np.testing.assert_array_equal(plain.is_positive, predicted.is_positive)
  assert np.abs(np.asarray(plain.boxes - predicted.boxes)).max() > 0
  refined = record_regions(
    network, loss_settings(mask_regions="refined"), batch
  )[0]
  np.testing.assert_array_equal(refined.is_instance.sum(1), 2)


def test_unknown_rules_are_refused():
  for name in ("next_regions", "mask_regions"):
    with pytest.raises(ValueError, match=f"{name} must be in .*'none'"):
      loss_settings(**{name: "none"})


def test_gradient_of_a_stage_is_scaled(pool_by_products):
  def gradient(share):
    network = make_network(stage_gradient=share)
    batch = make_batch(1)

    def loss(level):
      def call(network):
        pyramid = tuple(x + level for x in make_features(1).pyramid)
        features = Features(pyramid=pyramid)
        boxes = jnp.asarray(batch.boxes_xyxy)
        logits, _ = network.box_stage(
          0, features, boxes, batch.valid, train=True
        )
        return jnp.sum(logits[..., 0])

      return nn.apply(call, network)(variables_of(make_network()))

    return jax.jit(jax.value_and_grad(loss))(0.1)

  (value, whole), (same, third) = gradient(1.0), gradient(0.25)
  np.testing.assert_allclose(value, same, rtol=1e-6)
  np.testing.assert_allclose(whole * 0.25, third, rtol=1e-5)
