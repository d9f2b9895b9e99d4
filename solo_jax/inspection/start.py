"""Published weights to start from if there are few images."""

from collections.abc import Mapping
from typing import Any

from solo_jax.published import PUBLISHED, Published
from solo_jax.weights import load_config

FEW_IMAGES = 5000  # to train on
# Fields of a backbone that its weights do not depend on.
_FREE = ("weights", "frozen_stages", "remat", "norm", "stride_in_1x1")


def find_start(config: Mapping[str, Any], num_images: int) -> Published | None:
  """Returns weights that a run on few images should start from instead.

  Args:
    config: Sections of the configuration as plain dicts.
    num_images: Images to train on.

  Returns:
    The row with the highest AP among those that anyone may download and whose
    network has the same method and backbone, preferably with the same head.
    None if there is no such row, there are many images, or the run starts from
    a checkpoint.
  """
  if num_images >= FEW_IMAGES or config["training"]["init_from"] is not None:
    return None
  found = []
  for row in PUBLISHED:
    if row.config is None or row.source is None:
      continue
    other = load_config(row.config).to_dict()
    if other["method"] == config["method"] and (
      _fixed(other["backbone"]) == _fixed(config["backbone"])
    ):
      has_same_head = other["network"] == config["network"]
      found.append((has_same_head, row.ap, row))
  return max(found, key=lambda x: x[:2])[2] if found else None


def describe_start(row: Published, num_images: int) -> str:
  """Returns the advice to start from a row."""
  return (
    f"{num_images} images are few: start from COCO's weights with\n"
    f"--config.training.init_from={row.name} (published AP {row.ap}, licence: "
    f"{row.licence})"
  )


def _fixed(backbone: Mapping[str, Any]) -> dict[str, Any]:
  return {key: x for key, x in backbone.items() if key not in _FREE}
