"""Tests of solo_jax/methods/queryinst/loss.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.methods.queries.matching import match
from solo_jax.methods.queryinst import loss as loss_module
from solo_jax.methods.queryinst.loss import (
  LossSettings,
  choose_rows,
  stage_losses,
)
from tests.methods.queryinst.network_test import make_network, make_variables

SETTINGS = LossSettings(
  category_weight=2.0,
  box_weight=5.0,
  giou_weight=2.0,
  mask_weight=8.0,
  masks_per_image=2,
)


def make_batch(golden, capacity=4):
  counts = golden.config["num_instances"]
  height, width = (4 * side for side in golden["fpn_0"].shape[2:])
  masks = np.zeros((len(counts), capacity, height, width), np.uint8)
  boxes = np.zeros((len(counts), capacity, 4), np.float32)
  labels = np.zeros((len(counts), capacity), np.int32)
  for i, count in enumerate(counts):
    found = golden.masks(f"gt_masks_{i}_packed", (height, width))
    masks[i, :count] = 255 * found
    boxes[i, :count] = golden[f"gt_boxes_{i}"]
    labels[i, :count] = golden[f"gt_labels_{i}"]
  return types.Batch(
    image=np.zeros((len(counts), height, width, 3), np.uint8),
    image_size=np.full((len(counts), 2), (height, width), np.int32),
    image_valid=np.ones(len(counts), bool),
    masks=types.PackedMasks(data=masks, encoding="coverage", stride=1),
    centers=np.zeros((len(counts), capacity, 2), np.float32),
    boxes_xyxy=boxes,
    labels=labels,
    valid=np.arange(capacity) < np.asarray(counts)[:, None],
    num_dropped=np.ones(len(counts), np.int32),
    row=np.arange(len(counts), dtype=np.int32),
  )


def load_weights(golden):
  """The state dict is that of the fixture of the whole model."""
  path = golden.path.with_name(golden.path.name.replace("_loss", "_model"))
  with np.load(path) as file:
    return {
      name.removeprefix("sd/"): file[name]
      for name in file.files
      if name.startswith("sd/")
    }


@pytest.mark.golden("queryinst_loss*.npz")
def test_fixture(golden, pool_by_products, monkeypatch):
  network = make_network(golden.config)
  variables = make_variables(network, load_weights(golden))
  batch = jax.tree.map(jnp.asarray, make_batch(golden))
  num_stages = golden.config["num_stages"]
  pyramid = [golden.channels_last(f"fpn_{i}") for i in range(4)]
  costs_of_matches = []

  def keep(costs, valid):
    costs_of_matches.append(costs)
    return match(costs, valid)

  monkeypatch.setattr(loss_module, "match", keep)

  def loss(params, pyramid):
    def forward(module):
      value, terms = stage_losses(
        module,
        pyramid,
        batch,
        settings=SETTINGS,
        axis_name=None,
        train=False,
      )
      return value, (terms, costs_of_matches.pop())

    return network.apply({**variables, "params": params}, method=forward)

  (value, (terms, costs)), (by_params, by_pyramid) = jax.jit(
    jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
  )(variables["params"], pyramid)
  check_matches(golden, batch, costs)
  assert terms["instances_dropped"] == len(batch.row)
  np.testing.assert_allclose(value, golden["total"], rtol=1e-4)
  for stage in range(num_stages):
    for ours, theirs in (
      ("category", "cls"),
      ("box", "bbox"),
      ("giou", "iou"),
      ("mask", "mask"),
    ):
      expected = golden[f"s{stage}.loss_{theirs}"]
      prefix = f"stage{stage}_" if stage else ""
      actual = terms[f"{prefix}{ours}_loss"]
      np.testing.assert_allclose(actual, expected, rtol=1e-4, err_msg=theirs)
  for actual, name in (
    (by_params["proposal_boxes"], "init_proposal_bboxes"),
    (by_params["proposal_queries"], "init_proposal_features"),
    (by_params["boxes_0"]["dynamic_conv"]["dynamic"]["bias"], None),
    (by_params["masks_0"]["logits"]["bias"], "mask0_logits_bias"),
  ):
    if name is None:
      expected = golden["grad_stage0_dynamic_bias"]
      actual = actual[: len(expected)]
    else:
      expected = golden[f"grad_{name}"]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
      actual, expected, atol=5e-4 * scale, rtol=0, err_msg=name
    )
  for i, actual in enumerate(by_pyramid):
    expected = golden.channels_last(f"grad_fpn_{i}")
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, atol=5e-4 * scale, rtol=0)


def check_matches(golden, batch, costs):
  for stage, cost in enumerate(costs):
    query = np.asarray(match(cost, batch.valid))
    for i, count in enumerate(golden.config["num_instances"]):
      if not count:
        continue
      expected = golden[f"cost_{stage}_{i}"].T
      scale = np.abs(expected).max()
      np.testing.assert_allclose(
        cost[i, :count], expected, atol=1e-4 * scale, rtol=0
      )
      matched = golden[f"match_gt_plus_1_{stage}_{i}"]
      for instance in range(count):
        assert matched[query[i, instance]] == instance + 1


def test_rows_are_packed_and_the_fullest_images_lose_some():
  valid = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 1, 1]], bool)
  image, instance, counts = choose_rows(valid, 2)
  assert counts.all()
  found = list(zip(image.tolist(), instance.tolist(), strict=True))
  assert found == [(0, 0), (2, 0), (0, 1), (0, 2), (2, 2), (2, 3)]
  image, instance, counts = choose_rows(valid, 1)
  found = list(zip(image.tolist(), instance.tolist(), strict=True))
  assert counts.all()
  assert found == [(0, 0), (2, 0), (0, 1)]
  image, instance, counts = choose_rows(valid, None)
  assert (counts == valid[image, instance]).all()
  assert len(set(zip(image.tolist(), instance.tolist(), strict=True))) == 12


@pytest.mark.slow
def test_packing_changes_neither_loss_nor_gradient():
  """Four masks of six: batch norm and divisors count them and no padding."""
  rng = np.random.default_rng(0)
  sizes = dict(channels=8, num_proposals=4, num_stages=1, num_heads=2, ffn=8)
  network = make_network(
    dict(backbone=dict(base_channels=8, depth=18), num_classes=2, max_per_img=4)
    | dict(dynamic_channels=4, num_reg_fcs=1, num_mask_convs=1, finest_scale=14)
    | sizes
  )
  corners = rng.uniform(0, 32, (2, 3, 2, 2)).astype("f")
  boxes = np.concatenate([corners.min(2), corners.max(2) + 4], axis=-1)
  batch = types.Batch(
    image=jnp.zeros((2, 32, 32, 3), jnp.uint8),
    image_size=jnp.full((2, 2), 32),
    image_valid=jnp.ones(2, bool),
    masks=types.PackedMasks(
      data=jnp.asarray(rng.integers(0, 256, (2, 3, 32, 32)), jnp.uint8),
      encoding="coverage",
      stride=1,
    ),
    centers=jnp.zeros((2, 3, 2)),
    boxes_xyxy=jnp.asarray(boxes),
    labels=jnp.asarray([[0, 1, 1], [1, 0, 0]]),
    valid=jnp.asarray([[True, True, True], [False, True, False]]),
    num_dropped=jnp.zeros(2, jnp.int32),
    row=jnp.arange(2),
  )
  pyramid = [
    jnp.asarray(rng.normal(size=(2, side, side, 8)), jnp.float32)
    for side in (8, 4, 2, 1)
  ]

  def losses(module, masks_per_image):
    return stage_losses(
      module,
      pyramid,
      batch,
      settings=dataclasses.replace(SETTINGS, masks_per_image=masks_per_image),
      axis_name=None,
      train=True,
    )

  variables = network.init(jax.random.key(0), 1, method=losses)
  params = variables.pop("params")

  def loss(params, masks_per_image):
    (value, terms), stats = network.apply(
      variables | {"params": params},
      masks_per_image,
      method=losses,
      mutable=["batch_stats"],
    )
    return value, (terms, stats)

  run = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
  every, packed = (run(params, number) for number in (None, 2))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=1e-4, atol=1e-6 + 1e-4 * np.abs(y).max()
    ),
    packed,
    every,
  )
  assert packed[0][1][0]["masks_dropped"] == 0
