"""The arrays passed between the parts of solo_jax, and the shape letters.

Shape letters, used with the same meaning in every docstring of the package:
  B: images in a batch. H, W: height and width of the padded network input.
  h, w: height and width of the mask feature, H / mask_stride, W / mask_stride.
  K: classes (no background slot). S: grid cells per side of a level.
  G: grid cells over all levels. C: channels. E: mask-feature channels.
  D: kernel parameters per cell (D = E, the kernel is 1x1).
  N: ground-truth instances per image, padded. P: positive cells, padded.
  M: detections per image, padded. T: tag dimensions.

Coordinates are (x right, y down) in pixels. A *continuous* coordinate has
pixel i covering [i, i + 1); a *pixel index* coordinate has pixel i at i.
Sizes are (height, width). `valid` marks real entries; *mask* always means
a segmentation mask.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from solo_jax.target_masks import BoxMaskTargets, PackedMasks

NO_STUFF = 255  # in stuff maps: a pixel of no class


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
  """One image with its instances on the host, the input of transforms.

  Geometry is lazy: transforms only compose `affine` and set `image_size`; the
  pixels in `image` and `masks` stay those of the original file until
  `batching` renders them once.

  Attributes:
    image: Original pixels, RGB. [H0, W0, 3] uint8 or uint16.
    masks: Visible pixels of each instance in the original frame.
      [N, H0, W0] bool; from `data.records`, decoded when indexed.
    labels: Class of each instance, 0..K-1. [N] int32.
    areas: Annotated area in original pixels. [N] float64.
    boxes_xyxy: Annotated box, continuous original pixels. [N, 4] float64.
    is_crowd: COCO's iscrowd. [N] bool.
    annotation_ids: Annotation id in the source. [N] int64.
    image_id: Image id in the source.
    file_name: File name in the source, for messages.
    original_size: (H0, W0).
    affine: Maps continuous original (x, y) to continuous network (x, y):
      x' = affine[0, 0] * x + affine[0, 2] and likewise for y; off-diagonal
      entries are nonzero after a transposition only. [2, 3] float64.
    image_size: (height, width) of the valid image content in the network
      frame, which starts at (0, 0); the rest is padding.
    stuff: Class of each pixel, 255 for none; None where the data have no such
      maps. [H0, W0] uint8.
    is_corrupt: The record's image could not be decoded; `image` is blank and
      there are no instances.
  """

  image: np.ndarray
  masks: np.ndarray
  labels: np.ndarray
  areas: np.ndarray
  boxes_xyxy: np.ndarray
  is_crowd: np.ndarray
  annotation_ids: np.ndarray
  image_id: int
  file_name: str
  original_size: tuple[int, int]
  affine: np.ndarray
  image_size: tuple[int, int]
  is_corrupt: bool = False
  stuff: np.ndarray | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
  """A training batch, about 1 MB per image at 512 x 512.

  Attributes:
    image: Padded, not normalised, RGB. [B, H, W, 3] uint8.
    image_size: Valid (height, width) of each image. [B, 2] int32.
    image_valid: False for an image to ignore: padding of a partial batch or a
      corrupt record. [B] bool.
    masks: Mask targets. [B, N] masks of [h, w], or of [s, s] in their boxes.
    centers: Centre of mass (x, y) of the visible mask in pixel-index network
      coordinates. [B, N, 2] float32.
    boxes_xyxy: Box of the annotation clipped to the crop, continuous network
      coordinates. [B, N, 4] float32.
    labels: [B, N] int32.
    valid: [B, N] bool.
    num_dropped: Instances beyond the capacity N. [B] int32.
    row: Row of each image in the global batch, which random draws are keyed
      by. [B] int32.
    semantic: Class of each cell of stride 8, 255 for none; None where the data
      have no such maps. [B, H / 8, W / 8] uint8.
    crowd_boxes_xyxy: Boxes of regions of many objects, zeros beyond their
      number; None where the config asks for none. [B, max_crowds, 4] float32.
    num_crowds_dropped: Crowds beyond max_crowds; None as well. [B] int32.
  """

  image: jax.Array
  image_size: jax.Array
  image_valid: jax.Array
  masks: PackedMasks | BoxMaskTargets
  centers: jax.Array
  boxes_xyxy: jax.Array
  labels: jax.Array
  valid: jax.Array
  num_dropped: jax.Array
  row: jax.Array
  semantic: jax.Array | None = None
  crowd_boxes_xyxy: jax.Array | None = None
  num_crowds_dropped: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameMasks:
  """Decoded masks, each over the whole padded network frame.

  Attributes:
    probs: Probability that a pixel belongs to the instance, at mask
      resolution. [B, M, h, w] float32 in [0, 1].
    resize: How they get the size of the image: 'padded', first to the padded
      input and then to the image (the SOLOs, Mask2Former); 'direct', in one
      step (YOLACT), also if a cell is not a whole number of pixels.
  """

  probs: jax.Array
  resize: str = dataclasses.field(default="padded", metadata=dict(static=True))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxMasks:
  """Decoded masks, each over its own box.

  Attributes:
    probs: Probability that a pixel belongs to the instance, on a grid over its
      box. [B, M, s, s] float32 in [0, 1].
    boxes_xyxy: Continuous network coordinates. [B, M, 4] float32.
    paste: How a mask is pasted into the image, see `inference.box_masks`:
      'aligned' (detectron2, mmdet) or 'torchvision'.
  """

  probs: jax.Array
  boxes_xyxy: jax.Array
  paste: str = dataclasses.field(default="aligned", metadata=dict(static=True))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoded:
  """Detections as decoded on the device, before resizing to original size.

  Sorted by decreasing score; invalid entries last, with score 0.

  Attributes:
    masks: The masks.
    scores: [B, M] float32 in [0, 1].
    labels: [B, M] int32.
    valid: [B, M] bool.
    num_dropped: Candidates above the score threshold that did not fit in
      the candidate capacity. [B] int32.
    boxes_xyxy: Predicted boxes, continuous network coordinates; None where a
      method predicts masks alone. [B, M, 4] float32.
  """

  masks: FrameMasks | BoxMasks
  scores: jax.Array
  labels: jax.Array
  valid: jax.Array
  num_dropped: jax.Array
  boxes_xyxy: jax.Array | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CroppedMasks:
  """Masks of one image, each kept inside its box only.

  Represents an array [M, H0, W0] of a large image with many instances, which
  would not fit into memory. Indexing returns one dense mask; slicing returns
  cropped masks.

  Attributes:
    size: (H0, W0).
    corners: (top, left) of each crop in the image.
    crops: The masks inside their boxes. M of [h, w] bool.
  """

  size: tuple[int, int]
  corners: Sequence[tuple[int, int]]
  crops: Sequence[np.ndarray]

  @property
  def shape(self) -> tuple[int, int, int]:
    """Returns (M, H0, W0)."""
    return len(self), *self.size

  def __len__(self) -> int:
    return len(self.crops)

  def __getitem__(self, index: int | slice) -> "np.ndarray | CroppedMasks":
    if isinstance(index, slice):
      return dataclasses.replace(
        self, corners=self.corners[index], crops=self.crops[index]
      )
    crop, (top, left) = self.crops[index], self.corners[index]
    mask = np.zeros(self.size[::-1], bool).T
    mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return mask

  def to_dense(self) -> np.ndarray:
    """Returns all masks. [M, H0, W0] bool, planes column-major."""
    height, width = self.size
    masks = np.zeros((len(self), width, height), bool).transpose(0, 2, 1)
    for mask, crop, (top, left) in zip(
      masks, self.crops, self.corners, strict=True
    ):
      mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return masks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instances:
  """Final detections of one image at its original size, on the host.

  Attributes:
    masks: [M, H0, W0] bool, C-contiguous as a transposed view of column-major
      planes (so that RLE encoding needs no copy). CroppedMasks of that shape
      for an image that was read in tiles, or whose planes would be large.
    scores: [M] float32, decreasing.
    labels: [M] int32.
    boxes_xyxy: Box of each instance, continuous pixels: the predicted one where
      the method predicts boxes, elsewhere the tight box of the mask, zeros for
      an empty mask. [M, 4] float32.
    mask_boxes_xyxy: Tight box of each mask where `boxes_xyxy` are predicted;
      None where they are tight themselves. [M, 4] float32.
  """

  masks: np.ndarray | CroppedMasks
  scores: np.ndarray
  labels: np.ndarray
  boxes_xyxy: np.ndarray
  mask_boxes_xyxy: np.ndarray | None = None

  @property
  def has_predicted_boxes(self) -> bool:
    """Returns whether `boxes_xyxy` were predicted, not derived from masks."""
    return self.mask_boxes_xyxy is not None

  @property
  def tight_boxes_xyxy(self) -> np.ndarray:
    """Returns the tight box of each mask. [M, 4] float32."""
    if self.mask_boxes_xyxy is None:
      return self.boxes_xyxy
    return self.mask_boxes_xyxy

  def __len__(self) -> int:
    return len(self.scores)

  def above(self, score: float) -> "Instances":
    """Returns the instances of at least a score; no mask is copied.

    Examples:
      >>> found = Instances(
      ...   masks=np.ones((2, 4, 4), bool),
      ...   scores=np.array([0.9, 0.2], np.float32),
      ...   labels=np.array([0, 1], np.int32),
      ...   boxes_xyxy=np.array([[0, 0, 4, 4]] * 2, np.float32),
      ... )
      >>> len(found), len(found.above(0.5))
      (2, 1)
    """
    return self.first(int(np.sum(self.scores >= score)))

  def crop(self, index: int) -> tuple[slice, slice, np.ndarray]:
    """Returns one mask inside its tight box.

    Args:
      index: Index of the instance.

    Returns:
      Rows and columns of the box in the image, and the mask there. [h, w] bool.
    """
    left, top, right, bottom = self.tight_boxes_xyxy[index].astype(int)
    rows, columns = slice(top, bottom), slice(left, right)
    if isinstance(self.masks, CroppedMasks):
      return rows, columns, self.masks.crops[index]
    return rows, columns, self.masks[index, rows, columns]

  def to_dense(self, max_pixels: int) -> "Instances":
    """Returns the instances of the highest scores with dense masks.

    Args:
      max_pixels: Limit for the pixels of all masks together; instances beyond
        it are left out.

    Returns:
      The instances that fit.
    """
    height, width = self.masks.shape[1:]
    kept = self.first(max_pixels // (height * width))
    if isinstance(kept.masks, CroppedMasks):
      kept = dataclasses.replace(kept, masks=kept.masks.to_dense())
    return kept

  def take(self, indices: Sequence[int]) -> "Instances":
    """Returns some instances, in the order of their indices."""
    rows = np.asarray(indices, int)
    if isinstance(self.masks, CroppedMasks):
      masks = dataclasses.replace(
        self.masks,
        corners=[self.masks.corners[i] for i in rows],
        crops=[self.masks.crops[i] for i in rows],
      )
    else:  # planes stay column-major
      masks = self.masks.transpose(0, 2, 1)[rows].transpose(0, 2, 1)
    return self._at(rows, masks)

  def first(self, number: int) -> "Instances":
    """Returns the instances of the highest scores; no mask is copied."""
    kept = slice(number)
    return self._at(kept, self.masks[kept])

  def _at(self, kept, masks):
    tight = self.mask_boxes_xyxy
    return Instances(
      masks=masks,
      scores=self.scores[kept],
      labels=self.labels[kept],
      boxes_xyxy=self.boxes_xyxy[kept],
      mask_boxes_xyxy=None if tight is None else tight[kept],
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
  """One region of a SegmentMap.

  Attributes:
    id: Its value in the map, from 1.
    label: Label of its class.
    score: Score in [0, 1].
    is_thing: Whether it is a single object; False for a region of a class.
  """

  id: int
  label: int
  score: float
  is_thing: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentMap:
  """A panoptic or semantic segmentation of one image, on the host.

  Attributes:
    ids: Segment of each pixel at the original size, 0 for none.
      [H0, W0] int32.
    segments: The segments in the map.
  """

  ids: np.ndarray
  segments: Sequence[Segment]
