"""Tests of solo_jax/losses/spatial_embedding.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.losses import spatial_embedding
from solo_jax.losses.instance_means import instance_means
from tests.target_masks import pack_rows

membership = jax.jit(spatial_embedding.membership)
mask_loss = jax.jit(spatial_embedding.mask_loss, static_argnames="kind")
spread_loss = jax.jit(spatial_embedding.spread_loss)


def membership_by_loops(embedding, centers, log_precision):
  """sigmoid(4 (1 - d^2 / r^2)) with log_precision = log(1 / r^2)."""
  probs = np.zeros((len(centers), len(embedding)))
  for n, (center, log) in enumerate(zip(centers, log_precision, strict=True)):
    for q, point in enumerate(embedding):
      logit = 4 * (1 - np.exp(log) * np.sum((point - center) ** 2))
      probs[n, q] = 1 / (1 + np.exp(-logit))
  return probs


def dice_by_loops(probs, weights):
  """1 - 2 p.t / (p.p + t.t), with 1e-3 added to both squares."""
  rows = zip(probs, weights, strict=True)
  return np.array([1 - 2 * (p @ t) / (p @ p + t @ t + 2e-3) for p, t in rows])


def lovasz_by_sets(probs, weights):
  """Lovasz hinge of 2 p - 1: IoUs of sets of pixels, the worst errors first."""
  losses = []
  for p, true in zip(probs, weights > 0.5, strict=True):
    errors = 1 - (2 * p - 1) * np.where(true, 1, -1)
    truth = set(np.flatnonzero(true))
    found, iou, total = set(truth), 1.0, 0.0
    for q in np.argsort(-errors):
      found ^= {int(q)}
      union = len(found | truth)
      step = iou - (len(found & truth) / union if union else 1.0)
      total, iou = total + max(errors[q], 0) * step, iou - step
    losses.append(total)
  return np.array(losses)


def spread_by_loops(log_precision, means, weights):
  """Eq. 10: the variance of the bandwidth within each instance."""
  rows = zip(means, weights, strict=True)
  return np.array(
    [np.average((log_precision - m) ** 2, weights=w) for m, w in rows]
  )


def slopes(function, x):
  """Central differences in float64, one element at a time."""
  steps = 1e-6 * np.eye(x.size).reshape(-1, *x.shape)
  rises = [function(x + step) - function(x - step) for step in steps]
  return np.reshape(rises, x.shape) / 2e-6


@pytest.fixture
def scene():
  """Embedding of 16 pixels, centres and log precisions of 3 instances."""
  rng = np.random.default_rng(4)
  return (
    np.float32(rng.normal(size=(16, 2))),
    np.float32(rng.normal(size=(3, 2))),
    np.float32(rng.normal(size=3)),
  )


@pytest.fixture
def masks():
  """Three overlapping masks of 16 pixels, one of a single pixel. [3, 16]."""
  bits = np.random.default_rng(5).random((3, 16)) > 0.5
  bits[2] = np.arange(16) == 4
  return bits


def test_membership_equals_the_loops(scene):
  expected = membership_by_loops(*map(np.float64, scene))
  np.testing.assert_allclose(membership(*scene), expected, atol=1e-5)


def test_membership_is_one_half_at_the_radius():
  radius = 3.0
  probs = membership(
    np.float32([[0, 0], [radius, 0], [0, 2 * radius]]),
    np.zeros((1, 2), np.float32),
    np.float32([-2 * np.log(radius)]),
  )
  sigmoid = 1 / (1 + np.exp([-4.0, 0.0, 12.0]))
  np.testing.assert_allclose(probs[0], sigmoid, rtol=1e-4)


def test_each_instance_has_its_own_radius():
  """A pixel between two centres belongs to the wide one, or to both."""
  middle = np.float32([[0.0]])
  centers = np.float32([[-1.0], [1.0]])
  narrow_and_wide = np.float32(np.log([4.0, 0.25]))  # radii 1/2 and 2
  probs = np.asarray(membership(middle, centers, narrow_and_wide))
  np.testing.assert_allclose(
    probs[:, 0], 1 / (1 + np.exp([12.0, -3.0])), rtol=1e-4
  )
  both = membership(middle, centers, narrow_and_wide[[1, 1]])
  np.testing.assert_array_equal(both > 0.5, True)


@pytest.mark.parametrize("kind", ["dice", "lovasz"])
def test_the_published_sum_and_its_gradient(masks, kind):
  """Centres and radii are means of maps, and gradients flow through them."""
  rng = np.random.default_rng(8)
  embedding = rng.normal(size=(16, 2))
  log_precision = 0.5 * rng.normal(size=16)
  packed = pack_rows(masks[None])

  def by_loops(embedding, log_precision):
    centers = np.array([embedding[mask].mean(axis=0) for mask in masks])
    radii = np.array([log_precision[mask].mean() for mask in masks])
    probs = membership_by_loops(embedding, centers, radii)
    compare = dict(dice=dice_by_loops, lovasz=lovasz_by_sets)[kind]
    return (
      compare(probs, np.float64(masks)).sum()
      + spread_by_loops(log_precision, radii, np.float64(masks)).sum()
    )

  @jax.jit
  @jax.value_and_grad
  def loss(maps):
    embedding, log_precision = maps
    valid = jnp.ones((1, len(masks)), bool)
    centers = instance_means(embedding[None], packed, valid)[0][0]
    radii = instance_means(log_precision[None, :, None], packed, valid)
    radii = radii[0][0, :, 0]
    weights = packed.unpack().reshape(-1, 16)
    masks_lost, _ = mask_loss(
      membership(embedding, centers, radii), weights, kind=kind
    )
    spread = spread_loss(log_precision, radii, weights)
    return jnp.sum(masks_lost) + jnp.sum(spread)

  value, (by_embedding, by_precision) = loss(
    (np.float32(embedding), np.float32(log_precision))
  )
  np.testing.assert_allclose(
    value, by_loops(embedding, log_precision), rtol=1e-5
  )
  np.testing.assert_allclose(
    by_embedding,
    slopes(lambda x: by_loops(x, log_precision), embedding),
    rtol=1e-4,
    atol=2e-5,
  )
  np.testing.assert_allclose(
    by_precision,
    slopes(lambda x: by_loops(embedding, x), log_precision),
    rtol=1e-4,
    atol=2e-5,
  )


def test_losses_by_hand():
  probs = np.float32([[1.0, 0.75, 0.25, 0.0]])
  weights = np.float32([[1, 0, 1, 0]])
  # Shared 1.25; squares 1.625 and 2.
  dice, iou = mask_loss(probs, weights, kind="dice")
  np.testing.assert_allclose(dice, [1 - 2.5 / 3.627], rtol=1e-5)
  np.testing.assert_allclose(iou, [1 / 3], rtol=1e-6)  # of 1100 and 1010
  # Hinge errors 0, 1.5, 1.5 and 0: the two wrong pixels take the IoU to 1/3.
  lovasz, _ = mask_loss(probs, weights, kind="lovasz")
  np.testing.assert_allclose(lovasz, [1.5 * 2 / 3], rtol=1e-5)
  # (1 - 2)^2 and (4 - 2)^2 of weights 1 and 1/2.
  spread = spread_loss(
    np.float32([1, 4, 9]), np.float32([2]), np.float32([[1, 0.5, 0]])
  )
  np.testing.assert_allclose(spread, [(1 + 0.5 * 4) / 1.5], rtol=1e-6)


def test_only_dice_sees_partial_coverage():
  probs = np.float32([[0.9, 0.6]])
  whole, half = np.float32([[1, 0]]), np.float32([[1, 0.5]])
  losses = {
    kind: [mask_loss(probs, w, kind=kind)[0][0] for w in (whole, half)]
    for kind in ("dice", "lovasz")
  }
  assert losses["dice"][1] < losses["dice"][0]
  assert losses["lovasz"][1] == losses["lovasz"][0]


def test_perfect_masks_lose_nothing():
  weights = np.float32([[1, 1, 0, 0], [0, 0, 0, 1]])
  for kind in ("dice", "lovasz"):
    loss, iou = mask_loss(weights, weights, kind=kind)
    np.testing.assert_allclose(loss, 0, atol=2e-3)  # dice adds 1e-3
    np.testing.assert_array_equal(iou, 1)


def test_empty_masks_are_defined():
  empty = np.zeros((1, 4), np.float32)
  assert spread_loss(np.ones(4, np.float32), np.ones(1), empty) == 0
  # Without a true pixel dice is 1, and the hinge the worst false alarm.
  for kind, expected in (("dice", 1), ("lovasz", 1 + 2 * 0.3 - 1)):
    (loss, iou), gradient = jax.jit(
      jax.value_and_grad(
        lambda p, kind=kind: tuple(
          jnp.sum(x) for x in mask_loss(p, empty, kind=kind)
        ),
        has_aux=True,
      )
    )(jnp.full((1, 4), 0.3))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert iou == 0
    assert np.isfinite(gradient).all()


def test_order_and_padding_do_not_matter(scene, masks):
  embedding, centers, log_precision = scene
  weights = np.float32(masks)
  order = np.random.default_rng(6).permutation(16)
  # Pixels shuffled, with two more distant ones that belong to nothing.
  far = np.concatenate([embedding[order], np.full((2, 2), 40, np.float32)])
  mixed = np.pad(weights[::-1, order], [(0, 0), (0, 2)])
  probs = np.asarray(membership(embedding, centers, log_precision))
  moved = np.asarray(membership(far, centers[::-1], log_precision[::-1]))
  np.testing.assert_allclose(moved[:, :16], probs[::-1, order], atol=2e-5)
  np.testing.assert_array_equal(moved[:, 16:] < 1e-6, True)
  for kind in ("dice", "lovasz"):
    loss, iou = jax.device_get(mask_loss(probs, weights, kind=kind))
    moved_loss, moved_iou = mask_loss(moved, mixed, kind=kind)
    np.testing.assert_allclose(moved_loss, loss[::-1], atol=5e-5)
    np.testing.assert_allclose(moved_iou, iou[::-1], rtol=1e-6)
  bandwidth = embedding[:, 0]
  np.testing.assert_allclose(
    spread_loss(far[:, 0], log_precision[::-1], mixed),
    np.flip(spread_loss(bandwidth, log_precision, weights)),
    rtol=1e-5,
  )


def test_an_unknown_mask_loss_lists_the_known_ones():
  one = np.ones((1, 1), np.float32)
  with pytest.raises(ValueError, match="'dice' or 'lovasz', not 'iou'"):
    mask_loss(one, one, kind="iou")
