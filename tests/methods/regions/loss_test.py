"""Tests of solo_jax/methods/regions/loss.py."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.regions.box_coding import decode
from solo_jax.methods.regions.loss import (
  anchor_losses,
  box_loss,
  proposal_loss,
  take_instances,
)
from solo_jax.methods.regions.network import ProposalOutputs
from solo_jax.methods.regions.sampling import Regions
from tests.methods.small_regions import loss_settings, make_batch

ONES = (1.0, 1.0, 1.0, 1.0)


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


def test_each_region_takes_what_its_instance_has():
  regions, values = golden_like_regions(), np.array([[10, 11], [20, 21]])
  np.testing.assert_array_equal(
    take_instances(values, regions), [[11, 10], [20, 20]]
  )


def golden_like_regions():
  return Regions(
    boxes=np.zeros((2, 2, 4)),
    valid=np.ones((2, 2), bool),
    is_positive=np.ones((2, 2), bool),
    instance=np.array([[1, 0], [0, 0]]),
    is_instance=np.zeros((2, 2), bool),
  )
