"""Training augmentation: small transforms, by name, in the order of a list.

A transform is a frozen dataclass and one row of a table. LAZY ones work on a
Sample that is not rendered yet, `(sample, rng) -> Sample`: they compose
geometry and change colours. EAGER ones follow and work on samples that are
rendered in their network frames, `(sample, rng, draw_other) -> Sample`, where
each call of `draw_other` returns another augmented image of the split.

The field `image_size` is not a setting: `build` fills in the (height, width) of
the padded network input.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from solo_jax.data import transforms
from solo_jax.data.copy_paste import CopyPaste
from solo_jax.data.microscopy import Invert, StainJitter
from solo_jax.data.mosaic import Mosaic
from solo_jax.data.ssd import Distort, Window
from solo_jax.errors import UserError
from solo_jax.types import Sample

Lazy = Callable[[Sample, np.random.Generator], Sample]
Eager = Callable[[Sample, np.random.Generator, Callable[[], Sample]], Sample]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Orient:
  """Mirrors and transposes.

  Attributes:
    flip: Probability of a mirror image, left to right.
    vertical_flip: Probability of a mirror image, top to bottom.
    transpose: Probability of swapping x and y, which comes first.
  """

  flip: float = 0.0
  vertical_flip: float = 0.0
  transpose: float = 0.0

  def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns the sample in a random orientation."""
    # Always one draw per choice, so that switching one off does not change the
    # others.
    do_flip, do_vertical_flip, do_transpose = rng.random(3) < (
      self.flip,
      self.vertical_flip,
      self.transpose,
    )
    if do_transpose:
      sample = transforms.transposed(sample)
    if do_flip or do_vertical_flip:
      sample = transforms.flipped(
        sample, horizontal=do_flip, vertical=do_vertical_flip
      )
    return sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResizeShortSide:
  """Multi-scale training: the short side becomes one of several.

  As in the published recipe (https://arxiv.org/abs/2003.10152, section 4.1);
  an image that then still exceeds `image_size` is shrunk until it fits.

  Attributes:
    image_size: Filled in by `build`.
    short_sides: Short sides to draw from, in pixels.
    max_side: Largest long side, in pixels.
    size_rounding: See `transforms.resize_to_fit`.
  """

  image_size: tuple[int, int]
  short_sides: Sequence[int]
  max_side: int
  size_rounding: str = "nearest"

  def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns the sample resized to a random short side."""
    return transforms.resize_to_fit(
      sample,
      short_side=self.short_sides[rng.integers(len(self.short_sides))],
      max_side=self.max_side,
      within=self.image_size,
      size_rounding=self.size_rounding,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crop:
  """Keeps a random window of some images, before they are resized.

  https://arxiv.org/abs/2005.12872, section A.4.

  Attributes:
    probability: Share of the images that are cropped.
    short_sides: Short sides before the crop to draw from, in pixels.
    sides: (low, high) of the sides of the window, drawn independently, in
      pixels; at most those of the image.
  """

  probability: float
  short_sides: Sequence[int]
  sides: tuple[int, int]

  def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns the sample, or a window of it after a resize."""
    is_cropped = rng.random() < self.probability
    short_side = self.short_sides[rng.integers(len(self.short_sides))]
    shares = rng.random(4)  # of the range of height, width, top and left
    if not is_cropped:
      return sample
    height, width = sample.image_size
    scale = short_side / min(height, width)
    full = [max(round(scale * side), 1) for side in (height, width)]
    least, most = (np.minimum(side, full) for side in self.sides)
    size = least + np.floor(shares[:2] * (most - least + 1)).astype(int)
    corner = np.floor(shares[2:] * (full - size + 1)).astype(int)
    return transforms.cropped(
      transforms.resized(sample, tuple(full)),
      top=int(corner[0]),
      left=int(corner[1]),
      size=tuple(size.tolist()),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stretch:
  """Stretches the image to the network input, whatever its aspect.

  Attributes:
    image_size: Filled in by `build`.
  """

  image_size: tuple[int, int]

  def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns the sample at `image_size`."""
    del rng
    return transforms.resized(sample, self.image_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleJitter:
  """Large-scale jitter (https://arxiv.org/abs/2012.07177).

  The image is scaled by a drawn factor, and a random window of `image_size` is
  kept.

  Attributes:
    image_size: Filled in by `build`.
    factor: (low, high) of the uniform factor.
    reference: What the factor scales: 'fit', the image fitted into
      `image_size`; 'short', the image with a short side as that of
      `image_size`; or 'original', the image at its own resolution (microscopy,
      where pixels have a physical size).
    size_rounding: See `transforms.resize_to_fit`.
  """

  image_size: tuple[int, int]
  factor: tuple[float, float]
  reference: str = "fit"
  size_rounding: str = "nearest"

  def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns a random window of the sample, scaled by a random factor."""
    return transforms.jitter_scale(
      sample,
      rng,
      image_size=self.image_size,
      factor=self.factor,
      reference=self.reference,
      size_rounding=self.size_rounding,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColorJitter:
  """Changes brightness, contrast and saturation.

  Attributes:
    strength: k: each is scaled by a factor from [1 - k, 1 + k].
  """

  strength: float

  def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns the sample as uint8 with three random colour factors applied."""
    return transforms.jitter_color(sample, rng, strength=self.strength)


LAZY = {
  "orient": Orient,
  "crop": Crop,
  "resize_short_side": ResizeShortSide,
  "scale_jitter": ScaleJitter,
  "color_jitter": ColorJitter,
  "stain_jitter": StainJitter,
  "invert": Invert,
  "stretch": Stretch,
  "window": Window,
  "distort": Distort,
}
EAGER = {"copy_paste": CopyPaste, "mosaic": Mosaic}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
  """The transforms that `build` creates from a list.

  Attributes:
    lazy: Transforms of samples that are not rendered yet, in order.
    eager: Transforms of rendered samples, in order.
    interpolation: How images are rendered, see `batching.render_image`.
  """

  lazy: tuple[Lazy, ...]
  eager: tuple[Eager, ...]
  interpolation: str

  def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns the sample after the lazy transforms.

    Args:
      sample: As read from its record.
      rng: Source of all draws; equal states give equal results.

    Returns:
      The sample with composed geometry and new colours.
    """
    for transform in self.lazy:
      sample = transform(sample, rng)
    return sample


def build(
  stages: Sequence[tuple[str, Mapping[str, Any]]], image_size: tuple[int, int]
) -> Augmentation:
  """Returns the transforms of a list.

  Args:
    stages: `transforms.augment` of a config: (name, settings) of each, in
      order; eager ones last.
    image_size: (height, width) of the padded network input, in pixels.

  Returns:
    The augmentation.

  Raises:
    UserError: If a name or a setting is unknown, a setting is missing, or a
      lazy transform follows an eager one.
  """
  lazy, eager = [], []
  for name, settings in stages:
    if name not in LAZY | EAGER:
      raise UserError(
        f"transforms.augment: unknown {name!r}; known: "
        f"{', '.join(LAZY | EAGER)}"
      )
    if name in LAZY and eager:
      raise UserError(
        f"transforms.augment: {name!r} works on images that are not drawn yet "
        f"and must come before {', '.join(EAGER)}"
      )
    kind = (LAZY | EAGER)[name]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    filled_in = {"image_size": image_size} if "image_size" in fields else {}
    known = fields.keys() - filled_in.keys()
    needed = {x for x in known if fields[x].default is dataclasses.MISSING}
    if not needed <= set(settings) <= known:
      raise UserError(
        f"transforms.augment: {name!r} has the settings {sorted(known)}, "
        f"not {sorted(settings)}"
      )
    (lazy if name in LAZY else eager).append(kind(**settings, **filled_in))
  # Jitter shrinks far enough to alias; the published resize is bilinear.
  is_jittered = any(name == "scale_jitter" for name, _ in stages)
  return Augmentation(
    lazy=tuple(lazy),
    eager=tuple(eager),
    interpolation="area" if is_jittered else "bilinear",
  )
