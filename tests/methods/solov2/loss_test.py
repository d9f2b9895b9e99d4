"""Tests of solo_jax/methods/solov2/loss.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.methods.grid.loss import make_loss_settings
from solo_jax.methods.grid.masks import dice
from solo_jax.methods.solov2.loss import solov2_loss
from solo_jax.methods.solov2.network import Outputs
from tests.target_masks import pack_bits, pack_coverage

LOSS = dict(
  scale_ranges=((1.0, 32.0), (16.0, 64.0)),
  center_sigma=0.2,
  max_positives=16,
  category_weight=1.0,
  mask_weight=3.0,
  focal_alpha=0.25,
  focal_gamma=2.0,
  mask_average="pairs",
)


def make_batch(num_images=2, masks=((5, 5, 9), (30, 20, 20)), packed=True):
  """64 px images with square objects (x, y, side) in the first one."""
  n = max(len(masks), 1)
  full = np.zeros((num_images, n, 64, 64), np.uint8)
  boxes = np.zeros((num_images, n, 4), np.float32)
  centers = np.zeros((num_images, n, 2), np.float32)
  valid = np.zeros((num_images, n), bool)
  for i, (x, y, side) in enumerate(masks):
    full[0, i, y : y + side, x : x + side] = 1
    boxes[0, i] = x, y, x + side, y + side
    centers[0, i] = x + (side - 1) / 2, y + (side - 1) / 2
    valid[0, i] = True
  bits = full[:, :, 1::4, 1::4]
  return types.Batch(
    image=np.zeros((num_images, 64, 64, 3), np.uint8),
    image_size=np.full((num_images, 2), 64, np.int32),
    image_valid=np.ones(num_images, bool),
    masks=pack_bits(bits, 4) if packed else pack_coverage(255 * bits, 4),
    centers=centers,
    boxes_xyxy=boxes,
    labels=np.zeros((num_images, n), np.int32),
    valid=valid,
    num_dropped=np.zeros(num_images, np.int32),
    row=np.arange(num_images, dtype=np.int32),
  )


def make_outputs(num_images=2, seed=0):
  rng = np.random.default_rng(seed)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  return Outputs(
    category_logits=(
      normal(num_images, 8, 8, 3),
      normal(num_images, 4, 4, 3),
    ),
    kernel=(normal(num_images, 8, 8, 4), normal(num_images, 4, 4, 4)),
    mask_feature=normal(num_images, 16, 16, 4),
  )


def make_settings(**overrides):
  return make_loss_settings(LOSS | overrides, shared_cells="all")


def run(outputs, batch, mask_loss=dice, **overrides):
  return compiled(mask_loss, make_settings(**overrides))(outputs, batch)


@functools.cache
def compiled(mask_loss, settings):
  total = functools.partial(solov2_loss, settings=settings, mask_loss=mask_loss)
  return jax.jit(jax.value_and_grad(total, has_aux=True))


def assert_finite(tree):
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def test_packed_bits_equal_full_coverage():
  packed, _ = run(make_outputs(), make_batch())
  coverage, _ = run(make_outputs(), make_batch(packed=False))
  np.testing.assert_allclose(packed[0], coverage[0], rtol=1e-6)


def test_batch_without_objects_has_zero_mask_gradient():
  (loss, terms), gradient = run(make_outputs(), make_batch(masks=()))
  assert_finite((loss, gradient))
  assert terms["mask_loss"] == 0 and terms["num_positives"] == 0
  np.testing.assert_array_equal(gradient.mask_feature, 0)
  assert any((np.asarray(g) != 0).any() for g in gradient.category_logits)


def test_image_without_objects_gets_no_mask_gradient():
  _, gradient = run(make_outputs(), make_batch())
  assert_finite(gradient)
  assert (np.asarray(gradient.mask_feature[0]) != 0).any()
  np.testing.assert_array_equal(gradient.mask_feature[1], 0)


def test_more_positives_than_capacity_are_counted():
  squares = [(x, y, 18) for x in (0, 20, 40) for y in (0, 20, 40)]
  batch = make_batch(masks=squares)
  (_, full), _ = run(make_outputs(), batch, max_positives=200)
  (loss, terms), gradient = run(make_outputs(), batch, max_positives=10)
  assert_finite((loss, gradient))
  total = float(full["num_positives"]) * 2  # mean over two images
  assert float(terms["positives_dropped"]) == total - 10 > 0
  assert full["positives_dropped"] == 0


def test_one_pixel_object_is_finite():
  (loss, terms), gradient = run(make_outputs(), make_batch(masks=[(10, 11, 1)]))
  assert_finite((loss, gradient))
  assert terms["num_positives"] == 0.5  # one cell in one of two images


def test_invalid_image_counts_for_nothing():
  batch = make_batch()
  invalid = types.Batch(
    **{**vars(batch), "image_valid": np.array([True, False])}
  )
  outputs = make_outputs()
  (loss, _), gradient = run(outputs, invalid)
  first = jax.tree.map(lambda x: x[:1], (outputs, batch))
  (alone, _), _ = run(*first)
  np.testing.assert_allclose(loss, alone, rtol=1e-6)
  np.testing.assert_array_equal(gradient.category_logits[0][1], 0)


def test_mean_over_devices_is_the_global_loss():
  """Two mapped halves with unequal counts give the loss of the whole."""
  outputs, batch = make_outputs(), make_batch()
  (expected, _), _ = run(outputs, batch)
  halves = jax.tree.map(
    lambda x: x.reshape(2, 1, *x.shape[1:]), (outputs, batch)
  )

  def device_loss(outputs, batch):
    loss, _ = solov2_loss(outputs, batch, make_settings(), axis_name="devices")
    return jax.lax.pmean(loss, "devices")

  losses = jax.jit(jax.vmap(device_loss, axis_name="devices"))(*halves)
  np.testing.assert_allclose(losses, [expected] * 2, rtol=1e-6)


def test_another_mask_loss_takes_the_place_of_dice():
  """One number per mask: the mask loss is its mean over the positive pairs."""

  def area(logits, targets):
    assert len(logits) == 1 and logits[0].shape == targets.shape
    return jnp.sum(targets, axis=(1, 2)) + 0 * jnp.sum(logits[0], axis=(1, 2))

  # Squares of 20 px alone: masks of 5 x 5 cells, whatever the kernels are.
  batch = make_batch(masks=((8, 8, 20), (36, 36, 20)))
  (_, terms), gradient = run(make_outputs(), batch, mask_loss=area)
  np.testing.assert_allclose(terms["mask_loss"], 3.0 * 25)
  assert not np.any(gradient.mask_feature)


@pytest.mark.golden("loss_solov2*.npz")
def test_fixture(golden, golden_batch, golden_loss_settings):
  outputs = Outputs(
    golden.levels("cls_logit"),
    golden.levels("kernel_pred"),
    golden["mask_feats"].transpose(0, 2, 3, 1),
  )
  settings = dict(golden_loss_settings, mask_average="cells")
  (_, terms), gradient = run(outputs, golden_batch, **settings)
  np.testing.assert_allclose(terms["mask_loss"], golden["loss_mask"], 1e-4)
  np.testing.assert_allclose(terms["category_loss"], golden["loss_cls"], 1e-4)
  expected = Outputs(
    golden.levels("grad_cls_logit"),
    golden.levels("grad_kernel_pred"),
    golden["grad_mask_feats"].transpose(0, 2, 3, 1),
  )

  def close(actual, wanted):
    np.testing.assert_allclose(
      actual, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max() + 1e-8
    )

  jax.tree.map(close, gradient, expected)

  empty = types.Batch(
    **{**vars(golden_batch), "valid": np.zeros_like(golden_batch.valid)}
  )
  (_, terms), gradient = run(outputs, empty, **settings)
  np.testing.assert_allclose(
    terms["mask_loss"], golden["empty_batch_loss_mask"], atol=1e-6
  )
  np.testing.assert_allclose(
    terms["category_loss"], golden["empty_batch_loss_cls"], 1e-4
  )
  assert_finite(gradient)
