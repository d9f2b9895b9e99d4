"""Tests of solo_jax/grouping/matrix_nms.py."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from solo_jax.grouping import matrix_nms as module
from solo_jax.grouping.matrix_nms import mask_intersections, matrix_nms


def reference(masks, scores, labels, kernel, sigma):
  """Eqs. 4 and 5 as two loops over masks sorted by score."""
  n = len(scores)
  iou = np.zeros((n, n))
  for i in range(n):
    for j in range(i + 1, n):
      if labels[i] == labels[j]:
        union = (masks[i] | masks[j]).sum()
        iou[i, j] = (masks[i] & masks[j]).sum() / max(union, 1)
  decayed = []
  for j in range(n):
    decay = 1.0
    for i in range(j):
      worst = iou[:i, i].max(initial=0.0)
      if labels[i] != labels[j]:
        continue
      if kernel == "gaussian":
        ratio = np.exp(-sigma * iou[i, j] ** 2) / np.exp(-sigma * worst**2)
      else:
        ratio = (1 - iou[i, j]) / (1 - worst) if worst < 1 else 1.0
      decay = min(decay, ratio)
    decayed.append(scores[j] * decay)
  return np.array(decayed)


def random_candidates(n, pixels=100, seed=0):
  rng = np.random.default_rng(seed)
  masks = rng.random((n, pixels)) < rng.uniform(0.05, 0.9, (n, 1))
  masks[n // 2] = masks[0]
  masks[n // 3] = masks[0]
  masks[n // 4] = False
  scores = np.sort(rng.random(n).astype(np.float32))[::-1].copy()
  return masks, scores, rng.integers(0, 2, n)


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_equals_two_loops(kernel):
  masks, scores, labels = random_candidates(17)
  suppress = functools.partial(matrix_nms, kernel=kernel, sigma=2.0)
  result = jax.jit(suppress)(masks, scores, labels, np.ones(17, bool))
  expected = reference(masks, scores, labels, kernel, 2.0)
  np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_identical_masks_stay_finite_with_linear():
  masks = np.ones((3, 8), bool)
  result = matrix_nms(
    masks,
    np.array([0.9, 0.8, 0.7], np.float32),
    np.zeros(3, np.int32),
    np.ones(3, bool),
    kernel="linear",
    sigma=2.0,
  )
  np.testing.assert_allclose(result, [0.9, 0.0, 0.0])


def test_padding_changes_nothing():
  masks, scores, labels = random_candidates(9)
  valid = np.ones(9, bool)
  alone = matrix_nms(masks, scores, labels, valid, kernel="gaussian", sigma=2.0)
  padded = matrix_nms(
    np.concatenate([masks, np.ones((4, 100), bool)]),
    np.concatenate([scores, np.zeros(4, np.float32)]),
    np.concatenate([labels, np.zeros(4, int)]),
    np.arange(13) < 9,
    kernel="gaussian",
    sigma=2.0,
  )
  np.testing.assert_array_equal(padded[:9], alone)


@pytest.mark.parametrize("pixels", [1, 31, 32, 100, 4096])
def test_both_intersections_are_exact(pixels):
  masks, _, _ = random_candidates(13, pixels)
  expected = masks.astype(int) @ masks.T.astype(int)
  found = jax.jit(mask_intersections)(masks)
  np.testing.assert_array_equal(found, expected)
  multiply = jax.jit(module._intersections_by_matmul, static_argnums=1)
  for dtype in (jnp.bfloat16, jnp.float32):
    found = multiply(masks, dtype)
    np.testing.assert_array_equal(found, expected)


def test_unknown_kernel():
  with pytest.raises(ValueError, match="'gaussian' or 'linear', not 'soft'"):
    matrix_nms(
      np.ones((1, 1), bool),
      np.ones(1),
      np.ones(1, int),
      np.ones(1, bool),
      kernel="soft",
      sigma=1.0,
    )


@pytest.mark.golden("matrix_nms*.npz")
@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_fixture(golden, kernel):
  scores, labels = golden["scores"], golden["labels"]
  masks = golden["masks"].reshape(len(scores), -1).astype(bool)
  order = np.argsort(-scores, kind="stable")
  nms = jax.jit(
    lambda m, s, c: matrix_nms(
      m,
      s,
      c,
      jnp.ones(len(s), bool),
      kernel=kernel,
      sigma=golden.config["sigma"],
    )
  )
  decayed = np.zeros_like(scores)
  decayed[order] = nms(masks[order], scores[order], labels[order])
  np.testing.assert_allclose(
    decayed, golden[f"{kernel}_decayed_scores"], rtol=1e-4, atol=1e-7
  )
  np.testing.assert_array_equal(
    np.argsort(-decayed, kind="stable"), golden[f"{kernel}_order"]
  )
  # With the published cuts around it.
  order = order[: golden.config["nms_pre"]]
  kept = np.asarray(nms(masks[order], scores[order], labels[order]))
  top = np.argsort(-kept, kind="stable")
  top = top[kept[top] >= golden.config["filter_thr"]]
  top = top[: golden.config["max_num"]]
  np.testing.assert_array_equal(order[top], golden[f"{kernel}_kept_index"])
  np.testing.assert_allclose(
    kept[top], golden[f"{kernel}_kept_scores"], rtol=1e-4
  )
  np.testing.assert_array_equal(
    labels[order[top]], golden[f"{kernel}_kept_labels"]
  )


@functools.partial(jax.jit, static_argnames="kernel")
def decay(masks, scores, labels, valid, kernel):
  return matrix_nms(masks, scores, labels, valid, kernel=kernel, sigma=2.0)


# Compiled code may flush subnormal numbers to zero.
SCORES = st.floats(0, 1, width=32, allow_subnormal=False)


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@hypothesis.given(
  st_numpy.arrays(bool, (6, 40)),
  st_numpy.arrays(np.float32, 6, elements=SCORES),
  st_numpy.arrays(np.int32, 6, elements=st.integers(0, 1)),
  st.integers(0, 6),
)
def test_any_candidates(kernel, masks, scores, labels, count):
  """Against two loops; repeated and empty masks come up by themselves."""
  scores = np.sort(scores)[::-1].copy()
  valid = np.arange(6) < count
  found = np.asarray(decay(masks, scores, labels, valid, kernel))
  expected = reference(
    masks[:count], scores[:count], labels[:count], kernel, 2.0
  )
  np.testing.assert_allclose(found[:count], expected, rtol=1e-5, atol=1e-30)
  assert (found <= scores).all() and (found >= 0).all()
  np.testing.assert_allclose(found[count:], scores[count:], atol=1e-37)
  order = np.random.default_rng(count).permutation(40)
  np.testing.assert_array_equal(
    decay(masks[:, order], scores, labels, valid, kernel), found
  )
