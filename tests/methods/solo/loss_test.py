"""Tests of solo_jax/methods/solo/loss.py, for both kinds of masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.methods.grid.loss import cell_loss, make_loss_settings
from solo_jax.methods.solo.loss import coarsen_masks, loss_on_masks, solo_loss
from solo_jax.methods.solo.network import LevelFactor, Outputs
from tests.target_masks import pack_bits, pack_coverage

LOSS = dict(
  scale_ranges=((1.0, 32.0), (16.0, 64.0)),
  center_sigma=0.2,
  max_positives=16,
  category_weight=1.0,
  mask_weight=3.0,
  focal_alpha=0.25,
  focal_gamma=2.0,
)


def make_batch(squares=((5, 5, 9), (30, 20, 20))):
  """Two 64 px images with square objects (x, y, side) in the first one."""
  n = 2
  full = np.zeros((2, n, 64, 64), np.uint8)
  boxes = np.zeros((2, n, 4), np.float32)
  centers = np.zeros((2, n, 2), np.float32)
  valid = np.zeros((2, n), bool)
  for i, (x, y, side) in enumerate(squares):
    full[0, i, y : y + side, x : x + side] = 1
    boxes[0, i] = x, y, x + side, y + side
    centers[0, i] = x + (side - 1) / 2, y + (side - 1) / 2
    valid[0, i] = True
  bits = full[:, :, 1::4, 1::4]
  return types.Batch(
    image=np.zeros((2, 64, 64, 3), np.uint8),
    image_size=np.full((2, 2), 64, np.int32),
    image_valid=np.ones(2, bool),
    masks=pack_coverage(255 * bits, stride=4),
    centers=centers,
    boxes_xyxy=boxes,
    labels=np.zeros((2, n), np.int32),
    valid=valid,
    num_dropped=np.zeros(2, np.int32),
    row=np.arange(2, dtype=np.int32),
  )


def make_outputs(seed=0):
  """Levels of strides 8 and 16, so masks of 16 x 16 and 8 x 8."""
  rng = np.random.default_rng(seed)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  def factor(side, num_cells):
    return LevelFactor(
      normal(2, side, side, 4), normal(num_cells, 4), normal(num_cells)
    )

  return Outputs(
    category_logits=(normal(2, 8, 8, 3), normal(2, 4, 4, 3)),
    factors=((factor(8, 64),), (factor(8, 16), factor(4, 16))),
    mask_sizes=((16, 16), (8, 8)),
  )


@functools.lru_cache
def jitted(loss, **settings):
  """One compiled function for all calls with the same settings."""
  settings = make_loss_settings(settings, shared_cells="last")

  def total(outputs, *batch_and_masks):
    return loss(outputs, *batch_and_masks, settings)

  return jax.jit(jax.value_and_grad(total, has_aux=True))


def run(outputs, *batch_and_masks, loss=solo_loss, **overrides):
  batch_and_masks = jax.tree.map(jnp.asarray, batch_and_masks)
  return jitted(loss, **{**LOSS, **overrides})(outputs, *batch_and_masks)


def assert_finite(tree):
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def test_batch_without_objects_has_zero_mask_gradient():
  (loss, terms), gradient = run(make_outputs(), make_batch(squares=()))
  assert_finite((loss, gradient))
  assert terms["mask_loss"] == 0 and terms["num_positives"] == 0
  assert all(not np.any(x) for x in jax.tree.leaves(gradient.factors))
  assert all(np.any(x) for x in gradient.category_logits)


def test_image_without_objects_gets_no_mask_gradient():
  _, gradient = run(make_outputs(), make_batch())
  assert_finite(gradient)
  for factors in gradient.factors:
    for factor in factors:
      assert np.any(factor.feature[0]) and not np.any(factor.feature[1])
      assert np.any(factor.kernel) and np.any(factor.bias)


def test_only_cells_with_an_instance_get_a_gradient():
  # One 10 px square about (20, 44): cell (5, 2) of 8 x 8 and no other level.
  _, gradient = run(make_outputs(), make_batch(squares=[(15, 39, 10)]))
  bias = np.asarray(gradient.factors[0][0].bias)
  np.testing.assert_array_equal(np.flatnonzero(bias), [5 * 8 + 2])
  assert not any(np.any(f.bias) for f in gradient.factors[1])


def written_out(outputs, batch, settings):
  """The loss with every mask of image 0 computed, then picked."""

  def dice(targets):
    total = 0.0
    ends = np.cumsum([len(f[0].bias) for f in outputs.factors])
    for factors, size, end in zip(
      outputs.factors, outputs.mask_sizes, ends, strict=True
    ):
      probs = 1.0
      for f in factors:
        feature = jax.image.resize(
          f.feature[0], (*size, f.feature.shape[-1]), "bilinear"
        )
        logits = jnp.einsum("hwe,ge->ghw", feature, f.kernel)
        probs *= jax.nn.sigmoid(logits + f.bias[:, None, None])
      cell = targets.cell[0] - (end - len(factors[0].bias))
      here = (cell >= 0) & (targets.cell[0] < end) & targets.valid[0]
      mask = probs[jnp.where(here, cell, 0)]  # [P, h, w]
      wanted = coarsen_masks(batch.masks, size).unpack()[0]
      wanted = wanted[targets.instance[0]]
      overlap = 2 * (mask * wanted).sum((1, 2))
      sizes = (mask**2).sum((1, 2)) + (wanted**2).sum((1, 2)) + 2e-3
      total += jnp.sum(jnp.where(here, 1 - overlap / sizes, 0.0))
    return total

  return cell_loss(outputs.category_logits, batch, dice, settings, None)


def test_gradient_equals_that_of_the_masks_written_out():
  batch = make_batch()
  expected = run(make_outputs(), batch, loss=written_out)
  actual = run(make_outputs(), batch)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
    actual,
    expected,
  )


def test_mean_over_devices_is_the_global_loss():
  """Two mapped images with unequal counts give the loss of the batch."""
  outputs, batch = make_outputs(), make_batch()
  (expected, _), _ = run(outputs, batch)

  def device_loss(image):
    def one(x):
      return jax.lax.dynamic_slice_in_dim(x, image, 1)

    part = Outputs(
      jax.tree.map(one, outputs.category_logits),
      jax.tree.map(
        lambda f: LevelFactor(one(f.feature), f.kernel, f.bias),
        outputs.factors,
        is_leaf=lambda x: isinstance(x, LevelFactor),
      ),
      outputs.mask_sizes,
    )
    loss, _ = solo_loss(
      part,
      jax.tree.map(one, jax.tree.map(jnp.asarray, batch)),
      make_loss_settings(LOSS, shared_cells="last"),
      axis_name="devices",
    )
    return jax.lax.pmean(loss, "devices")

  losses = jax.jit(jax.vmap(device_loss, axis_name="devices"))(jnp.arange(2))
  np.testing.assert_allclose(losses, [expected] * 2, rtol=1e-6)


def test_coarse_bits_are_the_votes_of_the_four_central_ones():
  bits = np.zeros((1, 1, 8, 8), np.uint8)
  bits[0, 0, 1:3, 1] = 1  # two of the central four of the first 4 x 4 block
  bits[0, 0, 0, 4:8] = 1  # four, none of them central
  result = coarsen_masks(pack_bits(bits, stride=4), (2, 2))
  assert (result.encoding, result.stride) == ("coverage", 16)
  np.testing.assert_array_equal(result.unpack()[0, 0], [[1, 0], [0, 0]])
  result = coarsen_masks(pack_bits(bits), (4, 4))
  np.testing.assert_array_equal(
    result.unpack()[0, 0], [[0, 0, 1, 1], [0, 0, 0, 0], [0] * 4, [0] * 4]
  )


def test_coarse_coverage_is_the_mean():
  coverage = np.array([[255, 0], [128, 1]], np.uint8)[None, None]
  assert coarsen_masks(pack_coverage(coverage), (1, 1)).data.item() == 96


def test_masks_cannot_be_refined():
  with pytest.raises(ValueError, match="masks of 32 rows from 16.*strides"):
    coarsen_masks(pack_coverage(np.zeros((1, 1, 16, 16))), (32, 32))


@pytest.mark.golden("targets_solo[!v]*npz")
def test_target_masks_of_a_fixture(golden, golden_masks, golden_coverage):
  """At stride 4 the published bits; coarser ones of ours come close."""
  stride4 = golden_coverage[0]
  for level, expected in enumerate(golden_coverage):
    height, width = golden["mask_target_hw"][level]
    cells = golden[f"pos_index_{level}"]
    owners = golden[f"cell_last_gt_{level}"].ravel()[cells]
    wanted = golden.masks(f"pos_mask_target_packed_{level}", (height, width))
    np.testing.assert_array_equal(expected.unpack()[0, owners] > 0, wanted)
    ours = np.asarray(coarsen_masks(stride4, (height, width)).data)
    ours = ours[0, owners] > 0
    shared, union = (ours & wanted).sum(), (ours | wanted).sum()
    assert shared / union > (0.999 if level < 2 else 0.9)


def fixture_outputs(golden, prefix=""):
  """Outputs whose features are the file's logits of all cells."""
  factors = []
  grids = golden.config["num_grids"]
  names = [n for n in ("mask", "mask_x", "mask_y")
           if f"{n}_logit_0" in golden.arrays]  # fmt: skip
  levels = [golden.levels(f"{prefix}{name}_logit") for name in names]
  for level, num_grid in enumerate(grids):
    row, column = (x.ravel() for x in np.mgrid[:num_grid, :num_grid])
    picks = dict(mask=np.arange(num_grid**2), mask_x=column, mask_y=row)
    level_factors = []
    for name, arrays in zip(names, levels, strict=True):
      feature = arrays[level]
      if len(feature) == 1:  # image 1 has no instance: its logits are left out
        feature = np.concatenate([feature, np.zeros_like(feature)])
      kernel = np.eye(feature.shape[-1], dtype=np.float32)[picks[name]]
      level_factors.append(
        LevelFactor(feature, kernel, np.zeros(num_grid**2, np.float32))
      )
    factors.append(tuple(level_factors))
  return Outputs(
    golden.levels(f"{prefix}cls_logit"),
    tuple(factors),
    tuple(f[0].feature.shape[1:3] for f in factors),
  )


@pytest.mark.golden("loss_solo[!v]*npz", "loss_decoupled*.npz")
def test_fixture(golden, golden_batch, golden_coverage, golden_loss_settings):
  outputs = fixture_outputs(golden)
  (_, terms), gradient = run(
    outputs,
    golden_batch,
    golden_coverage,
    loss=loss_on_masks,
    **golden_loss_settings,
  )
  np.testing.assert_allclose(terms["mask_loss"], golden["loss_mask"], 1e-4)
  np.testing.assert_allclose(terms["category_loss"], golden["loss_cls"], 1e-4)
  expected = fixture_outputs(golden, prefix="grad_")

  def close(actual, wanted):
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(actual, wanted, 1e-4, 1e-4 * scale + 1e-8)

  jax.tree.map(close, gradient.category_logits, expected.category_logits)
  for actual, wanted in zip(gradient.factors, expected.factors, strict=True):
    for f, g in zip(actual, wanted, strict=True):
      close(f.feature, g.feature)
