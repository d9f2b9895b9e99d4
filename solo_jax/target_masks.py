"""The two kinds of ground-truth masks of a batch; see `types.Batch`.

Shape letters: N instances (padded), h, w mask resolution, s cells per side of a
box.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

# NumPy on the host, where a batch is built; JAX in the training step.
Array = np.ndarray | jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedMasks:
  """Mask targets over the whole network frame, as bytes.

  A tree with one leaf: a map over the arrays of a batch maps over `data`.

  Attributes:
    data: 'bits': big-endian along the width (np.packbits), [..., N, h, w / 8]
      uint8. 'coverage': covered area of each cell, 255 for all of it,
      [..., N, h, w] uint8.
    encoding: 'bits' or 'coverage'.
    stride: Network pixels per cell.
  """

  data: Array
  encoding: str = dataclasses.field(metadata=dict(static=True))
  stride: int = dataclasses.field(metadata=dict(static=True))

  @property
  def size(self) -> tuple[int, int]:
    """Returns (h, w)."""
    *_, height, width = self.data.shape
    return height, width * (8 if self.encoding == "bits" else 1)

  def unpack(self, rows: jax.Array | None = None) -> Array:
    """Returns the masks as weights of cells.

    Args:
      rows: Indices of instances, of the masks of one image. None: all.

    Returns:
      Weights in [0, 1]. [..., N or len(rows), h, w] float32; a numpy array if
      `data` is one.

    Examples:
      >>> bits = np.array([[[0b10100000]]], np.uint8)  # one mask of 1 x 8 cells
      >>> masks = PackedMasks(data=bits, encoding="bits", stride=4)
      >>> masks.unpack().tolist()
      [[[1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]]
    """
    xp = np if isinstance(self.data, np.ndarray) else jnp
    data = self.data if rows is None else self.data[rows]
    if self.encoding == "bits":
      return xp.unpackbits(data, axis=-1).astype(xp.float32)
    return data.astype(xp.float32) / xp.float32(255)

  def unpack_flat(self) -> Array:
    """Returns `unpack()` with the cells of a mask in one row. [..., N, h * w].

    Flattening the bytes lets XLA sum each mask in one pass.
    """
    data = self.data.reshape(*self.data.shape[:-2], -1)
    return dataclasses.replace(self, data=data).unpack()

  def read(self, row: jax.Array, column: jax.Array) -> jax.Array:
    """Returns single cells of the masks of a batch, without unpacking them.

    Args:
      row: Row of each cell. [B, N or 1, P] int32.
      column: Column of each cell. [B, N or 1, P] int32.

    Returns:
      Weights in [0, 1]. [B, N, P] float32.
    """
    batch, num_masks, height, bytes_per_row = self.data.shape
    flat = self.data.reshape(-1)
    start = jnp.arange(batch * num_masks).reshape(batch, num_masks, 1)
    start = start * height * bytes_per_row + row * bytes_per_row
    if self.encoding == "coverage":
      value = jnp.take(flat, start + column, mode="clip")
      return value.astype(jnp.float32) / 255
    byte = jnp.take(flat, start + column // 8, mode="clip")
    bit = (byte >> (7 - column % 8).astype(jnp.uint8)) & 1
    return bit.astype(jnp.float32)

  def coarsen(self, ratio: int) -> "PackedMasks":
    """Returns the masks of a batch at a lower resolution.

    Bits follow the rule of the 'published' targets, applied to the existing
    bits: a bit is set if at least two of the four central ones of its block are
    set. Coverage is averaged, which is exact.

    Args:
      ratio: Cells along a side that become one; even, and divides the size.

    Returns:
      Coverage (for bits: 0 or 255). [B, N] masks of [h / ratio, w / ratio].
    """
    height, width = self.size
    has_bits = self.encoding == "bits"
    cells = jnp.unpackbits(self.data, axis=-1) if has_bits else self.data
    blocks = cells.reshape(
      *cells.shape[:2], height // ratio, ratio, width // ratio, ratio
    )
    if has_bits:
      center = slice(ratio // 2 - 1, ratio // 2 + 1)
      votes = jnp.sum(
        blocks[:, :, :, center, :, center], axis=(3, 5), dtype=jnp.uint8
      )
      cells = jnp.where(votes >= 2, 255, 0).astype(jnp.uint8)
    else:
      mean = jnp.mean(blocks.astype(jnp.float32), axis=(3, 5))
      cells = jnp.round(mean).astype(jnp.uint8)
    return PackedMasks(
      data=cells, encoding="coverage", stride=ratio * self.stride
    )

  def rectangles(self, boxes_xyxy: Array) -> Array:
    """Returns the rectangle that each mask's grid covers: the whole frame.

    Args:
      boxes_xyxy: Boxes of the instances. [..., N, 4] float32.

    Returns:
      Continuous network pixels. [..., N, 4] float32.
    """
    height, width = (side * self.stride for side in self.size)
    xp = np if isinstance(boxes_xyxy, np.ndarray) else jnp
    frame = xp.asarray([0, 0, width, height], boxes_xyxy.dtype)
    return xp.broadcast_to(frame, boxes_xyxy.shape)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxMaskTargets:
  """Mask targets of instances, each inside its own box.

  The rectangle of a mask is the box of its instance in the batch, clipped to
  the image, cut into s x s cells.

  Attributes:
    data: Covered area of each cell, 255 for all of it. [..., N, s, s] uint8.
  """

  data: Array

  def unpack(self, rows: jax.Array | None = None) -> Array:
    """Returns the masks as weights; see `PackedMasks.unpack`.

    Returns:
      Weights in [0, 1]. [..., N or len(rows), s, s] float32.
    """
    xp = np if isinstance(self.data, np.ndarray) else jnp
    data = self.data if rows is None else self.data[rows]
    return data.astype(xp.float32) / xp.float32(255)

  def rectangles(self, boxes_xyxy: Array) -> Array:
    """Returns the boxes of the instances; see `PackedMasks.rectangles`."""
    return boxes_xyxy
