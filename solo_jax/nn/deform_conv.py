"""Deformable convolution, v1 and v2, in pure JAX.

https://arxiv.org/abs/1703.06211 and https://arxiv.org/abs/1811.11168 (v2: each
sample also has a factor). Memory layout of offsets, masks and kernels as in
torchvision and mmcv, but channels last.

Shape letters: B images, H, W input, h, w output, C input channels, O output
channels, k kernel side, G deformable groups (channels that share offsets).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.nn.conv import Conv
from solo_jax.nn.grouped_conv import block_kernels

# Empty pixels on each side of the padded input. A sample beyond two has no
# corner in the image; it is moved onto the outer two, which are zero.
BORDER = 2
# Groups of a ResNeXt kernel that are multiplied as one dense block.
BLOCK_CHANNELS = 128


class DeformConv(nn.Module):
  """Deformable convolution without bias that predicts its own offsets.

  Parameters are 'kernel', [k, k, C / groups, features], and those of a plain
  convolution 'offset' of the same stride, with zero kernel and bias at first,
  so that training starts from a plain convolution (v2: of half the value).

  Attributes:
    features: Output channels.
    kernel_size: Side k of the kernel, odd.
    stride: Spatial stride.
    modulated: False is v1; True is v2, where 'offset' also predicts a factor
      in (0, 1) for each sample.
    groups: Groups of channels that the kernel connects (ResNeXt); offsets are
      shared by all.
    kernel_init: Initialiser of the kernel.
    dtype: Type of the products with the kernel and of the result; offsets,
      sampling and sums are float32.
  """

  features: int
  kernel_size: int = 3
  stride: int = 1
  modulated: bool = True
  groups: int = 1
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [B, H / stride, W / stride, features] of a map [B, H, W, C]."""
    size, padding = self.kernel_size, self.kernel_size // 2
    num_points = size**2
    # float32: with 8 bits of mantissa an offset of 5 pixels would be off by
    # up to 0.016, and the gradient that trains it is small.
    prediction = Conv(
      (3 if self.modulated else 2) * num_points,
      (size, size),
      strides=self.stride,
      padding=padding,
      kernel_init=nn.initializers.zeros,
      dtype=jnp.float32,
      name="offset",
    )(x)
    offset, mask = prediction[..., : 2 * num_points], None
    if self.modulated:
      mask = nn.sigmoid(prediction[..., 2 * num_points :])
    shape = (size, size, x.shape[-1] // self.groups, self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    return deform_conv2d(
      x.astype(self.dtype),
      offset,
      mask,
      kernel.astype(self.dtype),
      strides=self.stride,
      padding=padding,
    )


def deform_conv2d(
  x: jax.Array,
  offset: jax.Array,
  mask: jax.Array | None,
  kernel: jax.Array,
  *,
  strides: int = 1,
  padding: int = 0,
  dilation: int = 1,
) -> jax.Array:
  """Returns a convolution over samples taken at learned positions.

  Kernel entry (i, j) of output pixel (r, c) reads, bilinearly, row r * strides
  - padding + i * dilation + dy and the corresponding column. Each of the four
  corners that lies outside the image counts as zero.

  Differs from the reference (the CUDA kernels of mmcv): at exactly -1 the
  derivative by the position is that towards larger positions, as it is at all
  other whole numbers, not zero.

  Args:
    x: [B, H, W, C] float.
    offset: (dy, dx) of each point in input pixels, interleaved; point i * k + j
      of deformable group g at channels 2 * (g * k * k + i * k + j) and the
      next. [B, h, w, G * k * k * 2] float32.
    mask: Factor of each sample, in the same order without the pairs; None for
      v1. [B, h, w, G * k * k] float32.
    kernel: [k, k, C / groups, O], dtype of `x`; the groups of channels follow
      from its shape.
    strides: Spatial stride.
    padding: Implicit zeros on each side of the input.
    dilation: Input pixels between neighbouring kernel entries.

  Returns:
    [B, h, w, O], dtype of `x`, with h = (H + 2 * padding - dilation * (k - 1)
    - 1) // strides + 1 and w accordingly. Sampling and sums are float32.

  Raises:
    ValueError: If the shapes do not fit together.
  """
  size = kernel.shape[0]
  batch, *input_size, channels = x.shape
  output_size = tuple(
    (n + 2 * padding - dilation * (size - 1) - 1) // strides + 1
    for n in input_size
  )
  num_groups = offset.shape[-1] // (2 * size**2)
  _check_shapes(x, offset, mask, kernel, output_size)
  # Positions before the offsets. [h, k], [w, k].
  rows, columns = (
    np.arange(n)[:, None] * strides - padding + np.arange(size) * dilation
    for n in output_size
  )
  offset = offset.reshape(batch, *output_size, num_groups, size, size, 2)
  y = offset[..., 0] + rows.reshape(-1, 1, 1, size, 1).astype(np.float32)
  x_position = offset[..., 1] + columns.reshape(-1, 1, 1, size).astype(
    np.float32
  )
  if mask is not None:
    mask = mask.reshape(y.shape)
  index, weights = _corners(y, x_position, mask, tuple(input_size))
  border = (BORDER, BORDER)
  pixels = jnp.pad(x, ((0, 0), border, border, (0, 0)))
  width = num_groups * pixels.shape[2]
  kernels = block_kernels(kernel, channels // kernel.shape[2], BLOCK_CHANNELS)
  kernels = kernels.reshape(len(kernels), size**2, *kernels.shape[3:])
  result = _sample_and_multiply(
    pixels.reshape(-1, channels // num_groups),
    index,
    weights,
    kernels.transpose(1, 0, 2, 3),
    (0, num_groups, width, width + num_groups),
  )
  return result.reshape(batch, *output_size, -1).astype(x.dtype)


def _check_shapes(x, offset, mask, kernel, output_size) -> None:
  size, channels = kernel.shape[0], x.shape[-1]
  num_groups, rest = divmod(offset.shape[-1], 2 * size**2)
  expected = (x.shape[0], *output_size)
  if offset.shape[:-1] != expected or rest or num_groups == 0:
    raise ValueError(
      f"offset must be {expected} with a multiple of {2 * size**2} channels "
      f"(2 for each of {size} x {size} points), got {offset.shape}."
    )
  if mask is not None and mask.shape != (*expected, num_groups * size**2):
    raise ValueError(
      f"mask must be {(*expected, num_groups * size**2)}, one value for each "
      f"point of offset, got {mask.shape}."
    )
  if channels % num_groups or channels % kernel.shape[2]:
    raise ValueError(
      f"x has {channels} channels: not a multiple of the {num_groups} "
      f"deformable groups of offset and of the {kernel.shape[2]} input "
      "channels of kernel."
    )


def _corners(
  y: jax.Array,
  x: jax.Array,
  mask: jax.Array | None,
  input_size: tuple[int, int],
) -> tuple[jax.Array, jax.Array]:
  """Returns what each sample reads from the bordered input.

  Args:
    y: Rows. [B, h, w, G, k, k] float32.
    x: Columns, likewise.
    mask: Factors, likewise, or None.
    input_size: (H, W).

  Returns:
    Index of the upper left corner in the flattened bordered input, whose rows
    are (image, row, column, deformable group), [k * k, B * h * w * G] int32;
    weights of the four corners in reading order, [k * k, B * h * w * G, 4].
  """
  batch, _, _, num_groups, _, _ = y.shape
  low, near = [], []
  for position, length in zip((y, x), input_size, strict=True):
    position = jnp.clip(position, -BORDER, length)
    floor = jax.lax.stop_gradient(jnp.floor(position))
    low.append(floor.astype(jnp.int32) + BORDER)
    near.append(1 - (position - floor))
  height, width = (length + 2 * BORDER for length in input_size)
  image = np.arange(batch, dtype=np.int32).reshape(-1, 1, 1, 1, 1, 1)
  group = np.arange(num_groups, dtype=np.int32).reshape(-1, 1, 1)
  index = (image * height + low[0]) * width + low[1]
  index = index * num_groups + group
  weights = jnp.stack(
    [
      near[0] * near[1],
      near[0] * (1 - near[1]),
      (1 - near[0]) * near[1],
      (1 - near[0]) * (1 - near[1]),
    ],
    axis=-1,
  )
  if mask is not None:
    weights *= mask[..., None]
  num_points = y.shape[-1] ** 2
  index = index.reshape(-1, num_points).T
  weights = weights.reshape(-1, num_points, 4).transpose(1, 0, 2)
  return index, weights


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _sample_and_multiply(pixels, index, weights, kernels, corners):
  """Sums, point after point, (weighted corners) @ kernel.

  One point at a time keeps the samples in the processor's cache, and limits the
  memory for gradients to that of the inputs.

  Args:
    pixels: [R, C / G] float.
    index: Row of the first corner. [k * k, N * G] int32.
    weights: Weights of each corner. [k * k, N * G, 4] float32.
    kernels: Blocks of the kernel. [k * k, n, C / n, O / n], dtype of `pixels`.
    corners: Rows from the first corner to each of the four.

  Returns:
    [N, n, O / n] float32.
  """
  _, num_blocks, channels, features = kernels.shape
  num_pixels = index.shape[1] * pixels.shape[1] // (num_blocks * channels)

  def add_point(total, point):
    index, weights, kernel = point
    sample = _weigh(_read(pixels, index, corners), weights)
    sample = sample.reshape(num_pixels, num_blocks, channels)
    return total + _multiply("nbc,bco->nbo", sample, kernel), None

  total = jnp.zeros((num_pixels, num_blocks, features))
  return jax.lax.scan(add_point, total, (index, weights, kernels))[0]


def _forward(pixels, index, weights, kernels, corners):
  inputs = (pixels, index, weights, kernels)
  return _sample_and_multiply(*inputs, corners), inputs


def _backward(corners, inputs, gradient):
  pixels, index, weights, kernels = inputs
  num_pixels, num_blocks, _ = gradient.shape
  gradient = gradient.astype(pixels.dtype)
  ones = jnp.ones(pixels.shape[1])

  def add_point(total, point):
    index, weights, kernel = point
    values = _read(pixels, index, corners)
    sample = _weigh(values, weights).reshape(num_pixels, num_blocks, -1)
    kernel_gradient = _multiply("nbc,nbo->bco", sample, gradient)
    sample_gradient = _multiply("nbo,bco->nbc", gradient, kernel)
    sample_gradient = sample_gradient.reshape(-1, pixels.shape[1])
    # A product with ones: XLA's reduction over the last axis is slower on CPU.
    weights_gradient = jnp.stack(
      [(value * sample_gradient) @ ones for value in values], axis=-1
    )
    for i, corner in enumerate(corners):
      total = total.at[index + corner].add(
        weights[:, i, None] * sample_gradient, mode="drop"
      )
    return total, (weights_gradient, kernel_gradient)

  total = jnp.zeros(pixels.shape)
  total, (weights_gradient, kernel_gradient) = jax.lax.scan(
    add_point, total, (index, weights, kernels)
  )
  return (
    total.astype(pixels.dtype),
    None,  # index
    weights_gradient,
    kernel_gradient.astype(kernels.dtype),
  )


_sample_and_multiply.defvjp(_forward, _backward)


def _read(pixels, index, corners) -> list[jax.Array]:
  """Returns the four corners of each sample. Each [N * G, C / G] float32."""
  return [
    jnp.take(pixels, index + corner, axis=0, mode="clip").astype(jnp.float32)
    for corner in corners
  ]


def _weigh(values, weights) -> jax.Array:
  """Returns the weighted sum of the corners. [N * G, C / G] float32."""
  return sum(weights[:, i, None] * value for i, value in enumerate(values))


def _multiply(subscripts: str, x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns a product in y's type with float32 sums; b is the block axis."""
  contract = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  x = x.astype(y.dtype)
  x_axis, y_axis, axis = (
    name.index("b") for name in subscripts.replace("->", ",").split(",")
  )
  if x.shape[x_axis] > 1:
    return contract(subscripts, x, y)
  # One block: on CPU a plain product takes half the time of a batched one.
  plain = contract(
    subscripts.replace("b", ""), x.squeeze(x_axis), y.squeeze(y_axis)
  )
  return jnp.expand_dims(plain, axis)
