"""Synthetic network outputs and a training image for benchmarks/solov2.py."""

import numpy as np

from solo_jax import types
from solo_jax.methods.solov2.network import Outputs

# Per level, fine to coarse: share of the objects, radius over image side.
LEVEL_SHARE = (0.35, 0.25, 0.2, 0.12, 0.08)
LEVEL_RADIUS = (
  (0.07, 0.1),
  (0.08, 0.15),
  (0.1, 0.2),
  (0.15, 0.3),
  (0.25, 0.45),
)
CELLS_PER_OBJECT = 4


def make_outputs(
  size: tuple[int, int],
  *,
  num_candidates: int,
  num_classes: int,
  num_grids: tuple[int, ...],
  kernel_channels: int,
  mask_stride: int,
) -> Outputs:
  """Draws outputs of one image as a trained network might give them.

  The mask feature holds the weights of a bilinear interpolation between
  sqrt(E) x sqrt(E) knots, so that a kernel is a picture of logits at the knots
  and its mask a smooth blob. Objects are ellipses; each is found by up to four
  neighbouring cells with about the same kernel.

  Args:
    size: Padded (height, width) of the network input.
    num_candidates: (cell, class) pairs above the score threshold, nearly:
      objects that meet in a cell lose some.
    num_classes: K.
    num_grids: S of each of the five levels.
    kernel_channels: E, a square number.
    mask_stride: Network pixels per mask cell.

  Returns:
    Outputs with B = 1, of numpy arrays.
  """
  rng = np.random.default_rng(0)
  side = round(kernel_channels**0.5)
  knot_y, knot_x = np.mgrid[:side, :side] / (side - 1)
  category = [
    rng.normal(-6, 0.5, (1, s, s, num_classes)).astype(np.float32)
    for s in num_grids
  ]
  kernel = [
    rng.normal(0, 1, (1, s, s, kernel_channels)).astype(np.float32)
    for s in num_grids
  ]
  num_objects = num_candidates // CELLS_PER_OBJECT
  levels = np.repeat(
    np.arange(len(num_grids)),
    np.diff(np.rint(np.cumsum((0, *LEVEL_SHARE)) * num_objects).astype(int)),
  )
  for level in levels:
    num_grid = num_grids[level]
    x, y = rng.uniform(0.05, 0.95, 2)
    radius_x, radius_y = rng.uniform(*LEVEL_RADIUS[level], 2)
    distance = ((knot_x - x) / radius_x) ** 2 + ((knot_y - y) / radius_y) ** 2
    logits = np.maximum(6 * (1 - distance), -8).ravel()
    label = rng.integers(num_classes)
    # Every other cell: points NMS leaves no two neighbours.
    row, column = (min(int(c * num_grid), num_grid - 3) for c in (y, x))
    for cell in ((row, column), (row, column + 2), (row + 2, column),
                 (row + 2, column + 2)):  # fmt: skip
      category[level][0, *cell, label] = rng.uniform(-2, 3)
      kernel[level][0, *cell] = logits + rng.normal(0, 0.5, logits.shape)
  return Outputs(
    category_logits=tuple(category),
    kernel=tuple(kernel),
    mask_feature=interpolation_weights(size, mask_stride, side)[None],
  )


def interpolation_weights(
  size: tuple[int, int], mask_stride: int, side: int
) -> np.ndarray:
  """Bilinear weights of side x side knots. [h, w, side^2] float32."""

  def axis(length):
    position = np.linspace(0, side - 1, length // mask_stride)
    return np.maximum(0, 1 - abs(position[:, None] - np.arange(side)))

  weights = np.einsum("yi,xj->yxij", axis(size[0]), axis(size[1]))
  return weights.reshape(*weights.shape[:2], -1).astype(np.float32)


def make_sample(size: tuple[int, int], *, num_instances: int) -> types.Sample:
  """Draws a noise image with elliptical instances that fills the input.

  Args:
    size: (height, width) of image and network input.
    num_instances: N.

  Returns:
    The sample.
  """
  rng = np.random.default_rng(0)
  height, width = size
  y, x = np.mgrid[:height, :width]
  center_x, center_y = rng.uniform(0.1, 0.9, (2, num_instances, 1, 1))
  radius = rng.uniform(0.05, 0.3, (num_instances, 1, 1))
  masks = (x / width - center_x) ** 2 + (y / height - center_y) ** 2 < radius**2
  boxes = []
  for mask in masks:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
  return types.Sample(
    image=rng.integers(0, 256, (height, width, 3), np.uint8),
    masks=masks,
    labels=rng.integers(0, 80, num_instances).astype(np.int32),
    areas=masks.sum((1, 2)).astype(np.float64),
    boxes_xyxy=np.array(boxes, np.float64),
    is_crowd=np.zeros(num_instances, bool),
    annotation_ids=np.arange(num_instances),
    image_id=0,
    file_name="",
    original_size=size,
    affine=np.eye(2, 3),
    image_size=size,
  )
