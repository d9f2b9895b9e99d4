"""Tests of solo_jax/methods/yolact/loss.py."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scene import assert_close, kind, make_priors_rule, side

from solo_jax import types
from solo_jax.methods.yolact.heads import MaskScoreHead
from solo_jax.methods.yolact.loss import LossSettings, prediction_loss
from solo_jax.methods.yolact.network import Predictions
from solo_jax.methods.yolact.priors import make_priors

ORIGINAL = LossSettings(
  assignment="greedy",
  empty_image="positives",
  least_count=0,
  max_masks=100,
  semantic_labels="own",
  semantic_on_empty=True,
  category_weight=1.0,
  box_weight=1.5,
  mask_weight=6.125,
  semantic_weight=1.0,
  mask_score_weight=0.0,
)
MMDET = dataclasses.replace(
  ORIGINAL,
  assignment="best_prior",
  empty_image="all",
  least_count=1,
  semantic_labels="previous",
  semantic_on_empty=False,
)


def make_batch(golden, capacity=6):
  """Objects of the fixture, padded."""
  size, counts = side(golden), golden.config["num_instances"]
  masks = np.zeros((len(counts), capacity, size, size), np.uint8)
  boxes = np.zeros((len(counts), capacity, 4), np.float32)
  labels = np.zeros((len(counts), capacity), np.int32)
  for i, count in enumerate(counts):
    masks[i, :count] = 255 * golden.masks(f"gt_masks_{i}_packed", (size, size))
    boxes[i, :count] = golden[f"gt_boxes_{i}"]
    labels[i, :count] = golden[f"gt_labels_{i}"]
  return types.Batch(
    image=np.zeros((len(counts), size, size, 3), np.uint8),
    image_size=np.full((len(counts), 2), size, np.int32),
    image_valid=np.ones(len(counts), bool),
    masks=types.PackedMasks(data=masks, encoding="coverage", stride=1),
    centers=np.zeros((len(counts), capacity, 2), np.float32),
    boxes_xyxy=boxes,
    labels=labels,
    valid=np.arange(capacity) < np.asarray(counts)[:, None],
    num_dropped=np.zeros(len(counts), np.int32),
    row=np.arange(len(counts), dtype=np.int32),
  )


def make_predictions(golden):
  """Returns the fixture's predictions and gradients in our layout."""
  if kind(golden) == "mmdet":
    arrays = [mmdet_arrays(golden, prefix) for prefix in ("", "grad_")]
    map_sizes = [golden[f"cls_{i}"].shape[2:] for i in range(5)]
  else:
    arrays = [original_arrays(golden, prefix) for prefix in ("", "grad_")]
    sizes, total = make_priors_rule(golden), 0
    map_sizes, length = [], golden["proto"].shape[1] // 2
    while total < golden["loc"].shape[1]:
      map_sizes.append((length, length))
      total += length**2 * sizes.per_position
      length = (length + 1) // 2
  size = side(golden)
  priors = make_priors(make_priors_rule(golden), map_sizes, (size, size))
  values, gradients = (
    Predictions(**x, priors=priors, level_sizes=()) for x in arrays
  )
  return values, gradients


def original_arrays(golden, prefix):
  names = dict(
    class_logits="conf",
    box_codes="loc",
    coefficients="mask",
    prototypes="proto",
  )
  arrays = {k: golden[prefix + v].astype("f") for k, v in names.items()}
  semantic = golden[f"{prefix}segm"].transpose(0, 2, 3, 1).astype("f")
  return arrays | {"semantic_logits": semantic}


def mmdet_arrays(golden, prefix):
  priors = make_priors_rule(golden).per_position

  def joined(name):
    maps = [golden[f"{prefix}{name}_{i}"] for i in range(5)]
    maps = [x.transpose(0, 2, 3, 1).astype("f") for x in maps]
    flat = [x.reshape(len(x), -1, x.shape[-1] // priors) for x in maps]
    return np.concatenate(flat, axis=1)

  return dict(
    class_logits=np.roll(joined("cls"), 1, axis=-1),
    box_codes=joined("reg"),
    coefficients=joined("coeff"),
    prototypes=golden[f"{prefix}proto"].transpose(0, 2, 3, 1).astype("f"),
    semantic_logits=golden[f"{prefix}segm"].transpose(0, 2, 3, 1).astype("f"),
  )


def make_score_head(golden):
  """Returns YOLACT++'s mask scores with the fixture's weights, or None."""
  channels = tuple(golden.config.get("maskiou_channels", ()))
  if not channels:
    return None
  names = [f"conv_{i}" for i in range(len(channels))] + ["predict"]
  params = {
    name: {
      "kernel": golden[f"sd/maskiou_net.maskiou_net.{2 * i}.weight"].transpose(
        2, 3, 1, 0
      ),
      "bias": golden[f"sd/maskiou_net.maskiou_net.{2 * i}.bias"],
    }
    for i, name in enumerate(names)
  }
  head = MaskScoreHead(channels, golden.config["num_classes"], jnp.float32)
  return functools.partial(head.apply, {"params": params})


def run(predictions, batch, settings, score_masks=None):
  """Returns the terms and the gradients of their sum."""
  keys = jax.random.split(jax.random.key(0), len(batch.row))

  def total(floats):
    merged = dataclasses.replace(predictions, **floats)
    return prediction_loss(
      merged,
      batch,
      keys,
      settings=settings,
      score_masks=score_masks,
      axis_name=None,
    )

  floats = {
    name: getattr(predictions, name)
    for name in (
      "class_logits",
      "box_codes",
      "coefficients",
      "prototypes",
      "semantic_logits",
    )
  }
  (_, terms), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(
    floats
  )
  return terms, gradients


@pytest.mark.golden("yolact_*_loss.npz")
def test_fixture(golden):
  predictions, expected = make_predictions(golden)
  batch = make_batch(golden)
  is_mmdet = kind(golden) == "mmdet"
  settings = MMDET if is_mmdet else ORIGINAL
  score_masks = make_score_head(golden)
  if score_masks is not None:
    settings = dataclasses.replace(settings, mask_score_weight=25.0)
  terms, gradients = run(predictions, batch, settings, score_masks)
  for name, original, mmdet in (
    ("box_loss", "loss_B", "loss_bbox_per_image"),
    ("category_loss", "loss_C", "loss_cls_per_image"),
    ("mask_loss", "loss_M", "loss_mask_per_image"),
    ("semantic_loss", "loss_S", "loss_segm_per_image"),
    ("mask_score_loss", "loss_I", None),
  ):
    if name not in terms:
      continue
    value = golden[mmdet].sum() if is_mmdet else golden[original]
    np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)
  for name, gradient in gradients.items():
    assert_close(gradient, getattr(expected, name), 5e-5, name)


def make_small_case(valid, boxes=0, num_dropped=0):
  """Returns predictions of 12 priors and a batch of one image."""
  rng = np.random.default_rng(0)
  low = rng.uniform(0, 20, (12, 2))
  predictions = Predictions(
    class_logits=rng.standard_normal((1, 12, 3)).astype("f"),
    box_codes=rng.standard_normal((1, 12, 4)).astype("f"),
    coefficients=rng.standard_normal((1, 12, 2)).astype("f"),
    prototypes=rng.random((1, 8, 8, 2), np.float32),
    semantic_logits=rng.standard_normal((1, 4, 4, 2)).astype("f"),
    priors=np.concatenate([low, low + 8], axis=1).astype("f"),
    level_sizes=(),
  )
  batch = types.Batch(
    image=np.zeros((1, 32, 32, 3), np.uint8),
    image_size=np.full((1, 2), 32),
    image_valid=np.ones(1, bool),
    masks=types.PackedMasks(
      data=np.zeros((1, 2, 8, 8), np.uint8), encoding="coverage", stride=4
    ),
    centers=np.zeros((1, 2, 2), np.float32),
    boxes_xyxy=np.full((1, 2, 4), boxes, np.float32),
    labels=np.zeros((1, 2), np.int32),
    valid=np.full((1, 2), valid),
    num_dropped=np.full(1, num_dropped, np.int32),
    row=np.zeros(1, np.int32),
  )
  return predictions, batch


@pytest.mark.parametrize(("settings", "trains"), [(ORIGINAL, 0), (MMDET, 1)])
def test_a_batch_without_objects(settings, trains):
  """No division by 0; only mmdetection's negatives train the classes."""
  terms, gradients = run(*make_small_case(False), settings)
  assert terms["box_loss"] == terms["mask_loss"] == 0
  assert (terms["category_loss"] > 0) == bool(trains)
  for name, gradient in gradients.items():
    assert np.isfinite(gradient).all()
    if name in ("box_codes", "coefficients", "prototypes"):
      assert not np.any(gradient)


def test_a_box_without_area_trains_no_prior():
  """Divided by its area, the loss of its mask would be 1e12 times as large."""
  predictions, batch = make_small_case(True, boxes=(9, 9, 15, 9), num_dropped=3)
  batch = dataclasses.replace(batch, num_crowds_dropped=np.full(1, 2))
  terms, _ = run(predictions, batch, ORIGINAL)
  assert terms["box_loss"] == terms["mask_loss"] == terms["num_positives"] == 0
  assert terms["instances_dropped"] == 3
  assert terms["crowds_dropped"] == 2
