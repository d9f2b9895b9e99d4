"""Tests of solo_jax/methods/grid/refinement.py."""

import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.losses.chunks import CHUNK
from solo_jax.methods.grid.masks import Factor, dice
from solo_jax.methods.grid.refinement import (
  LIMIT,
  Refiner,
  even_points,
  make_head,
  pass_coarse,
  point_losses,
  refine,
  refined_sum,
  repeat,
)
from solo_jax.nn.resize import resize_bilinear
from tests.target_masks import pack_coverage

NUM_PAIRS = CHUNK + 1  # two chunks, the second one partly filled


def make_refiner(num_images=2):
  """Maps of 8 x 8 cells and of 4 x 4, and a head with random weights."""
  rng = np.random.default_rng(1)
  maps = tuple(
    jnp.asarray(rng.normal(size=(num_images, side, side, 2)), jnp.float32)
    for side in (8, 4)
  )
  head = make_head(3, jnp.float32)
  weights = jax.eval_shape(
    head.init, jax.random.key(0), jnp.ones((1, 4)), jnp.ones((1, 1))
  )
  weights = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32),
    weights["params"],
  )
  return maps, weights


def of_image(maps, weights, index=0):
  return Refiner(maps=tuple(x[index] for x in maps), weights=weights)


def make_case():
  """Two images of 32 px, masks of 8 x 8 refined to 16 x 16."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  factor = Factor(
    normal(2, 8, 8, 3), normal(2, NUM_PAIRS, 3), normal(2, NUM_PAIRS)
  )
  blocks = rng.random((2, 3, 8, 8)) > 0.5
  coverage = np.uint8(255) * blocks.repeat(2, axis=2).repeat(2, axis=3)
  batch = python_types.SimpleNamespace(
    masks=pack_coverage(coverage, 2),
    boxes_xyxy=jnp.asarray(
      np.sort(rng.uniform(0, 32, (2, 3, 2, 2)), axis=2).reshape(2, 3, 4),
      jnp.float32,
    ),
  )
  pairs = python_types.SimpleNamespace(
    instance=jnp.asarray(rng.integers(0, 3, (2, NUM_PAIRS))),
    valid=jnp.arange(NUM_PAIRS) < jnp.array([[NUM_PAIRS], [2]]),
  )
  return factor, batch, pairs, jnp.asarray(blocks, jnp.float32)


def plain_sum(factor, maps, weights, batch, pairs, blocks):
  """The same pair by pair, which JAX differentiates."""
  total = 0.0
  for i in range(2):
    logits = jnp.einsum("pe,hwe->phw", factor.kernel[i], factor.feature[i])
    logits += factor.bias[i][:, None, None]
    owner, refiner = pairs.instance[i], of_image(maps, weights, i)
    masks = jax.tree.map(
      lambda x, i=i, owner=owner: jnp.asarray(x)[i][owner], batch.masks
    )
    values = dice((logits,), blocks[i][owner])
    boxes = batch.boxes_xyxy[i][owner] / 32
    values += point_losses(refiner, logits, boxes, masks)
    total += jnp.sum(jnp.where(pairs.valid[i], values, 0.0))
  return total


def test_sum_and_gradients_equal_plain_code():
  factor, batch, pairs, blocks = make_case()
  maps, weights = make_refiner()

  def actual(factor, maps, weights):
    refiner = Refiner(maps=maps, weights=repeat(weights, 2))
    return refined_sum(factor, refiner, batch, pairs, mask_loss=dice)

  def expected(*args):
    return plain_sum(*args, batch, pairs, blocks)

  found, wanted = (
    jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))(factor, maps, weights)
    for f in (actual, expected)
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-4),
    found,
    wanted,
  )
  # The head, both maps and the coarse masks are trained by it.
  assert all(np.abs(x).max() > 1e-3 for x in jax.tree.leaves(found[1][1:]))


def test_points_are_those_of_a_box_and_its_margin():
  """The object covers just these: a certain mask is right at each of them."""
  masks = np.zeros((1, 8, 8), np.uint8)
  masks[:, 3:7, 3:7] = 255  # without the fading rim, 3.5 to 6.5 cells
  refiner = pass_coarse((jnp.zeros((1, 1, 1, 1)),))
  refiner = jax.tree.map(lambda x: x[0], refiner)
  box = jnp.array([[0.5, 0.5, 0.75, 0.75]])  # 4 to 6 cells
  losses = jax.jit(point_losses)
  for logit, wanted in ((0.0, np.log(2)), (99.0, 0.0), (-99.0, LIMIT)):
    logits = jnp.full((1, 4, 4), logit)
    (loss,) = losses(refiner, logits, box, pack_coverage(masks, 2))
    assert float(loss) == pytest.approx(wanted, abs=1e-3)


def test_all_points_refined_are_a_dense_evaluation():
  maps, weights = make_refiner()
  refiner = of_image(maps, weights)
  rng = np.random.default_rng(2)
  logits = jnp.asarray(rng.uniform(-5, 5, (3, 6, 9)), jnp.float32)
  # 216 cells of 784.
  found = jax.jit(refine)(refiner, 1 / (1 + np.exp(-logits)))
  assert found.shape == (3, 12, 18)
  y, x = np.meshgrid(np.arange(12), np.arange(18), indexing="ij")
  points = np.stack([(x + 0.5) / 18, (y + 0.5) / 12], -1).reshape(1, -1, 2)
  points = jnp.asarray(np.tile(points, (3, 1, 1)), jnp.float32)

  @jax.jit
  def evaluate(refiner, points):
    enlarged = resize_bilinear(logits[..., None], (12, 18)).reshape(3, -1)
    return jax.nn.sigmoid(refiner.logits(points, enlarged))

  wanted = evaluate(refiner, points).reshape(3, 12, 18)
  # At the rim a map fades to 0, as published, where resizing repeats it.
  inner = np.s_[:, 1:-1, 1:-1]
  np.testing.assert_allclose(found[inner], wanted[inner], atol=1e-4)


def test_cells_of_certain_probability_are_not_refined():
  maps, weights = make_refiner()
  probs = jnp.where(jnp.arange(6) < 3, 1.0, 0.0)
  probs = jnp.broadcast_to(probs, (1, 196, 6))  # 784 cells along an edge
  found = np.asarray(jax.jit(refine)(of_image(maps, weights), probs))[0]
  bound = jax.nn.sigmoid(LIMIT)
  np.testing.assert_allclose(found[:, :5], bound, atol=1e-6)
  np.testing.assert_allclose(found[:, 7:], 1 - bound, atol=1e-6)
  halfway = jax.nn.sigmoid(LIMIT / 2)
  assert (np.abs(found[:, 5] - halfway) > 1e-3).all()


def test_even_points_are_even_from_any_place_on():
  points = np.asarray(even_points(400))
  assert points.min() >= 0 and points.max() < 1
  for part in (points, points[300:]):
    _, counts = np.unique(np.floor(part * 2), axis=0, return_counts=True)
    np.testing.assert_allclose(counts, len(part) / 4, rtol=0.08)
