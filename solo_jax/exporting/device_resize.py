"""Resizes images inside a compiled program.

The sizes of an image are arguments here, not shapes: images are in the corner
of a canvas of fixed size, so one program handles all sizes that fit. Positions
are fractions of integers, so that float32 is exact for every size.

The results are those of `data.batching.render_image`, which uses OpenCV and
Pillow. `device_masks` resizes the masks back.
"""

import jax
import jax.numpy as jnp

# Bits of the weights in OpenCV's bilinear resize of bytes.
_OPENCV_BITS = 11
# OpenCV's averages ignore source pixels with a smaller covered share.
_OPENCV_SLIVER = 1e-3
_AREA_BELOW = 0.6  # as in data/batching.py


def fitted_size(
  size: jax.Array,
  *,
  short_side: int,
  max_side: int,
  tile_size: int | None,
  size_rounding: str = "nearest",
) -> jax.Array:
  """Returns the size of an image in the network.

  The rule of `data.transforms.resize_to_fit`, in integers. It rounds ties
  up, where float64 falls either way: of all sizes up to 2,200 x 2,200 with 800
  and 1333, 60 in 4.8 million differ, by one pixel; rounded down, 1 in 70.

  Args:
    size: (height, width) of the image. [2] int32.
    short_side: Upper bound of the short side.
    max_side: Upper bound of the long side.
    tile_size: Side of a tile; an image smaller than a tile is scaled like a
      whole tile. None without tiles.
    size_rounding: 'nearest' or 'down'.

  Returns:
    (height, width) of the resized image. [2] int32.
  """
  short, long = jnp.min(size), jnp.max(size)
  short_side = jnp.int32(short_side)
  if tile_size is not None:
    part = short_side * jnp.minimum(short, tile_size)
    short_side = jnp.maximum(1, (2 * part + tile_size) // (2 * tile_size))
  by_long = max_side * short <= short_side * long
  numerator = jnp.where(by_long, max_side, short_side)
  denominator = jnp.where(by_long, long, short)
  if size_rounding == "down":
    resized = size * numerator // denominator
  else:
    resized = (2 * size * numerator + denominator) // (2 * denominator)
  return jnp.maximum(1, resized)


def resize_image(
  image: jax.Array,
  original_size: jax.Array,
  image_size: jax.Array,
  padded_size: tuple[int, int],
  *,
  interpolation: str,
) -> jax.Array:
  """Returns the resized image in the corner of a canvas.

  'bilinear' and 'antialias' use integers and equal the host's bit for bit.
  'area' sums in float32, in another order than OpenCV: a value within 1e-4 of a
  half may be rounded the other way.

  Args:
    image: Canvas. [Hc, Wc, 3] uint8.
    original_size: (height, width) of the image in it. [2] int32.
    image_size: (height, width) to resize to. [2] int32.
    padded_size: (H, W) of the result.
    interpolation: 'bilinear', 'area' or 'antialias', see
      `data.batching.render_image`.

  Returns:
    The resized image, zero beyond `image_size`. [H, W, 3] uint8.

  Raises:
    ValueError: If the interpolation is unknown.
  """
  sizes = image, original_size, image_size, padded_size
  if interpolation == "bilinear":
    resized = _resize_bilinear(*sizes)
  elif interpolation == "area":
    is_small = jnp.any(image_size < _AREA_BELOW * original_size)
    resized = jax.lax.cond(
      is_small,
      lambda: _resize_area(*sizes),
      lambda: _resize_bilinear(*sizes),
    )
  elif interpolation == "antialias":
    resized = _resize_antialiased(*sizes)
  else:
    raise ValueError(
      "interpolation must be 'bilinear', 'area' or 'antialias', got "
      f"{interpolation!r}"
    )
  is_image = inside(image_size, padded_size)
  return jnp.where(is_image[..., None], resized, 0)


def inside(size: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """Returns which pixels of an array belong to the image in its corner.

  Args:
    size: (height, width) of the image. [2] int32.
    shape: (height, width) of the array.

  Returns:
    [*shape] bool.
  """
  rows, columns = (
    jnp.arange(length) < side for length, side in zip(shape, size, strict=True)
  )
  return rows[:, None] & columns[None, :]


def divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
  """Returns quotients of whole numbers in float32, correctly rounded.

  Without the barrier XLA multiplies by the reciprocal of a scalar.

  Args:
    numerator: int32.
    denominator: int32; the two are broadcast.

  Returns:
    float32.
  """
  numerator, denominator = jnp.broadcast_arrays(numerator, denominator)
  numerator, denominator = jax.lax.optimization_barrier(
    (numerator.astype(jnp.float32), denominator.astype(jnp.float32))
  )
  return numerator / denominator


def _resize_bilinear(image, original_size, image_size, padded_size):
  """Resizes bytes like OpenCV's INTER_LINEAR, in fixed-point arithmetic."""
  one = 1 << _OPENCV_BITS

  def taps(axis):
    index = jnp.arange(padded_size[axis])
    num_in, num_out = original_size[axis], image_size[axis]
    # OpenCV rounds the position to float32 before it takes the fraction.
    position = divide((2 * index + 1) * num_in - num_out, 2 * num_out)
    low = jnp.floor(position)
    high_weight = jnp.round((position - low) * one).astype(jnp.int32)
    low = low.astype(jnp.int32)
    last = num_in - 1
    if axis == 1:  # columns beyond the ends get no weight, rows keep theirs
      high_weight = jnp.where((low < 0) | (low >= last), 0, high_weight)
      low = jnp.clip(low, 0, last)
    cells = jnp.clip(low, 0, last), jnp.clip(low + 1, 0, last)
    return cells, (one - high_weight, high_weight)

  image = image.astype(jnp.int32)
  (left, right), (left_weight, right_weight) = taps(1)
  image = (
    image[:, left] * left_weight[:, None]
    + image[:, right] * right_weight[:, None]
  ) >> 4
  (above, below), (above_weight, below_weight) = taps(0)
  above = (image[above] * above_weight[:, None, None]) >> 16
  below = (image[below] * below_weight[:, None, None]) >> 16
  return ((above + below + 2) >> 2).astype(jnp.uint8)


def _resize_area(image, original_size, image_size, padded_size):
  """OpenCV's INTER_AREA for images that shrink: averages of covered pixels."""

  def weights(axis):
    source = jnp.arange(image.shape[axis])
    target = jnp.arange(padded_size[axis])[:, None]
    num_in, num_out = original_size[axis], image_size[axis]
    # Shared length of both pixels in units of 1 / (num_in * num_out).
    end = jnp.minimum((source + 1) * num_out, (target + 1) * num_in)
    shared = jnp.maximum(
      end - jnp.maximum(source * num_out, target * num_in), 0
    )
    shared = jnp.where(shared > _OPENCV_SLIVER * num_out, shared, 0)
    return divide(shared, num_in)

  resized = _multiply(weights(0), _multiply_columns(weights(1), image))
  is_half = jnp.all(original_size == 2 * image_size)
  # OpenCV has a separate loop for factor 2, which rounds ties up.
  resized = jnp.where(is_half, jnp.floor(resized + 0.5), jnp.round(resized))
  return resized.astype(jnp.uint8)


def _resize_antialiased(image, original_size, image_size, padded_size):
  """Pillow's bilinear: a triangle that widens, bytes between the two axes.

  Weights have 22 bits, split into two products of 11: their sums are whole
  numbers that float32 represents, up to 32 source pixels per target pixel.
  """

  def weights(axis):
    source = jnp.arange(image.shape[axis])
    target = jnp.arange(padded_size[axis])[:, None]
    num_in, num_out = original_size[axis], image_size[axis]
    distance = jnp.abs((2 * source + 1) * num_out - (2 * target + 1) * num_in)
    triangle = jnp.maximum(2 * jnp.maximum(num_in, num_out) - distance, 0)
    triangle = jnp.where(source < num_in, triangle, 0)
    total = jnp.sum(triangle, axis=1, keepdims=True)
    total = jnp.maximum(total, 1)  # 0 in rows beyond the image
    # round(2^22 triangle / total) by long division. Each step stays within 32
    # bits while total, 2 num_in^2 / num_out, is below 2^25: for 32 source
    # pixels per target pixel, sides of up to 500,000 pixels.
    high = (triangle * 2048) // total
    rest = (triangle * 2048) - high * total
    middle = (rest * 64) // total
    rest = (rest * 64) - middle * total
    return high, middle * 32 + (rest * 64 + total) // (2 * total)

  def round_sum(multiply, weights, image):
    high, low = (multiply(w, image).astype(jnp.int32) for w in weights)
    return (high * 2048 + low + (1 << 21)) >> 22

  image = round_sum(_multiply_columns, weights(1), image)
  return round_sum(_multiply, weights(0), image).astype(jnp.uint8)


def _multiply(weights, image):
  """Weights rows: [H, Hc] by [Hc, W, 3]. float32."""
  return jnp.einsum(
    "yh,hwc->ywc",
    weights.astype(jnp.float32),
    image.astype(jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )


def _multiply_columns(weights, image):
  """Weights columns: [W, Wc] by [Hc, Wc, 3]. float32."""
  return jnp.einsum(
    "xw,hwc->hxc",
    weights.astype(jnp.float32),
    image.astype(jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )
