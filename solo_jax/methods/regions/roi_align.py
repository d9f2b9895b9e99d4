"""RoIAlign (https://arxiv.org/abs/1703.06870) as products of two matrices.

Each bin of a box is the mean of bilinear samples on a grid. Rows and columns of
the grid do not depend on one another, so a bin is My @ X @ Mx^T with one
averaging matrix per axis, exactly, and its gradient two transposed products.
Boxes get no gradient.

On a CPU a product runs over the cells below a box only, tile by tile, box by
box; elsewhere over the whole map, which suits matrix units.

Shape letters: B images, R boxes of an image, s side of the result, h, w size of
a map, C channels.
"""

import jax
import jax.numpy as jnp

TILE = 16  # cells; of 8, 12, 16 and 32 the fastest with its gradient
CHUNK = 64  # boxes whose intermediate results are kept at once


def averaging_matrix(
  start: jax.Array,
  end: jax.Array,
  *,
  num_bins: int,
  num_cells: int,
  num_samples: int | None,
) -> jax.Array:
  """Returns the weights of an axis's cells in each bin of each box.

  Args:
    start: First edge of a box, in cells; the centre of cell j is at j.
      [...] float32.
    end: Its other edge. [...] float32.
    num_bins: s.
    num_cells: h or w.
    num_samples: Samples of a bin; None: as many as a bin has cells, rounded
      up (none for a box of zero size, whose result is 0).

  Returns:
    Samples up to one cell beyond the outermost centres read the outermost cell,
    samples farther away 0. [..., s, num_cells] float32.
  """
  start, end = jax.lax.stop_gradient((start, end))
  bin_size = (end - start) / num_bins
  cells = jnp.arange(num_cells, dtype=jnp.float32)
  bins = jnp.arange(num_bins, dtype=jnp.float32)
  if num_samples is None:
    count = jnp.ceil(bin_size)
  else:
    count = jnp.full(start.shape, float(num_samples))
  divisor = jnp.maximum(count, 1.0)[..., None]

  def add_sample(i, total):
    place = bins + (i + 0.5) / divisor  # [..., s]
    position = start[..., None] + place * bin_size[..., None]
    counts = i < count[..., None]
    counts &= (position >= -1) & (position <= num_cells)
    position = jnp.clip(position, 0, num_cells - 1)
    weight = 1 - jnp.abs(position[..., None] - cells)
    return total + jnp.where(counts[..., None], jnp.maximum(weight, 0), 0.0)

  total = jnp.zeros((*start.shape, num_bins, num_cells), jnp.float32)
  most = jnp.max(count, initial=0).astype(jnp.int32)
  if num_samples is not None:
    most = num_samples
  total = jax.lax.fori_loop(0, most, add_sample, total)
  return total / divisor[..., None]


def roi_matrices(
  boxes: jax.Array,
  map_size: tuple[int, int],
  *,
  stride: int,
  size: int,
  is_aligned: bool,
  num_samples: int | None,
) -> tuple[jax.Array, jax.Array]:
  """Returns both averaging matrices of boxes on a feature map.

  Args:
    boxes: Continuous network pixels. [..., 4] float32.
    map_size: (h, w).
    stride: Network pixels per cell.
    size: s.
    is_aligned: Whether the centre of a cell is half a cell from its edge
      (detectron2, mmdet). If not, it is assumed to be on the edge, and sides
      are at least one cell (torchvision).
    num_samples: See `averaging_matrix`.

  Returns:
    Of rows [..., s, h] and of columns [..., s, w] float32.
  """
  scaled = boxes * (1 / stride) - (0.5 if is_aligned else 0.0)
  matrices = []
  for axis, num_cells in ((1, map_size[0]), (0, map_size[1])):
    start, end = scaled[..., axis], scaled[..., axis + 2]
    if not is_aligned:
      end = start + jnp.maximum(end - start, 1.0)
    matrices.append(
      averaging_matrix(
        start,
        end,
        num_bins=size,
        num_cells=num_cells,
        num_samples=num_samples,
      )
    )
  return tuple(matrices)


@jax.custom_vjp
def pool(
  feature: jax.Array, rows: jax.Array, columns: jax.Array, counts: jax.Array
) -> jax.Array:
  """Returns a map averaged over bins: rows @ feature @ columns^T.

  Args:
    feature: [B, h, w, C] float.
    rows: [B, R, s, h] float32.
    columns: [B, R, s, w] float32.
    counts: Boxes of which the result is wanted. [B, R] bool.

  Returns:
    0 where not wanted. [B, R, s, s, C], dtype of `feature`.
  """
  return jax.lax.platform_dependent(
    feature, rows, columns, counts, cpu=pool_by_tiles, default=pool_by_products
  )


def _pool_forward(feature, rows, columns, counts):
  kept = rows, columns, counts, feature[:, :, :, :0]
  return pool(feature, rows, columns, counts), kept


def _pool_backward(kept, gradient):
  rows, columns, counts, like = kept
  by_feature = jax.lax.platform_dependent(
    gradient,
    rows,
    columns,
    counts,
    cpu=spread_by_tiles,
    default=spread_by_products,
  )
  return by_feature.astype(like.dtype), None, None, None


pool.defvjp(_pool_forward, _pool_backward)


def pool_by_products(feature, rows, columns, counts):
  """Computes `pool` by products over the whole map."""

  def pool_image(feature, rows, columns):
    return _in_chunks(
      lambda row, column: jnp.einsum(
        "rih,hwc,rjw->rijc",
        row.astype(feature.dtype),
        feature,
        column.astype(feature.dtype),
        preferred_element_type=jnp.float32,
      ).astype(feature.dtype),
      rows,
      columns,
    )

  rows = jnp.where(counts[..., None, None], rows, 0.0)
  return jax.vmap(pool_image)(feature, rows, columns)


def spread_by_products(gradient, rows, columns, counts):
  """Computes the gradient of `pool` by products. [B, h, w, C] float32."""

  def spread_image(gradient, rows, columns):
    def add(total, chunk):
      row, column, gradient = chunk
      product = jnp.einsum(
        "rih,rijc,rjw->hwc",
        row,
        gradient.astype(jnp.float32),
        column,
      )
      return total + product, None

    shape = (rows.shape[-1], columns.shape[-1], gradient.shape[-1])
    chunks = jax.tree.map(_chunked, (rows, columns, gradient))
    return jax.lax.scan(add, jnp.zeros(shape, jnp.float32), chunks)[0]

  rows = jnp.where(counts[..., None, None], rows, 0.0)
  return jax.vmap(spread_image)(gradient, rows, columns)


def _chunked(x: jax.Array) -> jax.Array:
  """Returns a padded, split first axis. [R, ...] -> [chunks, CHUNK, ...]."""
  pad = -len(x) % CHUNK
  x = jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1))
  return x.reshape(-1, CHUNK, *x.shape[1:])


def _in_chunks(function, *arrays):
  count = len(arrays[0])
  result = jax.lax.map(lambda x: function(*x), tuple(map(_chunked, arrays)))
  return result.reshape(-1, *result.shape[2:])[:count]


def pool_by_tiles(feature, rows, columns, counts):
  """Computes `pool` box by box, over the tiles that a box has cells in."""
  _, num_boxes, size, _ = rows.shape
  feature, rows, columns = _at_least_a_tile(feature, rows, columns)
  walk = _Walk(rows, columns, counts)

  def add_box(step, result):
    box = walk.boxes[step]
    image = box // num_boxes

    def add_tile(tile, total):
      (top, row), (left, column) = walk.tile(box, tile)
      block = jax.lax.dynamic_slice(
        feature,
        (image, top, left, 0),
        (1, TILE, TILE, feature.shape[-1]),
      )[0]
      block = block.astype(jnp.float32).reshape(TILE, -1)
      strips = (row @ block).reshape(size, TILE, -1)
      return total + jnp.einsum("jw,iwc->ijc", column, strips)

    zeros = jnp.zeros((size, size, feature.shape[-1]), jnp.float32)
    total = jax.lax.fori_loop(0, walk.num_tiles(box), add_tile, zeros)
    return jax.lax.dynamic_update_slice(
      result, total.astype(feature.dtype)[None], (box, 0, 0, 0)
    )

  shape = (counts.size, size, size, feature.shape[-1])
  result = jax.lax.fori_loop(
    0, walk.num_boxes, add_box, jnp.zeros(shape, feature.dtype)
  )
  return result.reshape(*counts.shape, *shape[1:])


def spread_by_tiles(gradient, rows, columns, counts):
  """Computes the gradient of `pool` tile by tile. [B, h, w, C] float32."""
  batch, num_boxes, size, height = rows.shape
  width, channels = columns.shape[-1], gradient.shape[-1]
  _, rows, columns = _at_least_a_tile(None, rows, columns)
  gradient = gradient.reshape(-1, size, size, channels)
  walk = _Walk(rows, columns, counts)

  def add_box(step, result):
    box = walk.boxes[step]
    image = box // num_boxes
    by_bins = jax.lax.dynamic_index_in_dim(gradient, box, keepdims=False)
    by_bins = by_bins.astype(jnp.float32)

    def add_tile(tile, result):
      (top, row), (left, column) = walk.tile(box, tile)
      strips = jnp.einsum("jw,ijc->iwc", column, by_bins)
      block = row.T @ strips.reshape(size, -1)
      at = (image, top, left, 0)
      shape = (1, TILE, TILE, channels)
      old = jax.lax.dynamic_slice(result, at, shape)
      return jax.lax.dynamic_update_slice(
        result, old + block.reshape(shape), at
      )

    return jax.lax.fori_loop(0, walk.num_tiles(box), add_tile, result)

  shape = (batch, rows.shape[-1], columns.shape[-1], channels)
  result = jax.lax.fori_loop(
    0, walk.num_boxes, add_box, jnp.zeros(shape, jnp.float32)
  )
  return result[:, :height, :width]


def _at_least_a_tile(feature, rows, columns):
  """Pads maps that are smaller than a tile."""
  pad = [max(TILE - x.shape[-1], 0) for x in (rows, columns)]
  if feature is not None:
    feature = jnp.pad(feature, ((0, 0), (0, pad[0]), (0, pad[1]), (0, 0)))
  rows, columns = (
    jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, n)))
    for x, n in zip((rows, columns), pad, strict=True)
  )
  return feature, rows, columns


class _Walk:
  """The boxes whose results are wanted, and the tiles of each.

  Attributes:
    boxes: Flat indices, those wanted first. [B * R] int32.
    num_boxes: Number of wanted boxes. [] int32.
  """

  def __init__(self, rows, columns, counts):
    counts = counts.reshape(-1)
    self.boxes = jnp.argsort(~counts, stable=True)
    self.num_boxes = jnp.sum(counts)
    self._axes = []
    for matrices in (rows, columns):
      matrices = matrices.reshape(-1, *matrices.shape[2:])
      is_used = jnp.any(matrices > 0, axis=1)  # [B * R, cells]
      first = jnp.argmax(is_used, axis=1)
      last = is_used.shape[1] - jnp.argmax(is_used[:, ::-1], axis=1)
      num_tiles = jnp.where(
        jnp.any(is_used, axis=1), (last - first + TILE - 1) // TILE, 0
      )
      self._axes.append((matrices, first, num_tiles))

  def num_tiles(self, box):
    """Returns the tiles of a box; 0 for one beyond the map."""
    (_, _, rows), (_, _, columns) = self._axes
    return rows[box] * columns[box]

  def tile(self, box, tile):
    """Returns (start, matrix [s, TILE]) of a tile's rows and columns."""
    across = self._axes[1][2][box]
    numbers = tile // across, tile % across
    return tuple(
      self._cut(box, number, *axis)
      for number, axis in zip(numbers, self._axes, strict=True)
    )

  @staticmethod
  def _cut(box, number, matrices, first, _):
    start = first[box] + number * TILE
    # A tile that would exceed the map begins earlier; the part shared with the
    # previous tile is left out.
    begin = jnp.minimum(start, matrices.shape[-1] - TILE)
    matrix = jax.lax.dynamic_slice(
      matrices, (box, 0, begin), (1, matrices.shape[1], TILE)
    )[0]
    is_own = begin + jnp.arange(TILE) >= start
    return begin, jnp.where(is_own, matrix, 0.0)
