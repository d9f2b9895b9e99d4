"""The cost of a configuration, measured in network pixels."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
  """The cost of training and prediction.

  Attributes:
    batch_size: Images per step.
    image_size: (height, width) of each, padded.
    num_steps: Steps.
    num_images: Number of training images.
    predicted_pixels: Mean of the padded pixels per predicted image, over all
      its tiles.
  """

  batch_size: int
  image_size: tuple[int, int]
  num_steps: int
  num_images: int
  predicted_pixels: float

  @property
  def step_pixels(self) -> int:
    """Returns the network pixels of one step."""
    height, width = self.image_size
    return self.batch_size * height * width

  @property
  def images_seen(self) -> int:
    """Returns the images of the whole training, each as often as it is used."""
    return self.num_steps * self.batch_size

  @property
  def total_pixels(self) -> int:
    """Returns the network pixels of the whole training."""
    return self.num_steps * self.step_pixels

  @property
  def epochs(self) -> float:
    """Returns how often each image is used."""
    return self.images_seen / max(self.num_images, 1)


def find_cost(
  config: Mapping[str, Any],
  num_images: int,
  frames: Sequence[tuple[int, int]],
  num_predicted: int,
) -> Cost:
  """Returns the cost of a configuration, derived from it and its frames.

  Args:
    config: Sections as plain dicts.
    num_images: Number of training images.
    frames: Padded (height, width) of the network inputs of prediction.
    num_predicted: Number of images of these inputs.

  Returns:
    The cost.
  """
  return Cost(
    batch_size=config["training"]["batch_size"],
    image_size=tuple(config["transforms"]["image_size"]),
    num_steps=config["training"]["num_steps"],
    num_images=num_images,
    predicted_pixels=sum(h * w for h, w in frames) / num_predicted,
  )


def compare_costs(given: Cost, suggested: Cost) -> str:
  """Returns sentences about the cost of a suggestion.

  Args:
    given: Cost of the configuration that was inspected.
    suggested: Cost of the suggestion.

  Returns:
    A sentence.
  """
  total = suggested.total_pixels / given.total_pixels
  predicted = suggested.predicted_pixels / given.predicted_pixels
  return (
    f"The cost of the suggestion: {compare_steps(given, suggested)} "
    f"({_change(_size(given), _size(suggested))}), the whole "
    f"training {_times(total)} ({_change(_length(given), _length(suggested))}),"
    f" prediction {_times(predicted)} per image."
  )


def compare_steps(given: Cost, suggested: Cost) -> str:
  """Returns a sentence about the cost of a suggestion's training step.

  Args:
    given: Cost of the configuration that was inspected.
    suggested: Cost of the suggestion.

  Returns:
    Half a sentence.
  """
  ratio = suggested.step_pixels / given.step_pixels
  return f"a training step sees {_times(ratio)}"


def _times(ratio: float) -> str:
  ratio = f"{ratio:.2g}"
  return "as many pixels" if ratio == "1" else f"{ratio} x the pixels"


def _change(was: str, now: str) -> str:
  return now if now == was else f"{now}, was {was}"


def _size(cost: Cost) -> str:
  return "{} x {} x {}".format(cost.batch_size, *cost.image_size)


def _length(cost: Cost) -> str:
  epochs = f"{cost.epochs:,.0f}" if cost.epochs >= 10 else f"{cost.epochs:.2g}"
  return f"{cost.num_steps:,} steps x {cost.batch_size} images, {epochs} epochs"
