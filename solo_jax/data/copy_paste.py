"""Copy-paste: instances of another image are pasted onto this one.

Ghiasi et al. 2021, https://arxiv.org/abs/2012.07177, section 3. Both images are
augmented and rendered; without blending, which had no effect in the paper.

Shape letters: N instances of this image, n instances of the other one, H and W
of the frame that contains both images.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from solo_jax.types import NO_STUFF, CroppedMasks, Sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class CopyPaste:
  """Pastes a random subset of the instances of another image.

  Attributes:
    probability: Probability of pasting at all.
  """

  probability: float

  def __call__(
    self,
    sample: Sample,
    rng: np.random.Generator,
    draw_other: Callable[[], Sample],
  ) -> Sample:
    """Returns the sample with random instances of another image pasted onto it.

    Args:
      sample: Rendered in its network frame, see `batching.render_sample`.
      rng: Source of all draws.
      draw_other: Returns another such sample.

    Returns:
      The sample with the pasted instances; see `paste`.
    """
    if rng.random() >= self.probability:
      return sample
    other = draw_other()
    candidates = np.flatnonzero(~other.is_crowd)
    number = rng.integers(len(candidates), endpoint=True)
    chosen = rng.permutation(candidates)[:number]
    return paste(sample, other, np.sort(chosen))


def paste(sample: Sample, other: Sample, chosen: np.ndarray) -> Sample:
  """Returns the sample with instances pasted where they are in their own frame.

  Args:
    sample: Rendered in its network frame.
    other: Another one.
    chosen: Instances of `other`, by index. [k] int.

  Returns:
    The sample in a frame that contains both, black outside of both images. Its
    own instances come first, without their covered pixels: partly covered ones
    get a new tight box, fully covered ones are removed. `is_crowd` regions are
    covered like instances. The map of stuff has the classes of the other image
    where its instances are.
  """
  if not len(chosen):
    return sample
  size = tuple(map(max, sample.image_size, other.image_size))
  is_pasted = np.zeros(size, bool)
  for index in chosen:
    (top, left), crop = other.masks.corners[index], other.masks.crops[index]
    height, width = crop.shape
    is_pasted[top : top + height, left : left + width] |= crop
  image, source = (_padded(s.image, size, 0) for s in (sample, other))
  stuff = sample.stuff
  if stuff is not None:
    own, pasted = (_padded(s.stuff, size, NO_STUFF) for s in (sample, other))
    stuff = np.where(is_pasted, pasted, own)
  kept, crops, boxes, areas = [], [], [], []
  for index, crop in enumerate(sample.masks.crops):
    top, left = sample.masks.corners[index]
    height, width = crop.shape
    rest = crop & ~is_pasted[top : top + height, left : left + width]
    area = np.count_nonzero(rest)
    if not area:
      continue
    is_whole = area == np.count_nonzero(crop)
    kept.append(index)
    crops.append(rest)
    boxes.append(
      sample.boxes_xyxy[index] if is_whole else tight_box(rest, top, left)
    )
    areas.append(sample.areas[index] if is_whole else float(area))

  def join(name):
    own, pasted = getattr(sample, name)[kept], getattr(other, name)[chosen]
    return np.concatenate([own, pasted])

  corners = [sample.masks.corners[i] for i in kept]
  return dataclasses.replace(
    sample,
    image=np.where(is_pasted[..., None], source, image),
    masks=CroppedMasks(
      size=size,
      corners=corners + [other.masks.corners[i] for i in chosen],
      crops=crops + [other.masks.crops[i] for i in chosen],
    ),
    labels=join("labels"),
    areas=np.concatenate([areas, other.areas[chosen]]),
    boxes_xyxy=np.concatenate(
      [np.reshape(boxes, (-1, 4)), other.boxes_xyxy[chosen]]
    ),
    is_crowd=join("is_crowd"),
    stuff=stuff,
    annotation_ids=join("annotation_ids"),
    original_size=size,
    image_size=size,
  )


def _padded(image: np.ndarray, size: tuple[int, int], value: int) -> np.ndarray:
  """Returns an image or map padded with a value to (height, width)."""
  widths = [(0, size[0] - image.shape[0]), (0, size[1] - image.shape[1])]
  widths += [(0, 0)] * (image.ndim - 2)
  return np.pad(image, widths, constant_values=value)


def tight_box(
  crop: np.ndarray, top: int, left: int
) -> tuple[int, int, int, int]:
  """Returns (x1, y1, x2, y2) of a mask whose corner is at (left, top)."""
  rows, columns = np.flatnonzero(crop.any(1)), np.flatnonzero(crop.any(0))
  return (
    left + columns[0],
    top + rows[0],
    left + columns[-1] + 1,
    top + rows[-1] + 1,
  )
