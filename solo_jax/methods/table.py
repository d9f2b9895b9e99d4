"""The table of methods, the only place where a name selects one.

To add a method, add a folder next to this file and a row to METHODS.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from solo_jax import errors
from solo_jax.methods.associative_embedding import (
  method as associative_embedding,
)
from solo_jax.methods.decoupled_solo import method as decoupled_solo
from solo_jax.methods.interface import Method
from solo_jax.methods.mask2former import method as mask2former
from solo_jax.methods.mask_rcnn import method as mask_rcnn
from solo_jax.methods.point_rend import method as point_rend
from solo_jax.methods.queryinst import method as queryinst
from solo_jax.methods.solo import method as solo
from solo_jax.methods.solov2 import method as solov2
from solo_jax.methods.yolact import method as yolact


@dataclasses.dataclass(frozen=True)
class Row:
  """A method of the table.

  Attributes:
    make: (backbone, *, num_classes, network, loss, decode, axis_name) ->
      Method. `network`, `loss` and `decode` are sections of the config,
      `network` with the values it needs from others; `axis_name` is the mapped
      device axis in training, None elsewhere.
    problems: (config as nested mappings) -> its problems that are specific to
      this method, one line each.
    side_multiple: What the sides of its inputs must be multiples of.
  """

  make: Callable[..., Method]
  problems: Callable[[Mapping[str, Any]], list[str]]
  side_multiple: int = 32  # the coarsest stride of a backbone


METHODS = {
  "associative_embedding": Row(
    associative_embedding.make, associative_embedding.problems
  ),
  "decoupled_solo": Row(decoupled_solo.make, decoupled_solo.problems),
  "mask_rcnn": Row(mask_rcnn.make, mask_rcnn.problems),
  "point_rend": Row(point_rend.make, point_rend.problems),
  "mask2former": Row(mask2former.make, mask2former.problems),
  "queryinst": Row(queryinst.make, queryinst.problems),
  "solo": Row(solo.make, solo.problems),
  "solov2": Row(solov2.make, solov2.problems),
  "yolact": Row(yolact.make, yolact.problems, side_multiple=1),
}


def find(name: str) -> Row:
  """Returns the row of a method.

  Args:
    name: A key of METHODS.

  Raises:
    errors.UserError: If the name is unknown; lists the known ones.
  """
  if name not in METHODS:
    raise errors.UserError(f"unknown method {name!r}; known: {sorted(METHODS)}")
  return METHODS[name]


def find_problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that depend on its method.

  Args:
    config: Nested mappings, each field valid on its own.

  Returns:
    One line per problem.
  """
  row = find(config["method"])
  multiple, found = row.side_multiple, []
  for section, field in (
    ("transforms", "image_size"),
    ("preprocessing", "pad_multiple"),
  ):
    value = config[section][field]
    sides = value if isinstance(value, (tuple, list)) else (value,)
    if any(side % multiple for side in sides):
      found.append(
        f"{section}.{field} is {value!r}; {config['method']} needs multiples "
        f"of {multiple}"
      )
  return found or row.problems(config)


def make_method(name: str, backbone: nn.Module, **sections: Any) -> Method:
  """Returns a method.

  Args:
    name: A key of METHODS.
    backbone: Module that returns maps at strides 4, 8, 16 and 32.
    **sections: The other arguments of `Row.make`.

  Returns:
    The method.

  Raises:
    errors.UserError: If the name is unknown.
  """
  method = find(name).make(backbone, **sections)
  return dataclasses.replace(method, name=name)
