"""Mask targets of boxes, sampled from masks on their own grids.

A grid covers a rectangle: an instance's own box, or the whole network frame.
Sampling follows the published code, which samples from masks of full
resolution.

Shape letters: N instances per image, R boxes, u, v rows and columns of a
grid, s side of the result.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from solo_jax.methods.regions.roi_align import averaging_matrix
from solo_jax.nn.bilinear import sample_points


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskTargets:
  """How a target is made from a mask.

  Attributes:
    is_aligned: Whether pixels of the mask have their values at their centres
      (detectron2, mmdet); if not, at their corners, and sides of boxes are at
      least one pixel (torchvision).
    threshold: Share of a cell's area from which it is 1, else 0; None leaves
      the share (torchvision).
  """

  is_aligned: bool
  threshold: float | None


# Traced once for all stages of a cascade.
@functools.partial(jax.jit, static_argnames=("size", "rule"))
def mask_targets(
  masks: jax.Array,
  frames: jax.Array,
  boxes: jax.Array,
  *,
  size: int,
  rule: MaskTargets,
) -> jax.Array:
  """Returns masks averaged over the cells of boxes, as RoIAlign does.

  Args:
    masks: Mask of each box's instance, in [0, 1]. [R, u, v] float32.
    frames: Rectangle that each mask's grid is laid over, continuous network
      pixels. [R, 4] float32.
    boxes: Continuous network pixels. [R, 4] float32.
    size: s.
    rule: The sampling rule.

  Returns:
    In [0, 1]. [R, s, s] float32.
  """
  matrices = []
  for axis, num_cells in ((1, masks.shape[1]), (0, masks.shape[2])):
    low, high = frames[:, axis], frames[:, axis + 2]
    scale = _cells_per_pixel(low, high, num_cells)
    shift = 0.5 if rule.is_aligned else 0.5 - 0.5 * scale
    start = (boxes[:, axis] - low) * scale - shift
    end = (boxes[:, axis + 2] - low) * scale - shift
    if not rule.is_aligned:
      end = start + jnp.maximum(end - start, scale)
    matrices.append(
      averaging_matrix(
        start,
        end,
        num_bins=size,
        num_cells=num_cells,
        length=num_cells,
        num_samples=None,
      )
    )
  targets = jnp.einsum(
    "riu,ruv,rjv->rij", matrices[0], masks, matrices[1], precision="highest"
  )
  if rule.threshold is None:
    return targets
  return (targets >= rule.threshold).astype(jnp.float32)


def point_targets(
  masks: jax.Array, frames: jax.Array, points: jax.Array
) -> jax.Array:
  """Returns masks at points, bilinear and 0 beyond the grid.

  Args:
    masks: [R, u, v] float32.
    frames: Rectangle of each mask's grid. [R, 4] float32.
    points: (x, y), continuous network pixels. [R, P, 2] float32.

  Returns:
    In [0, 1]. [R, P] float32.
  """
  height, width = masks.shape[1:]
  low, high = frames[:, None, :2], frames[:, None, 2:]
  scale = _cells_per_pixel(low, high, jnp.asarray([width, height]))
  cells = (points - low) * scale
  return jax.vmap(sample_points)(masks[..., None], cells)[..., 0]


def _cells_per_pixel(low, high, num_cells):
  """Returns the scale of a grid; 0 for a rectangle without a side.

  Such rectangles are padding; dividing by almost zero would give countless
  cells.
  """
  side = high - low
  return jnp.where(side > 0, num_cells / jnp.where(side > 0, side, 1), 0.0)
