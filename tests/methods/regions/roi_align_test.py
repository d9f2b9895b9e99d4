"""Tests of solo_jax/methods/regions/roi_align.py."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.regions import roi_align
from solo_jax.methods.regions.roi_align import averaging_matrix

# Compiled once for each shape.
POOLS = {
  "tiles": (
    jax.jit(roi_align.pool_by_tiles),
    jax.jit(roi_align.spread_by_tiles, static_argnames="sizes"),
  ),
  "products": (
    jax.jit(roi_align.pool_by_products),
    jax.jit(roi_align.spread_by_products, static_argnames="sizes"),
  ),
}
roi_matrices = jax.jit(
  roi_align.roi_matrices,
  static_argnames=("map_sizes", "strides", "size", "is_aligned", "num_samples"),
)


def by_samples(feature, box, stride, size, is_aligned, num_samples):
  """RoIAlign of one box, sample by sample. [h, w, C] -> [s, s, C] float64."""
  height, width, channels = feature.shape
  x1, y1, x2, y2 = (c / stride - 0.5 * is_aligned for c in map(float, box))
  sides = [y2 - y1, x2 - x1]
  if not is_aligned:
    sides = [max(side, 1.0) for side in sides]
  counts = [
    math.ceil(side / size) if num_samples is None else num_samples
    for side in sides
  ]

  def read(y, x):
    if y < -1 or y > height or x < -1 or x > width:
      return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    return (1 - v) * (
      (1 - u) * feature[top, left] + u * feature[top, right]
    ) + (v * ((1 - u) * feature[bottom, left] + u * feature[bottom, right]))

  result = np.zeros((size, size, channels))
  for i in range(size):
    for j in range(size):
      for a in range(counts[0]):
        for b in range(counts[1]):
          y = y1 + (i + (a + 0.5) / counts[0]) * sides[0] / size
          x = x1 + (j + (b + 0.5) / counts[1]) * sides[1] / size
          result[i, j] += read(y, x)
  return result / max(counts[0] * counts[1], 1)


BOXES = np.array(
  [
    [3, 5, 90, 61],
    [-20, -9, 30, 20],
    [300, 5, 330, 40],  # beyond the map
    [8, 8, 8, 8],
    [1, 30, 159, 33],  # thin: several tiles, many samples per bin
    [100, 20, 103, 78],
  ],
  np.float32,
)


SIZES = (20, 41), (10, 21)  # of the maps, of strides 4 and 8


@pytest.mark.parametrize("way", POOLS)
@pytest.mark.parametrize(
  ("is_aligned", "num_samples"), [(False, 2), (True, None)]
)
def test_equals_samples_one_by_one(way, is_aligned, num_samples):
  rng = np.random.default_rng(0)
  pyramid = tuple(
    rng.normal(size=(2, *size, 3)).astype(np.float32) for size in SIZES
  )
  boxes = np.stack([BOXES, BOXES[::-1]])
  levels = np.array([[0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 0, 1]])
  matrices = roi_matrices(
    boxes,
    levels,
    SIZES,
    strides=(4, 8),
    size=3,
    is_aligned=is_aligned,
    num_samples=num_samples,
  )
  counts = np.ones(boxes.shape[:2], bool)
  counts[1, 2] = False
  found = POOLS[way][0](pyramid, levels, *matrices, counts)
  for i in range(2):
    for j, (box, level) in enumerate(zip(boxes[i], levels[i], strict=True)):
      expected = by_samples(
        pyramid[level][i], box, 4 * 2**level, 3, is_aligned, num_samples
      )
      np.testing.assert_allclose(
        found[i, j], expected * counts[i, j], atol=2e-5, err_msg=(i, j)
      )


def test_gradient_is_that_of_the_products():
  rng = np.random.default_rng(1)
  sizes = tuple(size[::-1] for size in SIZES)
  pyramid = tuple(
    rng.normal(size=(1, *size, 2)).astype(np.float32) for size in sizes
  )
  boxes = BOXES[None, :, [1, 0, 3, 2]]
  levels = jnp.asarray([[0, 1, 1, 0, 0, 1]])
  matrices = roi_matrices(
    boxes,
    levels,
    sizes,
    strides=(4, 8),
    size=2,
    is_aligned=True,
    num_samples=None,
  )
  counts = np.array([[True, True, True, True, True, False]])

  def loss(pyramid, pool):
    return jnp.sum(jnp.sin(pool(pyramid, levels, *matrices, counts)))

  derive = jax.jit(jax.grad(loss), static_argnums=1)
  expected = derive(pyramid, roi_align.pool_by_products)
  assert min(np.abs(x).max() for x in expected) > 0.01
  check = functools.partial(np.testing.assert_allclose, atol=1e-6)
  jax.tree.map(check, derive(pyramid, roi_align.pool), expected)
  gradient = jnp.cos(roi_align.pool(pyramid, levels, *matrices, counts))
  for _, spread in POOLS.values():
    found = spread(gradient, levels, *matrices, counts, sizes=sizes)
    jax.tree.map(check, tuple(found), expected)


def test_rows_sum_to_the_share_of_samples_inside():
  start = jnp.asarray([-0.5, 2.0, 50.0])
  end = jnp.asarray([11.5, 2.0, 60.0])
  matrix = averaging_matrix(
    start, end, num_bins=4, num_cells=12, length=12, num_samples=None
  )
  np.testing.assert_allclose(
    matrix.sum(-1), np.repeat([[1.0], [0.0], [0.0]], 4, axis=1), atol=1e-6
  )


def test_boxes_that_are_not_valid_are_not_pooled():
  feature = np.ones((1, 5, 5, 2), np.float32)
  levels = np.zeros((1, len(BOXES)), int)
  matrices = roi_matrices(
    BOXES[None],
    levels,
    ((5, 5),),
    strides=(4,),
    size=2,
    is_aligned=True,
    num_samples=2,
  )
  counts = np.zeros((1, len(BOXES)), bool)
  for pool, spread in POOLS.values():
    found = pool((feature,), levels, *matrices, counts)
    assert not np.asarray(found).any()
    (found,) = spread(found + 1, levels, *matrices, counts, sizes=((5, 5),))
    assert not np.asarray(found).any()


def roi_boxes(rois, num_images):
  """[R, 5] to [B, R, 4], each box in every image, and where it belongs."""
  boxes = np.broadcast_to(rois[:, 1:], (num_images, len(rois), 4))
  return boxes, rois[:, 0] == np.arange(num_images)[:, None]


@pytest.mark.parametrize("way", POOLS)
@pytest.mark.golden("rcnn_roi_align*.npz")
def test_fixture(golden, way):
  pool, spread = POOLS[way]
  feature = golden["feature"].transpose(0, 2, 3, 1)
  size = feature.shape[1:3]
  for i, case in enumerate(golden.config["cases"]):
    boxes, belongs = roi_boxes(golden[f"rois_{i}"], len(feature))
    ratio = case["sampling_ratio"]
    levels = np.zeros(belongs.shape, int)
    matrices = roi_matrices(
      boxes,
      levels,
      (size,),
      strides=(1 / case["spatial_scale"],),
      size=case["output_size"],
      is_aligned=case["aligned"],
      num_samples=ratio if ratio > 0 else None,
    )
    found = pool((feature,), levels, *matrices, belongs).sum(0)
    np.testing.assert_allclose(
      found.transpose(0, 3, 1, 2), golden[f"out_{i}"], rtol=2e-5, atol=2e-5
    )
    gradient = golden[f"cot_{i}"].transpose(0, 2, 3, 1)
    gradient = np.broadcast_to(gradient, (len(feature), *gradient.shape))
    (found,) = spread(gradient, levels, *matrices, belongs, sizes=(size,))
    np.testing.assert_allclose(
      np.transpose(found, (0, 3, 1, 2)),
      golden[f"grad_feature_{i}"],
      rtol=1e-4,
      atol=1e-4,
    )
