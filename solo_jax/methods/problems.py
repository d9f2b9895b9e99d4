"""Finds problems of config fields that several methods have."""

from collections.abc import Mapping
from typing import Any


def find_group_problems(network: Mapping[str, Any], *fields: str) -> list[str]:
  """Returns a problem for channels that group norms cannot split evenly.

  Args:
    network: The config's section of this name.
    *fields: Its fields that hold numbers of channels.

  Returns:
    One line per problem.
  """
  num_groups = network["num_groups"]
  return [
    f"network.{field} is {network[field]}; it must be a multiple of "
    f"network.num_groups, {num_groups}"
    for field in fields
    if network[field] % num_groups
  ]


def find_mask_stride_problems(
  config: Mapping[str, Any], ratio: int = 1
) -> list[str]:
  """Returns a problem if strides of masks and targets do not fit.

  Args:
    config: Nested mappings.
    ratio: Stride of masks, by that of targets.

  Returns:
    One line per problem.
  """
  stride = config["network"]["mask_stride"]
  targets = config["transforms"]["mask_stride"]
  if stride == ratio * targets:
    return []
  rule = "they must be equal"
  if ratio > 1:
    rule = f"the first must be {ratio} times the second"
  return [
    f"network.mask_stride is {stride} and transforms.mask_stride is {targets}; "
    f"{rule}"
  ]


def find_mask_frame_problems(config: Mapping[str, Any]) -> list[str]:
  """Returns a problem if targets are not drawn in the frame of the image.

  Args:
    config: Nested mappings.

  Returns:
    One line per problem.
  """
  given = config["transforms"]["mask_frame"]
  if given == "image":
    return []
  return [
    f"transforms.mask_frame is {given!r}; {config['method']} trains on masks "
    "of whole images: set it to 'image'"
  ]
