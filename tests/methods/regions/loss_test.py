"""Tests of solo_jax/methods/regions/loss.py."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.mask_rcnn.loss import mask_rcnn_loss
from solo_jax.methods.regions.box_coding import decode
from solo_jax.methods.regions.loss import (
  anchor_losses,
  box_loss,
  proposal_loss,
  region_loss,
)
from solo_jax.methods.regions.network import ProposalOutputs
from solo_jax.methods.regions.sampling import Regions
from tests.methods.small_regions import (
  loss_settings,
  make_batch,
  make_features,
  make_network,
  make_variables,
  matching,
)

ONES = (1.0, 1.0, 1.0, 1.0)
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


def proposal_outputs(batch, anchors):
  """One level that puts out zeros."""
  count = len(anchors)
  return ProposalOutputs(
    logits=(jnp.zeros((len(batch.image), count)),),
    codes=(jnp.zeros((len(batch.image), count, 4)),),
    anchors=(anchors,),
    map_sizes=((1, count),),
  )


def run_proposals(batch, **changed):
  settings = dataclasses.replace(loss_settings()["proposals"], **changed)
  return compiled(batch, settings)


@functools.partial(jax.jit, static_argnames="settings")
def compiled(batch, settings):
  # Anchor 0 of each image's first instance, then anchors that miss.
  anchors = jnp.concatenate(
    [
      batch.boxes_xyxy[:, 0],
      np.tile(np.array([60.0, 60, 64, 64], np.float32), (6, 1)),
    ]
  )
  keys = jax.random.split(jax.random.key(0), len(batch.image))
  return proposal_loss(
    proposal_outputs(batch, anchors), batch, keys, settings, None
  )


def test_zeros_cost_log_2_by_anchor():
  batch = make_batch()
  objects, boxes = run_proposals(batch)
  np.testing.assert_allclose(objects, np.log(2), rtol=1e-6)
  assert float(boxes) >= 0
  # detectron2 divides by its slots: there are 7 anchors for 16.
  objects, _ = run_proposals(make_batch(1), divisor="slots")
  np.testing.assert_allclose(objects, np.log(2) * 7 / 16, rtol=1e-6)


def test_images_that_do_not_count():
  batch = make_batch()
  one = dataclasses.replace(batch, image_valid=np.array([True, False]))
  objects, _ = run_proposals(one)
  np.testing.assert_allclose(objects, np.log(2), rtol=1e-6)
  none = dataclasses.replace(batch, image_valid=np.zeros(2, bool))
  assert [float(x) for x in run_proposals(none)] == [0.0, 0.0]


def test_no_instances_and_instances_without_area():
  batch = make_batch()
  for changed in (
    dict(valid=batch.valid & False),
    dict(boxes_xyxy=batch.boxes_xyxy[:, :, [0, 1, 0, 1]]),
  ):
    objects, boxes = run_proposals(dataclasses.replace(batch, **changed))
    np.testing.assert_allclose(objects, np.log(2), rtol=1e-6)
    assert float(boxes) == 0


def test_unknown_divisor_is_refused():
  with pytest.raises(ValueError, match="divisor must be in .*'all'"):
    dataclasses.replace(loss_settings()["proposals"], divisor="all")


def golden_regions(golden):
  """Unit boxes and instances whose codes are the file's targets."""
  labels, num_classes = golden["roi_labels"], golden.config["num_classes"]
  count = len(labels)
  boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1))
  instances = decode(golden["roi_targets"], boxes, ONES, log_clamp="above")
  regions = Regions(
    boxes=boxes[None],
    valid=np.ones((1, count), bool),
    is_positive=(labels < num_classes)[None],
    instance=np.arange(count)[None],
    is_instance=np.zeros((1, count), bool),
  )
  batch = dataclasses.replace(
    make_batch(1),
    boxes_xyxy=instances[None],
    labels=np.minimum(labels, num_classes - 1)[None].astype(np.int32),
  )
  return regions, batch


def with_jacobian(losses):
  """A function of logits and codes that also gives the gradients by both."""
  return jax.jit(lambda *x: (losses(*x), jax.jacrev(losses, (0, 1))(*x)))


@pytest.mark.golden("rcnn_losses*.npz")
def test_fixture_of_boxes(golden):
  regions, batch = golden_regions(golden)
  betas = [
    case["args"].get("beta", 0.0) if case["type"] == "SmoothL1Loss" else 0.0
    for case in golden.config["mmdet_box_losses"]
  ]
  cases = [("tv", 1 / 9, slice(None), "")]
  for i, beta in enumerate(betas):
    cases.append(("mmdet", beta, slice(None), f"_specific_{i}"))
    cases.append(("mmdet", beta, slice(1), f"_agnostic_{i}"))
  for name, beta, classes, tag in cases:
    codes = golden["roi_deltas"][:, classes]

    def losses(logits, codes, beta=beta):
      return jnp.stack(
        box_loss(
          logits[None],
          codes[None],
          regions,
          batch,
          weights=ONES,
          beta=beta,
          axis_name=None,
        )
      )

    logits = golden["roi_logits_bg_last"]
    found, (by_logits, by_codes) = with_jacobian(losses)(logits, codes)
    expected = [golden[f"roi_cls_{name}"], golden[f"roi_box_{name}{tag}"]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
      by_logits[0], golden[f"roi_cls_grad_{name}"], atol=1e-6
    )
    gradient = golden[f"roi_box_grad_{name}{tag}"]
    np.testing.assert_allclose(
      by_codes[1].reshape(gradient.shape), gradient, atol=1e-6
    )


@pytest.mark.golden("rcnn_losses*.npz")
def test_fixture_of_proposals(golden):
  labels = golden["rpn_labels"]
  loss = golden.config["mmdet_rpn_loss"]
  beta = loss["args"].get("beta", 1.0) if loss["type"] != "L1Loss" else 0.0
  drawn = labels == 1, labels == 0, golden["rpn_targets"]
  for name, used in (("tv", 1 / 9), ("mmdet", beta)):

    def losses(logits, codes, beta=used):
      return jnp.stack(
        anchor_losses(
          logits, codes, drawn, beta=beta, number=np.sum(labels >= 0)
        )
      )

    inputs = golden["rpn_logits"], golden["rpn_deltas"]
    found, (by_logits, by_codes) = with_jacobian(losses)(*inputs)
    expected = [golden[f"rpn_obj_{name}"], golden[f"rpn_box_{name}"]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
      by_logits[0], golden[f"rpn_obj_grad_{name}"], atol=1e-6
    )
    np.testing.assert_allclose(
      by_codes[1], golden[f"rpn_box_grad_{name}"], atol=1e-6
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


def run_stages(network, settings, batch):
  """The regions that masks of each stage would train on, and the terms."""
  found = []

  def mask_loss(stage, features, regions):
    found.append(regions)
    return dict(mask_loss=0.0)

  def call(network):
    _, terms = region_loss(
      network,
      make_features(len(batch.image)),
      batch,
      proposals=settings["proposals"],
      stages=settings["stages"],
      mask_loss=mask_loss,
      axis_name=None,
    )
    return found, terms

  run = jax.jit(nn.apply(call, network, mutable=["batch_stats"]))
  return run(variables_of(network), rngs={"draws": jax.random.key(0)})[0]


def record_regions(network, settings, batch):
  return run_stages(network, settings, batch)[0]


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


def test_positive_regions_beyond_those_reserved_for_masks_are_counted(
  pool_by_products,
):
  """All 8 regions of the second stage are positive; masks have 4 places."""
  network = make_network(
    stage_weights=THREE["stage_weights"][:2], box_classes="all"
  )
  batch = make_batch(1)
  settings = loss_settings(
    matchings=(matching(0.5), matching(0.0)),
    weights=(1.0, 1.0),
    next_regions="all",
  )

  assert run_stages(network, settings, batch)[1]["masks_dropped"] == 4


def test_unknown_rules_are_refused():
  for name in ("next_regions", "mask_regions"):
    with pytest.raises(ValueError, match=f"{name} must be in .*'none'"):
      loss_settings(**{name: "none"})
