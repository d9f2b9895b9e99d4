"""Resizes masks to the original size inside a compiled program.

As in `device_resize`, sizes are arguments: images are in the corner of a
canvas. The results are those of `inference.instances`, which works on the host.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.exporting import device_resize

# Cells that the pixels of an axis read and their weights: [n, pixels] each.
Taps = tuple[Sequence[jax.Array], Sequence[jax.Array]]


@functools.singledispatch
def masks_to_canvas(
  masks: types.FrameMasks | types.BoxMasks,
  valid: jax.Array,
  image_size: jax.Array,
  original_size: jax.Array,
  canvas_size: tuple[int, int],
  *,
  padded_size: tuple[int, int],
  threshold: float,
) -> tuple[jax.Array, jax.Array]:
  """Returns the masks of one image at its original size.

  Args:
    masks: Masks without the batch dimension: [M, ...].
    valid: Real detections, which come first. [M] bool.
    image_size: Valid (height, width) of the network input. [2] int32.
    original_size: (height, width) of the image. [2] int32.
    canvas_size: (Hc, Wc), Wc a multiple of 8.
    padded_size: (H, W) of the network input.
    threshold: Threshold of the masks, see
      `inference.instances.masks_to_original`.

  Returns:
    masks: Packed bits, big-endian along the width, of the image in the corner
      of the canvas. [M, Hc, Wc / 8] uint8.
    boxes_xyxy: Tight boxes, zeros for an empty mask. [M, 4] int32.
  """
  raise TypeError(f"masks must be FrameMasks or BoxMasks, not {type(masks)}")


@masks_to_canvas.register
def _(
  masks: types.FrameMasks,
  valid,
  image_size,
  original_size,
  canvas_size,
  *,
  padded_size,
  threshold,
):
  probs = masks.probs
  find_taps = FRAME_TAPS[masks.resize]
  rows, columns = (
    find_taps(
      canvas_size[axis],
      probs.shape[1 + axis],
      padded_size[axis],
      image_size[axis],
      original_size[axis],
    )
    for axis in range(2)
  )
  inside = device_resize.inside(original_size, canvas_size)

  def draw(i):
    return (_resize(probs[i], rows, columns) > threshold) & inside

  return _draw_all(draw, valid, canvas_size)


@masks_to_canvas.register
def _(
  masks: types.BoxMasks,
  valid,
  image_size,
  original_size,
  canvas_size,
  *,
  padded_size,
  threshold,
):
  find_taps, compare = RULES[masks.paste]
  probs = masks.probs
  boxes = boxes_to_original(masks.boxes_xyxy, image_size, original_size)
  inside = device_resize.inside(original_size, canvas_size)

  def draw(i):
    rows, columns = (
      find_taps(boxes[i, 1 - axis], boxes[i, 3 - axis], n, canvas_size[axis])
      for axis, n in enumerate(probs.shape[1:])
    )
    return compare(_resize(probs[i], rows, columns), threshold) & inside

  return _draw_all(draw, valid, canvas_size)


def boxes_to_original(
  boxes_xyxy: jax.Array, image_size: jax.Array, original_size: jax.Array
) -> jax.Array:
  """Returns boxes of the network frame in pixels of the original image.

  Args:
    boxes_xyxy: Continuous network coordinates. [M, 4] float32.
    image_size: Valid (height, width) of the network input. [2] int32.
    original_size: (height, width) of the image. [2] int32.

  Returns:
    Continuous original pixels. [M, 4] float32.
  """
  y, x = device_resize.divide(original_size, image_size)
  return boxes_xyxy * jnp.stack([x, y, x, y])


def _draw_all(
  draw: Callable[[jax.Array], jax.Array],
  valid: jax.Array,
  canvas_size: tuple[int, int],
) -> tuple[jax.Array, jax.Array]:
  """Returns all masks, packed, and their boxes; draws only valid ones."""

  def add_mask(i, results):
    masks, boxes_xyxy = results
    mask = draw(i)
    packed = jnp.packbits(mask, axis=1)
    return masks.at[i].set(packed), boxes_xyxy.at[i].set(_tight_box(mask))

  num_masks = valid.shape[0]
  height, width = canvas_size
  empty = (
    jnp.zeros((num_masks, height, width // 8), jnp.uint8),
    jnp.zeros((num_masks, 4), jnp.int32),
  )
  # Only valid ones: the cost of a resize grows with the pixels of the canvas.
  return jax.lax.fori_loop(0, jnp.sum(valid), add_mask, empty)


def _resize(probs: jax.Array, rows: Taps, columns: Taps) -> jax.Array:
  """Returns masks resized along both axes. [h, w] -> [Hc, Wc]."""
  resized = _apply_taps(probs, *rows)  # [Hc, w]
  return _apply_taps(resized.T, *columns).T


def _aligned_taps(low, high, num_cells, num_pixels) -> Taps:
  """Returns the taps of `inference.box_masks.aligned_positions`."""
  side = high - low
  centers = jnp.arange(num_pixels) + 0.5 - low
  position = centers * (num_cells / jnp.where(side > 0, side, 1)) - 0.5
  position = jnp.where(side > 0, position, -1.0)
  # Also far away: positions beyond the cells have no weight.
  position = jnp.clip(position, -1, num_cells)
  cell = jnp.floor(position)
  weight = position - cell
  cell = cell.astype(jnp.int32)
  return _without_border((cell, cell + 1), (1 - weight, weight), num_cells)


def _torchvision_taps(low, high, num_cells, num_pixels) -> Taps:
  """Returns the taps of `inference.box_masks.torchvision_positions`."""
  middle, half = (high + low) * 0.5, (high - low) * 0.5 * (1 + 2 / num_cells)
  start = (middle - half).astype(jnp.int32)  # towards zero
  side = jnp.maximum((middle + half).astype(jnp.int32) - start + 1, 1)
  index = jnp.arange(num_pixels) - start
  cell, next_cell, weight = _linear_taps(index, num_cells + 2, side)
  is_inside = (index >= 0) & (index < side)
  weights = (
    jnp.where(is_inside, 1 - weight, 0.0),
    jnp.where(is_inside, weight, 0.0),
  )
  return _without_border((cell - 1, next_cell - 1), weights, num_cells)


RULES: dict[str, tuple[Callable[..., Taps], Callable]] = {
  "aligned": (_aligned_taps, jnp.greater_equal),
  "torchvision": (_torchvision_taps, jnp.greater),
}


def _without_border(cells, weights, num_cells) -> Taps:
  """Returns weights without those of cells that do not exist."""
  kept = [
    jnp.where((cell >= 0) & (cell < num_cells), weight, 0.0)
    for cell, weight in zip(cells, weights, strict=True)
  ]
  return [jnp.clip(cell, 0, num_cells - 1) for cell in cells], kept


def _divmod(numerator, denominator):
  """Returns the floored quotient and the remainder. int32."""
  quotient = numerator // denominator
  return quotient, numerator - denominator * quotient


def _linear_taps(index, num_in, num_out):
  """Returns two cells and a weight: bilinear, ends repeated."""
  low, remainder = _divmod((2 * index + 1) * num_in - num_out, 2 * num_out)
  return _clipped_taps(
    low, device_resize.divide(remainder, 2 * num_out), num_in
  )


def _clipped_taps(low, weight, num_cells):
  """Returns two cells and the second one's weight, ends repeated."""
  last = num_cells - 1
  is_between = (low >= 0) & (low < last)
  low = jnp.clip(low, 0, last)
  return low, jnp.minimum(low + 1, last), jnp.where(is_between, weight, 0.0)


def _direct_taps(
  num_pixels, num_cells, padded_length, image_length, original_length
):
  """Returns the taps of `inference.masks.direct_axis_weights`.

  The position is (index + 0.5) * image / original * cells / padded - 0.5. With
  a division after each product, all numbers stay within 32 bits for sides of up
  to 2^30 / (cells + padded), a million pixels.
  """
  shared = math.gcd(num_cells, padded_length)
  cells, padded = num_cells // shared, padded_length // shared
  index = 2 * jnp.arange(num_pixels) + 1
  pixel, rest = _divmod(index * image_length, 2 * original_length)
  cell, cell_rest = _divmod(pixel * cells, padded)
  unit = 2 * original_length * padded
  rest = 2 * original_length * cell_rest + rest * cells - unit // 2
  carry, rest = _divmod(rest, unit)
  low, high, weight = _clipped_taps(
    cell + carry, device_resize.divide(rest, unit), num_cells
  )
  return jnp.stack([low, high]), jnp.stack([1 - weight, weight])


def _frame_taps(
  num_pixels, num_cells, padded_length, image_length, original_length
):
  """Composes the two resizes of one axis of a mask: four cells and weights.

  Returns:
    cells: [4, pixels] int32. weights: [4, pixels] float32.
  """
  low, high, high_weight = _linear_taps(
    jnp.arange(num_pixels), image_length, original_length
  )
  cells, weights = [], []
  for pixel, weight in ((low, 1 - high_weight), (high, high_weight)):
    cell_low, cell_high, cell_weight = _linear_taps(
      pixel, num_cells, padded_length
    )
    cells += [cell_low, cell_high]
    weights += [weight * (1 - cell_weight), weight * cell_weight]
  return jnp.stack(cells), jnp.stack(weights)


FRAME_TAPS = {"padded": _frame_taps, "direct": _direct_taps}


def _apply_taps(values, cells, weights):
  """Sums weighted rows. [cells, n] -> [pixels, n]."""
  return sum(
    w[:, None] * values[c] for c, w in zip(cells, weights, strict=True)
  )


def _tight_box(mask):
  """Returns (left, top, right, bottom), zeros for an empty mask."""

  def ends(any_inside):
    length = any_inside.shape[0]
    return jnp.argmax(any_inside), length - jnp.argmax(any_inside[::-1])

  top, bottom = ends(jnp.any(mask, axis=1))
  left, right = ends(jnp.any(mask, axis=0))
  box = jnp.stack([left, top, right, bottom])
  return jnp.where(jnp.any(mask), box, 0).astype(jnp.int32)
