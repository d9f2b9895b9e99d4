"""RoIAlign (https://arxiv.org/abs/1703.06870) as products of two matrices.

Each bin of a box is the mean of bilinear samples on a grid. Rows and columns of
the grid do not depend on one another, so a bin is My @ X @ Mx^T with one
averaging matrix per axis, exactly, and its gradient two transposed products.
Boxes get no gradient.

On a CPU a product runs over the cells below a box only, tile by tile, box by
box, in one loop over the boxes of all levels: a loop per level takes several
times as long to compile. Elsewhere it runs over the whole map, level by level,
which suits matrix units.

Shape letters: B images, R boxes per image, s side of the result, h, w size of
the largest map, C channels.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

TILE = 16  # cells; of 8, 12, 16 and 32 the fastest with its gradient
CHUNK = 64  # boxes whose intermediate results are kept at once


def averaging_matrix(
  start: jax.Array,
  end: jax.Array,
  *,
  num_bins: int,
  num_cells: int | jax.Array,
  length: int,
  num_samples: int | None,
) -> jax.Array:
  """Returns the weights of an axis's cells in each bin of each box.

  Args:
    start: First edge of a box, in cells; the centre of cell j is at j.
      [...] float32.
    end: Its other edge. [...] float32.
    num_bins: s.
    num_cells: Cells of each box's map along the axis, at most `length`; the
      weights of others are 0. [...] int32 or one for all.
    length: h or w.
    num_samples: Samples of a bin; None: as many as a bin has cells, rounded
      up (none for a box of zero size, whose result is 0).

  Returns:
    Samples up to one cell beyond the outermost centres read the outermost cell,
    samples farther away 0. [..., s, length] float32.
  """
  start, end = jax.lax.stop_gradient((start, end))
  bin_size = (end - start) / num_bins
  cells = jnp.arange(length, dtype=jnp.float32)
  bins = jnp.arange(num_bins, dtype=jnp.float32)
  if num_samples is None:
    count = jnp.ceil(bin_size)
  else:
    count = jnp.full(start.shape, float(num_samples))
  divisor = jnp.maximum(count, 1.0)[..., None]
  num_cells = jnp.asarray(num_cells)[..., None]

  def add_sample(i, total):
    place = bins + (i + 0.5) / divisor  # [..., s]
    position = start[..., None] + place * bin_size[..., None]
    counts = i < count[..., None]
    counts &= (position >= -1) & (position <= num_cells)
    position = jnp.clip(position, 0, num_cells - 1)
    weight = 1 - jnp.abs(position[..., None] - cells)
    return total + jnp.where(counts[..., None], jnp.maximum(weight, 0), 0.0)

  total = jnp.zeros((*start.shape, num_bins, length), jnp.float32)
  most = jnp.max(count, initial=0).astype(jnp.int32)
  if num_samples is not None:
    most = num_samples
  total = jax.lax.fori_loop(0, most, add_sample, total)
  return total / divisor[..., None]


def roi_matrices(
  boxes: jax.Array,
  levels: jax.Array,
  map_sizes: Sequence[tuple[int, int]],
  *,
  strides: Sequence[int],
  size: int,
  is_aligned: bool,
  num_samples: int | None,
) -> tuple[jax.Array, jax.Array]:
  """Returns both averaging matrices of boxes, each on the map of its level.

  Args:
    boxes: Continuous network pixels. [..., 4] float32.
    levels: Which of the maps. [...] int32.
    map_sizes: Height and width of each map.
    strides: Network pixels per cell of each map.
    size: s.
    is_aligned: Whether the centre of a cell is half a cell from its edge
      (detectron2, mmdet). If not, it is assumed to be on the edge, and sides
      are at least one cell (torchvision).
    num_samples: See `averaging_matrix`.

  Returns:
    Of rows [..., s, h] and of columns [..., s, w] float32.
  """
  scale = jnp.asarray([1 / stride for stride in strides], jnp.float32)[levels]
  scaled = boxes * scale[..., None] - (0.5 if is_aligned else 0.0)
  matrices = []
  heights, widths = zip(*map_sizes, strict=True)
  for axis, num_cells in ((1, heights), (0, widths)):
    start, end = scaled[..., axis], scaled[..., axis + 2]
    if not is_aligned:
      end = start + jnp.maximum(end - start, 1.0)
    matrices.append(
      averaging_matrix(
        start,
        end,
        num_bins=size,
        num_cells=jnp.asarray(num_cells)[levels],
        length=max(num_cells),
        num_samples=num_samples,
      )
    )
  return tuple(matrices)


@jax.custom_vjp
def pool(
  pyramid: Sequence[jax.Array],
  levels: jax.Array,
  rows: jax.Array,
  columns: jax.Array,
  counts: jax.Array,
) -> jax.Array:
  """Returns maps averaged over bins: rows @ map @ columns^T.

  Args:
    pyramid: Maps. [B, height, width, C] float each.
    levels: Which map a box is on. [B, R] int32.
    rows: See `roi_matrices`. [B, R, s, h] float32.
    columns: [B, R, s, w] float32.
    counts: Boxes whose result is wanted. [B, R] bool.

  Returns:
    0 where not wanted. [B, R, s, s, C], dtype of `pyramid`.
  """
  return jax.lax.platform_dependent(
    tuple(pyramid),
    levels,
    rows,
    columns,
    counts,
    cpu=pool_by_tiles,
    default=pool_by_products,
  )


def _pool_forward(pyramid, levels, rows, columns, counts):
  like = [x[:, :, :, :0] for x in pyramid]
  kept = levels, rows, columns, counts, like
  return pool(pyramid, levels, rows, columns, counts), kept


def _pool_backward(kept, gradient):
  levels, rows, columns, counts, like = kept
  sizes = [x.shape[1:3] for x in like]
  by_maps = jax.lax.platform_dependent(
    gradient,
    levels,
    rows,
    columns,
    counts,
    cpu=functools.partial(spread_by_tiles, sizes=sizes),
    default=functools.partial(spread_by_products, sizes=sizes),
  )
  by_maps = (x.astype(y.dtype) for x, y in zip(by_maps, like, strict=True))
  return tuple(by_maps), None, None, None, None


pool.defvjp(_pool_forward, _pool_backward)


def pool_by_products(pyramid, levels, rows, columns, counts):
  """Computes `pool` by products over the whole maps."""

  def pool_image(feature, rows, columns):
    def pool_chunk(matrices):
      row, column = (x.astype(feature.dtype) for x in matrices)
      return jnp.einsum(
        "rih,hwc,rjw->rijc",
        row,
        feature,
        column,
        preferred_element_type=jnp.float32,
      ).astype(feature.dtype)

    result = jax.lax.map(pool_chunk, (_chunked(rows), _chunked(columns)))
    return result.reshape(-1, *result.shape[2:])[: len(rows)]

  sizes = [x.shape[1:3] for x in pyramid]
  cuts = _cut_by_levels(levels, rows, columns, counts, sizes)
  return sum(
    jax.vmap(pool_image)(feature, *matrices)
    for feature, matrices in zip(pyramid, cuts, strict=True)
  )


def spread_by_products(gradient, levels, rows, columns, counts, *, sizes):
  """Computes the gradient of `pool`. [B, height, width, C] float32 each."""

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

  cuts = _cut_by_levels(levels, rows, columns, counts, sizes)
  return [jax.vmap(spread_image)(gradient, *matrices) for matrices in cuts]


def _cut_by_levels(levels, rows, columns, counts, sizes):
  """Yields the matrices of each level; rows of other boxes are 0."""
  for level, (height, width) in enumerate(sizes):
    is_here = (counts & (levels == level))[..., None, None]
    yield jnp.where(is_here, rows[..., :height], 0.0), columns[..., :width]


def _chunked(x: jax.Array) -> jax.Array:
  """Returns a padded, split first axis. [R, ...] -> [chunks, CHUNK, ...]."""
  pad = -len(x) % CHUNK
  x = jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1))
  return x.reshape(-1, CHUNK, *x.shape[1:])


def pool_by_tiles(pyramid, levels, rows, columns, counts):
  """Computes `pool` box by box, over the tiles that a box has cells in."""
  num_boxes, size = rows.shape[1:3]
  channels, dtype = pyramid[0].shape[-1], pyramid[0].dtype
  sizes = _at_least_a_tile([x.shape[1:3] for x in pyramid])
  pyramid = [
    _padded(x, {1: h, 2: w}) for x, (h, w) in zip(pyramid, sizes, strict=True)
  ]
  walk = _Walk(levels, rows, columns, counts, sizes)

  def read(feature, at):
    shape = (1, TILE, TILE, channels)
    block = jax.lax.dynamic_slice(feature, at, shape)
    return block.astype(jnp.float32).reshape(TILE, -1)

  readers = [functools.partial(read, feature) for feature in pyramid]

  def add_box(step, result):
    box = walk.boxes[step]

    def add_tile(tile, total):
      (top, row), (left, column) = walk.tile(box, tile)
      at = (box // num_boxes, top, left, 0)
      block = jax.lax.switch(walk.levels[box], readers, at)
      strips = (row @ block).reshape(size, TILE, -1)
      return total + jnp.einsum("jw,iwc->ijc", column, strips)

    zeros = jnp.zeros((size, size, channels), jnp.float32)
    total = jax.lax.fori_loop(0, walk.num_tiles(box), add_tile, zeros)
    return jax.lax.dynamic_update_slice(
      result, total.astype(dtype)[None], (box, 0, 0, 0)
    )

  result = jnp.zeros((counts.size, size, size, channels), dtype)
  result = jax.lax.fori_loop(0, walk.num_boxes, add_box, result)
  return result.reshape(*counts.shape, *result.shape[1:])


def spread_by_tiles(gradient, levels, rows, columns, counts, *, sizes):
  """Computes the gradient of `pool`. [B, height, width, C] float32 each.

  The gradients of all maps are added up on one sheet, on which the first is on
  the left and the others, one below the other, are on the right.
  """
  batch, num_boxes, size = rows.shape[:3]
  channels = gradient.shape[-1]
  gradient = gradient.reshape(-1, size, size, channels)
  padded = _at_least_a_tile(sizes)
  walk = _Walk(levels, rows, columns, counts, padded)
  places, sheet = _sheet(padded)
  places = jnp.asarray(places)

  def add_box(step, result):
    box = walk.boxes[step]
    by_bins = jax.lax.dynamic_index_in_dim(gradient, box, keepdims=False)
    by_bins = by_bins.astype(jnp.float32)
    y, x = places[walk.levels[box]]

    def add_tile(tile, result):
      (top, row), (left, column) = walk.tile(box, tile)
      strips = jnp.einsum("jw,ijc->iwc", column, by_bins)
      block = row.T @ strips.reshape(size, -1)
      at = (box // num_boxes, y + top, x + left, 0)
      shape = (1, TILE, TILE, channels)
      old = jax.lax.dynamic_slice(result, at, shape)
      return jax.lax.dynamic_update_slice(
        result, old + block.reshape(shape), at
      )

    return jax.lax.fori_loop(0, walk.num_tiles(box), add_tile, result)

  result = jnp.zeros((batch, *sheet, channels), jnp.float32)
  result = jax.lax.fori_loop(0, walk.num_boxes, add_box, result)
  return [
    result[:, y : y + height, x : x + width]
    for (y, x), (height, width) in zip(_sheet(padded)[0], sizes, strict=True)
  ]


def _sheet(sizes):
  """Returns each map's place (top, left), and the size of a sheet for all."""
  (height, width), *others = sizes
  places, top = [(0, 0)], 0
  for below, _ in others:
    places.append((top, width))
    top += below
  width += max((w for _, w in others), default=0)
  return places, (max(height, top), width)


def _at_least_a_tile(sizes):
  return [(max(h, TILE), max(w, TILE)) for h, w in sizes]


def _padded(x, sides):
  """Returns an array with zeros up to the length of each axis named."""
  pad = [(0, sides.get(axis, n) - n) for axis, n in enumerate(x.shape)]
  return jnp.pad(x, pad)


class _Walk:
  """The boxes whose results are wanted, and the tiles of each.

  Attributes:
    boxes: Flat indices, those wanted first. [B * R] int32.
    num_boxes: Number of wanted boxes. [] int32.
    levels: Which map a box is on. [B * R] int32.
  """

  def __init__(self, levels, rows, columns, counts, sizes):
    counts = counts.reshape(-1)
    self.levels = levels.reshape(-1)
    self.boxes = jnp.argsort(~counts, stable=True)
    self.num_boxes = jnp.sum(counts)
    self._axes = []
    for matrices, sides in zip(
      (rows, columns), zip(*sizes, strict=True), strict=True
    ):
      matrices = matrices.reshape(-1, *matrices.shape[2:])
      is_used = jnp.any(matrices > 0, axis=1)  # [B * R, cells]
      first = jnp.argmax(is_used, axis=1)
      last = is_used.shape[1] - jnp.argmax(is_used[:, ::-1], axis=1)
      num_tiles = jnp.where(
        jnp.any(is_used, axis=1), (last - first + TILE - 1) // TILE, 0
      )
      matrices = _padded(matrices, {2: max(sides)})
      limit = (jnp.asarray(sides) - TILE)[self.levels]
      self._axes.append((matrices, first, limit, num_tiles))

  def num_tiles(self, box):
    """Returns the tiles of a box; 0 for one beyond the map."""
    (*_, rows), (*_, columns) = self._axes
    return rows[box] * columns[box]

  def tile(self, box, tile):
    """Returns (start, matrix [s, TILE]) of a tile's rows and columns."""
    across = self._axes[1][-1][box]
    numbers = tile // across, tile % across
    return tuple(
      self._cut(box, number, *axis)
      for number, axis in zip(numbers, self._axes, strict=True)
    )

  @staticmethod
  def _cut(box, number, matrices, first, limit, _):
    start = first[box] + number * TILE
    # A tile that would exceed the map begins earlier; the part shared with the
    # previous tile is left out.
    begin = jnp.minimum(start, limit[box])
    matrix = jax.lax.dynamic_slice(
      matrices, (box, 0, begin), (1, matrices.shape[1], TILE)
    )[0]
    is_own = begin + jnp.arange(TILE) >= start
    return begin, jnp.where(is_own, matrix, 0.0)
