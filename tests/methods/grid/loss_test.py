"""Tests of solo_jax/methods/grid/loss.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.methods.grid.loss import cell_loss, make_loss_settings
from tests.target_masks import pack_bits

LOSS = dict(
  scale_ranges=((1.0, 64.0),),
  center_sigma=0.2,
  max_positives=8,
  category_weight=2.0,
  mask_weight=3.0,
  focal_alpha=0.25,
  focal_gamma=2.0,
)
# Three 10 px boxes on a grid of 4 x 4 cells of 16 px; two share a centre cell.
CENTERS = ((24.0, 40.0), (24.0, 40.0), (56.0, 8.0))


def make_batch(num_valid):
  boxes = [(x - 5, y - 5, x + 5, y + 5) for x, y in CENTERS]
  return types.Batch(
    image=jnp.zeros((2, 64, 64, 3), jnp.uint8),
    image_size=jnp.full((2, 2), 64),
    image_valid=jnp.array([True, False]),  # the second counts for nothing
    masks=pack_bits(np.zeros((2, 3, 16, 16)), stride=4),
    centers=jnp.array([CENTERS] * 2),
    boxes_xyxy=jnp.array([boxes] * 2, jnp.float32),
    labels=jnp.array([[0, 1, 0]] * 2),
    valid=jnp.array([np.arange(3) < num_valid] * 2),
    num_dropped=jnp.array([4, 0]),
    row=jnp.arange(2),
  )


@functools.lru_cache
def jitted(shared_cells="all", **settings):
  return jax.jit(
    lambda logits, batch: cell_loss(
      (logits,),
      batch,
      lambda targets: jnp.sum(targets.valid * 0.5),  # dice of 0.5 a mask
      make_loss_settings(settings, shared_cells=shared_cells),
      None,
    )
  )


def run(num_valid, **overrides):
  logits = jnp.zeros((2, 4, 4, 2))
  return jitted(**{**LOSS, **overrides})(logits, make_batch(num_valid))


def test_grid_loss_by_hand():
  loss, terms = run(3)
  # At logit 0 every answer has focal loss alpha_t / 4 log 2: two positive
  # cells of 16 * 2 logits, one foreground answer each.
  focal = (2 * 0.25 + 30 * 0.75) / 4 * np.log(2)
  np.testing.assert_allclose(terms["category_loss"], 2 * focal / (2 + 1), 1e-6)
  np.testing.assert_allclose(terms["mask_loss"], 3 * 0.5, 1e-6)
  np.testing.assert_allclose(
    loss, terms["category_loss"] + terms["mask_loss"], 1e-6
  )
  assert terms["num_positives"] == 1.5  # 3 pairs, 2 images
  assert terms["instances_dropped"] == 4 and terms["positives_dropped"] == 0


def test_what_the_mask_loss_is_divided_by():
  _, cells = run(3, mask_average="cells")
  np.testing.assert_allclose(cells["mask_loss"], 3 * 3 * 0.5 / 2, 1e-6)
  # Where the later instance takes a shared cell there is one pair to a cell.
  _, last = run(3, mask_average="cells", shared_cells="last")
  np.testing.assert_allclose(last["mask_loss"], 3 * 0.5, 1e-6)


def test_an_image_without_instances_has_no_mask_loss():
  loss, terms = run(0)
  focal = 32 * 0.75 / 4 * np.log(2)
  np.testing.assert_allclose(loss, 2 * focal / (0 + 1), 1e-6)
  assert terms["mask_loss"] == 0


def test_small_terms_are_not_rounded_away_by_large_ones():
  """Two positives that cost 50 each, 32,000 sure negatives of 7.5e-7."""
  logits = np.full((2, 4, 4, 2002), -4.6, np.float32)
  logits[..., :2] = -200.0
  _, terms = jitted(**LOSS)(jnp.asarray(logits), make_batch(3))
  p = 1 / (1 + np.exp(4.6))
  negatives = 16 * 2000 * -0.75 * p**2 * np.log1p(-p)
  expected = 2 * (2 * 0.25 * 200 + negatives) / (2 + 1)
  np.testing.assert_allclose(terms["category_loss"], expected, rtol=1e-6)
