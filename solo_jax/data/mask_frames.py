"""The frames that target masks are drawn in: the network's, or their own boxes.

Methods with one map for the whole image (SOLO, embeddings) need the first,
methods that look at each box alone (Mask R-CNN and its variants) the second.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from solo_jax.data.mask_targets import (
  MASK_RULES,
  Visible,
  area_between,
  fill_cells,
  locate_cells,
)
from solo_jax.data.transforms import Axis
from solo_jax.types import BoxMaskTargets, PackedMasks

# (visible part of an instance, its box (x1, y1, x2, y2), bytes to fill).
Draw = Callable[[Visible, np.ndarray, np.ndarray], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFrame:
  """Draws each mask in the frame of the network.

  Attributes:
    rule: How the value of a cell is decided.
      'majority': a bit, set if the mask covers at least half of the cell.
      'published': the two-step rule of mmdet: nearest resize to the network
        frame, then bilinear resize by 1 / stride with rounding, which is two
        votes or more among the four central pixels of a cell.
      'coverage': share of the cell covered by the mask, 255 for the whole cell.
    stride: Network pixels per cell.
  """

  rule: str
  stride: int

  def __post_init__(self):
    """Raises ValueError if the rule is unknown or does not suit the stride."""
    if self.rule not in MASK_RULES:
      raise ValueError(
        f"mask_rule must be one of {MASK_RULES}, got {self.rule!r}."
      )
    if self.rule == "published" and self.stride % 2:
      raise ValueError(
        f"mask_rule 'published' needs an even mask_stride, got {self.stride}."
      )

  def empty(self, num: int, image_size: tuple[int, int]) -> PackedMasks:
    """Returns empty masks to draw into.

    Args:
      num: N.
      image_size: (height, width) of the padded network input, in pixels.

    Returns:
      N masks of zeros.

    Raises:
      ValueError: If `image_size` is not a multiple of the stride (8 times that
        in width for the rules that pack bits).
    """
    per_byte = 1 if self.rule == "coverage" else 8
    width_unit = self.stride * per_byte
    if image_size[0] % self.stride or image_size[1] % width_unit:
      raise ValueError(
        f"image_size {tuple(image_size)} must be a multiple of mask_stride "
        f"{self.stride} in height and of {width_unit} in width for mask_rule "
        f"{self.rule!r}."
      )
    shape = num, image_size[0] // self.stride, image_size[1] // width_unit
    return PackedMasks(
      data=np.zeros(shape, np.uint8),
      encoding="coverage" if self.rule == "coverage" else "bits",
      stride=self.stride,
    )

  def start(self, y: Axis, x: Axis, image_size: tuple[int, int]) -> Draw:
    """Returns the function that draws the masks of a sample.

    Args:
      y: The sample's network y axis, from `split_axes`.
      x: Its network x axis.
      image_size: (height, width) of the padded network input.
    """
    height, width = (side // self.stride for side in image_size)
    y_cells = locate_cells(y, height, self.stride, self.rule)
    x_cells = locate_cells(x, width, self.stride, self.rule)

    def draw(visible, box_xyxy, out):
      del box_xyxy
      rows, columns, cells = fill_cells(
        visible, y_cells, x_cells, self.stride, self.rule
      )
      if self.rule == "coverage":
        out[rows, columns] = cells
      else:
        bits = np.zeros((rows.stop - rows.start, width), bool)
        bits[:, columns] = cells
        out[rows] = np.packbits(bits, axis=-1)

    return draw


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxFrame:
  """Draws each mask inside its own box, as covered area.

  Drawn once, at a finer resolution than a mask head predicts; the targets of a
  proposal, whose box may be any part of it, are resampled on the device. Parts
  of a mask outside of its annotated box are not drawn.

  Attributes:
    size: Cells along each side of a box.
  """

  size: int

  def empty(self, num: int, image_size: tuple[int, int]) -> BoxMaskTargets:
    """Returns empty masks to draw into; see `ImageFrame.empty`."""
    del image_size
    return BoxMaskTargets(data=np.zeros((num, self.size, self.size), np.uint8))

  def start(self, y: Axis, x: Axis, image_size: tuple[int, int]) -> Draw:
    """Returns the function that draws; see `ImageFrame.start`."""
    del image_size

    def draw(visible, box_xyxy, out):
      left, top, right, bottom = box_xyxy
      cell_area = (right - left) * (bottom - top) / self.size**2
      if not cell_area:
        return  # an annotated box without area
      y_edges = y.to_original(np.linspace(top, bottom, self.size + 1))
      x_edges = x.to_original(np.linspace(left, right, self.size + 1))
      area = area_between(
        visible.mask, y_edges - visible.top, x_edges - visible.left
      )
      coverage = area * (visible.pixel_area / cell_area)
      out[...] = np.rint(255 * np.minimum(coverage, 1))

    return draw


def from_settings(settings: Mapping[str, Any]) -> ImageFrame | BoxFrame:
  """Returns the frame of the target masks.

  Args:
    settings: The `transforms` section of a config: `mask_frame`, 'image' or
      'box'; `mask_rule` and `mask_stride` for the first, `box_mask_size` for
      the second.

  Returns:
    The frame.

  Raises:
    ValueError: If `mask_frame` or `mask_rule` is unknown.
  """
  name = settings["mask_frame"]
  if name == "image":
    return ImageFrame(
      rule=settings["mask_rule"], stride=settings["mask_stride"]
    )
  if name == "box":
    return BoxFrame(size=settings["box_mask_size"])
  raise ValueError(f"mask_frame must be 'image' or 'box', got {name!r}.")
