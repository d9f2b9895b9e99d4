"""What network a state dict belongs to, from its names and shapes."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from solo_jax.conversion.families import Family
from solo_jax.conversion.heads import HEADS, Head, Paths
from solo_jax.conversion.mapping import route
from solo_jax.conversion.region_configs import find_traits
from solo_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  """The properties of a network, detected from names and shapes.

  Attributes:
    method: A method's name; None for a single backbone.
    backbone: 'r50', 'x101', 'lite0' and so on.
    deformable: 'v1', 'v2', or None without deformable convolutions.
    num_classes: Outputs of the class head; None for a single backbone.
    is_light: Whether it is one of the small networks (SOLOv2: 128 kernel
      channels; Decoupled SOLO: one tower for both directions).
    traits: What kind of region-based network it is, see
      `region_configs.find_traits`.
    num_queries: Learned proposals, where the configs have several numbers.
  """

  method: str | None
  backbone: str
  deformable: str | None
  num_classes: int | None
  is_light: bool
  traits: frozenset[str] | None = None
  num_queries: int | None = None


def recognize(family: Family, arrays: Mapping[str, np.ndarray]) -> Network:
  """Returns what kind of network a state dict belongs to.

  Args:
    family: Its family.
    arrays: The state dict.

  Returns:
    The detected properties.

  Raises:
    UserError: If no method of the family matches the names.
  """
  arrays = family.prepare(arrays)
  for method, rules in family.rules.items():
    paths = route(arrays, rules)
    prefix = "params/" if family.is_backbone else "params/backbone/"
    head = HEADS.get(method)  # None for a single backbone
    if head and not any(re.match(head.mark, path) for path in paths):
      continue
    return Network(
      method=method,
      backbone=_name_backbone(paths, prefix),
      deformable=_deformable(paths, prefix),
      num_classes=head.count_classes(paths) if head else None,
      is_light=bool(head) and head.is_light(paths),
      traits=find_traits(paths),
      num_queries=_count_queries(paths, head),
    )
  raise UserError(
    f"the names match no method of {family.name}, which has "
    f"{', '.join(map(str, family.rules))}"
  )


def _count_queries(paths: Paths, head: Head | None) -> int | None:
  queries = paths.get(head.queries) if head and head.queries else None
  return None if queries is None else len(queries)


def _name_swin(paths: Paths, prefix: str) -> str:
  channels = paths[f"{prefix}patch_embed/kernel"].shape[:1]
  blocks = {m[1] for p in paths if (m := re.match(rf"{prefix}stage3_(\d+)", p))}
  size = _SWINS.get((*channels, len(blocks)), "of another size")
  return f"swin_{size}"


def _name_resnet(paths: Paths, prefix: str) -> str:
  num_blocks = [
    len({m[1] for path in paths if (m := re.match(block, path))})
    for block in (rf"{prefix}layer{stage}_(\d+)/" for stage in range(1, 5))
  ]
  has_bottleneck = f"{prefix}layer1_0/conv3/kernel" in paths
  depth = sum(num_blocks) * (3 if has_bottleneck else 2) + 2
  kernel = paths.get(f"{prefix}layer1_0/conv2/kernel")  # still OIHW
  is_grouped = (
    kernel is not None
    and kernel.ndim == 4
    and kernel.shape[1] < kernel.shape[0]
  )
  return f"{'x' if is_grouped else 'r'}{depth}"


# Channels of the first stage and blocks of the third.
_SWINS = {(96, 6): "t", (96, 18): "s", (128, 18): "b", (192, 18): "l"}
# A path that only one backbone has, and how its size is named.
BACKBONES = {
  "patch_embed/kernel": _name_swin,
  "stem/conv/kernel": lambda paths, prefix: "darknet53",
  "stem_conv/kernel": lambda paths, prefix: "lite0",
  "conv1/kernel": _name_resnet,
}


def _name_backbone(paths: Paths, prefix: str) -> str:
  for mark, name in BACKBONES.items():
    if f"{prefix}{mark}" in paths:
      return name(paths, prefix)
  return "an unknown backbone"


def _deformable(paths: Paths, prefix: str) -> str | None:
  bias = paths.get(f"{prefix}layer4_0/conv2/offset/bias")
  if bias is None:
    return None
  return "v1" if bias.size == 18 else "v2"  # 3x3 offsets, or masks as well
