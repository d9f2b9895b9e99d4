"""Selects the images of a split to examine: all, or some spread evenly."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from solo_jax import types
from solo_jax.data.records import Records, read_sample


class Selection:
  """Some images of a split, readable like `Records`.

  Attributes:
    records: The whole split.
    indices: Indices of the selected images. [len] int64.
    class_names: Name of each label.
    category_ids: Original category id of each label.
    num_objects: Instances of each image without crowds. [len] int64.
    num_crowds: Crowd regions of each image. [len] int64.
    is_thing: See `Records`.
    federated: See `Records`.
    metadata: See `Records`.
  """

  def __init__(self, records: Records, number: int, *, num_crowded: int = 0):
    """Selects images.

    Args:
      records: The whole split.
      number: Images to select, evenly from first to last; 0: all.
      num_crowded: Number of images with the most instances to add.
    """
    number = min(number or len(records), len(records))
    evenly = np.linspace(0, len(records) - 1, number).round().astype(int)
    crowded = np.argsort(records.num_objects, kind="stable")[::-1][:num_crowded]
    self.records = records
    self.indices = np.union1d(evenly, crowded)
    self.class_names = records.class_names
    self.category_ids = records.category_ids
    self.num_objects = records.num_objects[self.indices]
    self.num_crowds = records.num_crowds[self.indices]
    self.is_thing = records.is_thing
    self.federated = records.federated
    self.metadata = records.metadata

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Returns one record; see `Records`."""
    return self.records[int(self.indices[index])]

  def samples(self) -> Iterator[types.Sample]:
    """Yields the images one by one; corrupt ones are blank and marked."""
    for index in range(len(self)):
      yield self.sample(index)

  def sample(self, index: int) -> types.Sample:
    """Returns one decoded image."""
    return read_sample(self[index])
