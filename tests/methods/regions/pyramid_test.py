"""Tests of solo_jax/methods/regions/pyramid.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.regions import pyramid as module
from solo_jax.methods.regions.pyramid import Pooling, pool_boxes

find_levels = jax.jit(module.find_levels, static_argnums=1)

# The three code bases' rules: base level, epsilons, alignment, samples.
RULES = {
  "tv": dict(
    base_level=2,
    ratio_epsilon=0.0,
    log_epsilon=1e-6,
    is_aligned=False,
    num_samples=2,
  ),
  "mmdet": dict(
    base_level=0,
    ratio_epsilon=1e-6,
    log_epsilon=0.0,
    is_aligned=True,
    num_samples=None,
  ),
  "d2": dict(
    base_level=2,
    ratio_epsilon=1e-8,
    log_epsilon=0.0,
    is_aligned=True,
    num_samples=None,
  ),
}


def squares(*side):
  return np.array([[5, 5, 5 + s, 5 + s] for s in side], np.float32)


def test_levels_by_hand():
  for name, rule in RULES.items():
    base_size = 56.0 if name == "mmdet" else 224.0
    found = find_levels(
      squares(0, 10, 111, 113, 225, 449, 5000),
      Pooling(base_size=base_size, **rule),
    )
    np.testing.assert_array_equal(found, [0, 0, 0, 1, 2, 3, 3])


def test_a_box_reads_its_own_level_and_takes_no_gradient():
  pyramid = [
    jnp.full((1, 64 // s, 64 // s, 1), level + 1.0)
    for level, s in enumerate((4, 8, 16, 32))
  ]
  pooling = Pooling(base_size=8.0, **RULES["mmdet"])
  boxes = squares(7, 17, 20, 70)[None]
  valid = np.array([[True, True, False, True]])

  def total(boxes):
    pooled = pool_boxes(pyramid, boxes, valid, size=2, pooling=pooling)
    return jnp.sum(pooled), pooled

  gradient, pooled = jax.jit(jax.grad(total, has_aux=True))(boxes)
  pooled = np.asarray(pooled)
  np.testing.assert_allclose(pooled[0, :, 0, 0, 0], [1, 2, 0, 4])
  assert not np.asarray(gradient).any()


@pytest.mark.golden("rcnn_roi_align*.npz")
def test_fixture(golden):
  case = golden.config["pyramid"]
  rois = golden["pyramid_rois"]
  pyramid = [golden[f"pyramid_{i}"].transpose(0, 2, 3, 1) for i in range(4)]
  belongs = rois[:, 0] == np.arange(len(pyramid[0]))[:, None]
  boxes = np.broadcast_to(rois[:, 1:], (*belongs.shape, 4))
  levels = {"tv": "level_tv", "mmdet": "level_mmdet", "d2": "level_d2_formula"}
  for name, rule in RULES.items():
    size = case["canonical_scale"] / (4 if name == "mmdet" else 1)
    pooling = Pooling(base_size=size, **rule)
    sure = golden[f"level_sure_{name}"]
    found = find_levels(rois[:, 1:], pooling)
    np.testing.assert_array_equal(found[sure], golden[levels[name]][sure])
    if name == "d2":
      continue
    found = pool_boxes(
      pyramid, boxes, belongs, size=case["output_size"], pooling=pooling
    )
    found = np.asarray(found).sum(0)
    np.testing.assert_allclose(
      found.transpose(0, 3, 1, 2)[sure],
      golden[f"pyramid_out_{name}"][sure],
      rtol=2e-5,
      atol=2e-5,
    )
