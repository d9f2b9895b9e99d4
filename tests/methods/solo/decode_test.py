"""Tests of solo_jax/methods/solo/decode.py, for both kinds of masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.grouping.points_nms import points_nms
from solo_jax.methods.grid.decode import DecodeSettings, decode_candidates
from solo_jax.methods.solo.decode import make_grids
from solo_jax.methods.solo.network import LevelFactor, Outputs
from solo_jax.nn.resize import resize_bilinear

SETTINGS = dict(
  strides=(8, 16),
  score_threshold=0.1,
  mask_threshold=0.5,
  max_candidates=64,
  nms_candidates=64,
  nms_kernel="gaussian",
  nms_sigma=2.0,
  update_threshold=0.05,
  max_detections=8,
)


def make_outputs(num_images=1, seed=0):
  """Random outputs: 6 x 6 cells with one factor, 4 x 4 cells with two."""
  rng = np.random.default_rng(seed)

  def normal(*shape, mean=0.0):
    return jnp.asarray(rng.normal(mean, 1.5, shape), jnp.float32)

  def factor(side, num_cells):
    return LevelFactor(
      normal(num_images, side, side, 5), normal(num_cells, 5), normal(num_cells)
    )

  return Outputs(
    (
      normal(num_images, 6, 6, 3, mean=-2.5),
      normal(num_images, 4, 4, 3, mean=-2.5),
    ),
    ((factor(8, 36),), (factor(4, 16), factor(8, 16))),
    ((16, 16), (8, 8)),
  )


@functools.lru_cache
def jitted(**settings):
  """One compiled function for all calls with the same settings."""
  return jax.jit(
    lambda outputs: decode_candidates(
      make_grids(outputs), DecodeSettings(**settings)
    )
  )


def run(outputs, **overrides):
  return jitted(**{**SETTINGS, **overrides})(outputs)


def test_masks_are_those_of_the_cells():
  """Without suppression, each mask is its cell's, computed one by one."""
  outputs = make_outputs()
  result = run(
    outputs,
    score_threshold=0.2,
    nms_sigma=0.0,
    update_threshold=0.0,
    max_detections=64,
    strides=(0, 0),
  )
  probs = [np.asarray(jax.nn.sigmoid(x[0])) for x in outputs.category_logits]
  found = {}
  for level, side in ((0, 6), (1, 4)):
    padded = np.pad(probs[level], [(1, 0), (1, 0), (0, 0)])
    for i, j, k in np.ndindex(side, side, 3):
      score = probs[level][i, j, k]
      if score <= 0.2 or score < padded[i : i + 2, j : j + 2, k].max():
        continue
      mask = 1.0
      for f in outputs.factors[level]:
        logits = f.feature[0] @ f.kernel[side * i + j] + f.bias[side * i + j]
        logits = resize_bilinear(
          logits[None, ..., None], outputs.mask_sizes[level]
        )
        mask *= resize_bilinear(jax.nn.sigmoid(logits), (16, 16))[0, ..., 0]
      inside = np.asarray(mask)[np.asarray(mask) > 0.5]
      if inside.size:
        found[float(score * inside.mean())] = (k, np.asarray(mask))
  assert len(found) == int(result.valid.sum()) > 16
  for n, score in enumerate(sorted(found, reverse=True)):
    label, mask = found[score]
    np.testing.assert_allclose(result.scores[0, n], score, 1e-5)
    assert result.labels[0, n] == label
    np.testing.assert_allclose(result.masks.probs[0, n], mask, atol=1e-6)


def test_batch_equals_one_by_one():
  outputs = make_outputs(num_images=3)
  together = run(outputs)
  for i in range(3):

    def one(x, i=i):
      return x[i : i + 1]

    alone = Outputs(
      jax.tree.map(one, outputs.category_logits),
      tuple(
        tuple(LevelFactor(one(f.feature), f.kernel, f.bias) for f in factors)
        for factors in outputs.factors
      ),
      outputs.mask_sizes,
    )
    jax.tree.map(
      lambda x, y, i=i: np.testing.assert_array_equal(x[i : i + 1], y),
      together,
      run(alone),
    )


def test_nothing_above_the_threshold():
  result = run(make_outputs(), score_threshold=1.0)
  assert not result.valid.any() and not result.scores.any()


def test_dropped_candidates_are_counted():
  outputs = make_outputs()
  probs = [points_nms(jax.nn.sigmoid(x)) for x in outputs.category_logits]
  total = sum(int((x > 0.1).sum()) for x in probs)
  assert int(run(outputs, max_candidates=10).num_dropped[0]) == total - 10 > 0
  assert int(run(outputs).num_dropped[0]) == 0


def fixture_outputs(golden):
  """Outputs whose masks are the probabilities of the file, already resized."""
  names = [n for n in ("mask", "mask_x", "mask_y")
           if f"{n}_prob_0" in golden.arrays]  # fmt: skip
  factors = []
  for level, num_grid in enumerate(golden.config["num_grids"]):
    row, column = (x.ravel() for x in np.mgrid[:num_grid, :num_grid])
    picks = dict(mask=np.arange(num_grid**2), mask_x=column, mask_y=row)
    level_factors = []
    for name in names:
      probs = golden.levels(f"{name}_prob")[level].astype(np.float64)
      kernel = np.eye(probs.shape[-1], dtype=np.float32)[picks[name]]
      level_factors.append(
        LevelFactor(
          np.log(probs / (1 - probs)).astype(np.float32),
          kernel,
          np.zeros(num_grid**2, np.float32),
        )
      )
    factors.append(tuple(level_factors))
  sizes = tuple(f[0].feature.shape[1:3] for f in factors)
  return Outputs(golden.levels("cls_logit"), tuple(factors), sizes)


@pytest.mark.golden("infer_solo[!v]*npz", "infer_decoupled*.npz")
def test_fixture(golden, golden_decode_settings, assert_golden_detections):
  result = run(fixture_outputs(golden), **golden_decode_settings)
  assert_golden_detections(result)
