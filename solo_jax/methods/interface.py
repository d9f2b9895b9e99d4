"""The interface of a method: a network and functions.

Shape letters: B images, N instances (padded), n: instances of an input.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from solo_jax import errors, types
from solo_jax.methods.variants import Variant

Loss = Callable[
  [nn.Module, types.Batch], tuple[jax.Array, dict[str, jax.Array]]
]
Pictures = dict[str, jax.Array]

# Descriptions of optional abilities, for messages.
ABILITIES = {
  "merge": "test-time augmentation (flip, several scales)",
  "views": "views of its network's maps",
  "decode_panoptic": "panoptic segmentation",
  "decode_semantic": "semantic segmentation",
  "perfect_outputs": "perfect outputs, which the dataset doctor scores",
  "lost_instances": "list of the instances that its targets lose",
  "target_views": "pictures of its targets",
  "suggest": "suggestions for its configuration",
}


@dataclasses.dataclass(frozen=True)
class Way:
  """A way in which an instance gets lost between annotation and targets.

  Attributes:
    name: Two or three words.
    meaning: The deciding field and the consequence for the instance.
    kind: Name under which related ways are added up; '' for none.
  """

  name: str
  meaning: str
  kind: str = ""

  def __str__(self) -> str:
    """Returns the name."""
    return self.name


@dataclasses.dataclass(frozen=True)
class Capacity:
  """A capacity that instances share.

  Attributes:
    what: The unit that an instance uses.
    fields: Config fields that must be at least as large as an input's use.
  """

  what: str
  fields: tuple[str, ...]

  def __str__(self) -> str:
    """Returns the unit."""
    return self.what


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LostInstances:
  """The fates of the instances of one image in a method's targets.

  Attributes:
    ways: The ways to get lost, in the order in which they apply. Static.
    is_lost: Whether an instance is lost, for each way. [N] bool each.
    is_reduced: Whether an instance is trained on only a part, by description.
      [N] bool each.
    capacities: Capacities that instances share. Static.
    taken: How much of each capacity an instance takes. [N] int32 each.
    sizes: Remaining size of an instance in the targets, by name. [N] int32
      each.
  """

  ways: tuple[Way, ...] = dataclasses.field(metadata=dict(static=True))
  is_lost: tuple[jax.Array, ...]
  is_reduced: dict[str, jax.Array] = dataclasses.field(default_factory=dict)
  capacities: tuple[Capacity, ...] = dataclasses.field(
    default=(), metadata=dict(static=True)
  )
  taken: tuple[jax.Array, ...] = ()
  sizes: dict[str, jax.Array] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objects:
  """The objects of one network input, in the order of their annotations.

  Attributes:
    centers: Centres of mass (x, y), as shares of width and height.
      [n, 2] float.
    sizes: (w, h) of their boxes, network pixels. [n, 2] float.
    padded_size: (H, W) of the input.
  """

  centers: np.ndarray
  sizes: np.ndarray
  padded_size: tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examined:
  """A dataset, as input of a method's suggestions.

  Attributes:
    object_sizes: sqrt(area) of the objects of the training split in network
      pixels. [number] float.
    num_shown: Number of images in `shown`.
    is_changed: Whether the input has changed since the given configuration.
    shown: Returns the inputs of these images, as trained and as predicted;
      slow.
  """

  object_sizes: np.ndarray
  num_shown: int
  is_changed: bool
  shown: Callable[[], Sequence[Objects]]


@dataclasses.dataclass(frozen=True)
class Change:
  """A suggested change of a configuration.

  Attributes:
    field: 'section.field'.
    value: The new value.
    reason: The reason, half a line.
  """

  field: str
  value: Any
  reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
  """Everything that training, prediction and the doctor need from a method.

  Abilities are None if a method lacks them; `require` raises an error then.

  Attributes:
    network: Linen module, (image [B, H, W, 3] uint8, image_size [B, 2] int32,
      *, train, row=None) -> the method's own Outputs. `row` [B] int32 is the
      row of each image in the global batch, for networks that draw.
    loss: (bound network, batch) -> (scalar float32, terms), run inside
      `flax.linen.apply` with a random stream named 'draws', see
      `nn.draws.row_keys`. Terms are float32 scalars for the log; names that
      end in `_dropped` are counts, to be summed over devices, all others are
      averaged.
    decode: (outputs, image_size) -> Decoded. Pure, with static shapes.
    name: Key in the table of methods, for messages.
    merge: (variants) -> Decoded, in the frame of the first: test-time
      augmentation.
    views: (outputs, image_size) -> RGB pictures of the outputs by name,
      [B, h, w, 3] float32 in [0, 1].
    decode_panoptic: (outputs, image_size) -> panoptic segmentation.
    decode_semantic: (outputs, image_size) -> semantic segmentation.
    perfect_outputs: (batch of one image) -> the Outputs that equal its targets.
    lost_instances: (batch of one image) -> LostInstances.
    target_views: (batch of one image, colors [N, 3] float32 in [0, 1] of its
      instances) -> RGB pictures of the targets by name, see `views`.
    suggest: (config as plain sections, Examined) -> changes that the method's
      own fields need to suit the data.
    mask_strides: Strides that `network.mask_stride` may have, from cheap to
      fine; empty if the resolution of masks follows from other fields.
    is_thing: Whether each label is a thing, not stuff; empty where all
      are.
    num_stuff_classes: Classes of the stuff maps that the loss needs; 0: none.
  """

  network: nn.Module
  loss: Loss
  decode: Callable[[Any, jax.Array], types.Decoded]
  name: str = ""
  merge: Callable[[Sequence[Variant]], types.Decoded] | None = None
  views: Callable[[Any, jax.Array], Pictures] | None = None
  decode_panoptic: Callable[[Any, jax.Array], Any] | None = None
  decode_semantic: Callable[[Any, jax.Array], Any] | None = None
  perfect_outputs: Callable[[types.Batch], Any] | None = None
  lost_instances: Callable[[types.Batch], LostInstances] | None = None
  target_views: Callable[[types.Batch, jax.Array], Pictures] | None = None
  suggest: Callable[[Mapping[str, Any], Examined], Sequence[Change]] | None = (
    None
  )
  mask_strides: tuple[int, ...] = ()
  is_thing: tuple[bool, ...] = ()
  num_stuff_classes: int = 0

  def require(self, ability: str) -> Callable:
    """Returns an ability.

    Args:
      ability: A key of ABILITIES.

    Returns:
      The function of that name.

    Raises:
      errors.UserError: If the method lacks it.
    """
    function = getattr(self, ability)
    if function is None:
      raise errors.UserError(self.lack(ability))
    return function

  def lack(self, ability: str) -> str:
    """Returns the message that the method lacks an ability.

    Args:
      ability: A key of ABILITIES.
    """
    return (
      f"the method {self.name!r}, as it is configured, has no "
      f"{ABILITIES[ability]} (`Method.{ability}` is None)"
    )


def one_pass(loss: Callable[[Any, types.Batch], Any]) -> Loss:
  """Returns the loss of a method whose network runs once, without targets.

  Args:
    loss: (outputs, batch) -> (scalar float32, terms).

  Returns:
    A function like `Method.loss`.
  """
  return lambda network, batch: loss(
    network(batch.image, batch.image_size, train=True, row=batch.row), batch
  )
