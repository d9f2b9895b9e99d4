"""Tests of solo_jax/methods/queryinst/network.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.conversion import queryinst
from solo_jax.conversion.mapping import convert
from solo_jax.methods.queryinst.network import (
  BOX_SIZE,
  QueryInst,
  first_boxes,
  grid_boxes,
)
from solo_jax.methods.regions.pyramid import find_levels
from solo_jax.nn.backbones.resnet import DEPTHS, ResNet


def make_network(config):
  base = config["backbone"]["base_channels"]
  return QueryInst(
    backbone=ResNet(
      **DEPTHS[config["backbone"]["depth"]],
      widths=tuple(base * 2**i for i in range(4)),
    ),
    num_classes=config["num_classes"],
    channels=config["channels"],
    num_proposals=config["num_proposals"],
    proposal_init="image",
    num_stages=config["num_stages"],
    num_mask_stages=None,
    num_heads=config["num_heads"],
    hidden=config["ffn"],
    dynamic_channels=config["dynamic_channels"],
    num_class_layers=1,
    num_box_layers=config["num_reg_fcs"],
    num_mask_convs=config["num_mask_convs"],
    pool_base_size=float(config["finest_scale"]),
    max_detections=config["max_per_img"],
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    channel_order="rgb",
    axis_name=None,
    dtype=jnp.float32,
  )


def make_variables(network, arrays):
  shapes = jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    jnp.zeros((1, 64, 64, 3), jnp.uint8),
    jnp.full((1, 2), 64),
  )
  return convert(queryinst.prepare(arrays), queryinst.MMDET, shapes)


def assert_close(actual, expected, tolerance, name=""):
  scale = np.abs(expected).max()
  np.testing.assert_allclose(
    actual, expected, rtol=0, atol=tolerance * scale, err_msg=name
  )


@pytest.mark.golden("queryinst_model*.npz")
def test_fixture(golden, pool_by_products):
  """From the network input to boxes, masks and detections."""
  network = make_network(golden.config)
  variables = make_variables(network, golden.state_dict())
  image_size = np.array([golden.config["image_hw"]], np.int32)
  num_stages = golden.config["num_stages"]

  def everything(module, x):
    pyramid = module.fpn(module.backbone(x, train=False))[:4]
    boxes = first_boxes(module.proposal_boxes, image_size)
    pooled = module.pool(pyramid, boxes, BOX_SIZE)
    stages = module.find_boxes(pyramid, image_size)
    logits = [
      module.find_masks(pyramid, stage, i) for i, stage in enumerate(stages)
    ]
    return (
      pyramid,
      boxes,
      pooled,
      stages,
      logits,
      module.detect(stages[-1], logits[-1]),
    )

  run = jax.jit(lambda x: network.apply(variables, x, method=everything))
  x = golden.channels_last("net_input")
  pyramid, boxes, pooled, stages, logits, found = run(x)
  for i, level in enumerate(pyramid):
    assert_close(level, golden.channels_last(f"fpn_{i}"), 1e-4, f"fpn_{i}")
  np.testing.assert_allclose(boxes[0], golden["proposals"], atol=1e-2)
  expected = golden["pooled_0"].transpose(0, 2, 3, 1)
  assert_close(pooled[0, : len(expected)], expected, 1e-4, "pooled")
  for i in range(num_stages):
    levels = find_levels(boxes[0], network.pooling)
    np.testing.assert_array_equal(levels, golden[f"level_{i}"])
    stage, boxes = stages[i], stages[i].boxes_xyxy
    assert_close(stage.class_logits[0], golden[f"cls_{i}"], 3e-4, "class")
    np.testing.assert_allclose(boxes[0], golden[f"boxes_{i}"], atol=1e-2)
    assert_close(stage.queries[0], golden[f"objects_{i}"], 3e-4, "queries")
    assert_close(stage.mask_queries[0], golden[f"attention_{i}"], 3e-4)
    expected = golden[f"mask_logits_{i}"].transpose(0, 2, 3, 1)
    assert_close(logits[i][0, : len(expected)], expected, 3e-4, "masks")
  check_detections(golden, found)


def check_detections(golden, found):
  """The published top-k is not sorted."""
  order = np.argsort(-golden["out_scores"], kind="stable")
  np.testing.assert_allclose(
    found.scores[0], golden["out_scores"][order], atol=1e-4
  )
  np.testing.assert_array_equal(found.labels[0], golden["out_labels"][order])
  valid, original = golden.config["image_hw"], golden.config["original_hw"]
  factor = np.array([original[1] / valid[1], original[0] / valid[0]] * 2)
  np.testing.assert_allclose(
    found.boxes_xyxy[0] * factor, golden["out_boxes"][order], atol=2e-2
  )


def test_learned_boxes_are_shares_of_each_image():
  shares = np.float32([[0.5, 0.5, 1, 1], [0.25, 0.5, 0.5, 0.2]])
  found = first_boxes(shares, np.array([[100, 200], [10, 40]]))
  np.testing.assert_allclose(
    found,
    [
      [[0, 0, 200, 100], [0, 40, 100, 60]],
      [[0, 0, 40, 10], [0, 4, 20, 6]],
    ],
    rtol=1e-6,
  )


def test_grid_by_hand():
  """Squares around the middles of quarters, stretched as images are."""
  np.testing.assert_allclose(
    first_boxes(grid_boxes(4), np.array([[40, 80]]))[0],
    [
      [-20, -10, 60, 30],
      [20, -10, 100, 30],
      [-20, 10, 60, 50],
      [20, 10, 100, 50],
    ],
  )
  found = np.asarray(grid_boxes(9))
  np.testing.assert_allclose(found[:, 2:], 2 / 3)
  np.testing.assert_allclose(found[5, :2], [5 / 6, 1 / 2])
