"""What a training costs, counted in pixels that the network is shown."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
  """The cost of a training.

  Attributes:
    batch_size: Images a step.
    image_size: (height, width) of each, padded.
    num_steps: Steps.
    num_images: Images of the split that are trained on.
  """

  batch_size: int
  image_size: tuple[int, int]
  num_steps: int
  num_images: int

  @property
  def step_pixels(self) -> int:
    """Network pixels that a step sees."""
    height, width = self.image_size
    return self.batch_size * height * width

  @property
  def images_seen(self) -> int:
    """Images that the whole training sees, each as often as it comes."""
    return self.num_steps * self.batch_size

  @property
  def total_pixels(self) -> int:
    """Network pixels that the whole training sees."""
    return self.num_steps * self.step_pixels

  @property
  def epochs(self) -> float:
    """How often an image is seen."""
    return self.images_seen / max(self.num_images, 1)


def training_cost(config: Mapping[str, Any], num_images: int) -> Cost:
  """Reads the cost of a training off its configuration.

  Args:
    config: Sections as plain dicts.
    num_images: Images of the split that are trained on.

  Returns:
    The cost.
  """
  return Cost(
    batch_size=config["training"]["batch_size"],
    image_size=tuple(config["transforms"]["image_size"]),
    num_steps=config["training"]["num_steps"],
    num_images=num_images,
  )


def compare_costs(given: Cost, suggested: Cost) -> str:
  """Says what a suggestion costs.

  Args:
    given: Of the configuration that was inspected.
    suggested: Of the suggestion.

  Returns:
    A sentence.
  """
  step = suggested.step_pixels / given.step_pixels
  total = suggested.total_pixels / given.total_pixels
  return (
    "The cost of the suggestion: a training step sees "
    f"{_times(step)} ({_size(suggested)}, was {_size(given)}), the whole "
    f"training {_times(total)} ({_length(suggested)}, was {_length(given)})."
  )


def _times(ratio: float) -> str:
  return "as many pixels" if ratio == 1 else f"{ratio:.2g} x the pixels"


def _size(cost: Cost) -> str:
  return "{} x {} x {}".format(cost.batch_size, *cost.image_size)


def _length(cost: Cost) -> str:
  return (
    f"{cost.num_steps:,} steps x {cost.batch_size} images, "
    f"{cost.epochs:.3g} epochs"
  )
