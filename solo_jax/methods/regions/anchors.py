"""Anchor boxes of a region proposal network.

Shape letters: L levels, A anchors of all levels.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

STRIDES = (4, 8, 16, 32, 64)  # of P2 to P6
PADDING = 32  # an image's own padded size is a multiple of this
CORNERS = ("exact", "rounded")
SPACINGS = ("stride", "map_size")
TRAINED = ("all", "own_padding", "inside_image")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anchors:
  """Sizes and positions of the anchors.

  Attributes:
    sizes: Square root of an anchor's area on each level, network pixels.
    ratios: Height / width of the anchors of a position.
    corners: 'exact' (detectron2, mmdet), or 'rounded': corners around the
      position are rounded to integers, halves to even (torchvision).
    spacing: Distance of positions: 'stride' of the level (detectron2, mmdet),
      or 'map_size': padded size // size of the map, which is less on P6 if the
      size is not a multiple of 64 (torchvision).
  """

  sizes: tuple[float, ...]
  ratios: tuple[float, ...]
  corners: str
  spacing: str

  def __post_init__(self):
    if self.corners not in CORNERS:
      raise ValueError(f"corners must be in {CORNERS}, got {self.corners!r}.")
    if self.spacing not in SPACINGS:
      raise ValueError(f"spacing must be in {SPACINGS}, got {self.spacing!r}.")


def make_anchors(
  anchors: Anchors,
  map_sizes: Sequence[tuple[int, int]],
  padded_size: tuple[int, int],
) -> tuple[np.ndarray, ...]:
  """Returns the anchors by level, position (row, column) and ratio.

  Args:
    anchors: Sizes and positions.
    map_sizes: (h, w) of each level, P2 to P6.
    padded_size: (H, W) of the network input.

  Returns:
    For each level x1, y1, x2, y2, continuous network pixels, centred on
    (column, row) * spacing. [h * w * ratios, 4] float32.
  """
  roots = np.sqrt(np.asarray(anchors.ratios, np.float32))
  boxes = []
  for size, stride, (height, width) in zip(
    anchors.sizes, STRIDES, map_sizes, strict=True
  ):
    step_y, step_x = stride, stride
    if anchors.spacing == "map_size":
      step_y, step_x = padded_size[0] // height, padded_size[1] // width
    half_w = np.float32(size) * (1 / roots) / 2
    half_h = np.float32(size) * roots / 2
    shapes = np.stack([-half_w, -half_h, half_w, half_h], axis=-1)
    if anchors.corners == "rounded":
      shapes = np.round(shapes)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    centers = np.stack([x * step_x, y * step_y] * 2, axis=-1)
    boxes.append((centers[:, :, None] + shapes).reshape(-1, 4))
  return tuple(boxes)


def find_trained(
  boxes: Sequence[np.ndarray],
  map_sizes: Sequence[tuple[int, int]],
  image_size: jax.Array,
  rule: str,
) -> jax.Array:
  """Returns which anchors of an image may train.

  Args:
    boxes: From `make_anchors`.
    map_sizes: (h, w) of each level.
    image_size: Valid (height, width). [2] int32.
    rule: 'all' (torchvision, detectron2); 'own_padding': those of cells within
      the image's own padded size, in a batch that is padded further (mmdet);
      'inside_image': of these, those wholly inside the image (mmdet's Cascade
      R-CNN and HTC).

  Returns:
    [A] bool.

  Raises:
    ValueError: If the rule is unknown.
  """
  if rule not in TRAINED:
    raise ValueError(f"trained anchors must be in {TRAINED}, got {rule!r}.")
  if rule == "all":
    return jnp.ones(sum(map(len, boxes)), bool)
  padded = -(-image_size // PADDING) * PADDING
  found = []
  for stride, (height, width), level in zip(
    STRIDES, map_sizes, boxes, strict=True
  ):
    rows, columns = -(-padded // stride)
    inside = (np.arange(height) < rows)[:, None] & (np.arange(width) < columns)
    num_ratios = len(level) // (height * width)
    found.append(jnp.repeat(inside.reshape(-1), num_ratios))
  is_trained = jnp.concatenate(found)
  if rule == "inside_image":
    x1, y1, x2, y2 = np.concatenate(boxes).T
    is_trained &= (x1 >= 0) & (y1 >= 0)
    is_trained &= (x2 < image_size[1]) & (y2 < image_size[0])
  return is_trained
