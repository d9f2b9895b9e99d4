"""What a method is, and the table that names them.

Adding a method is one new folder beside this file and one row in METHODS.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from solo_jax import types
from solo_jax.methods.solov2 import method as solov2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
  """Three functions: everything the trainer and the predictor need.

  Attributes:
    network: Linen module; `network.apply(variables, image, image_size,
      train=...)` takes [B, H, W, 3] uint8 images and [B, 2] int32 sizes (the
      module normalises them) and returns the method's own Outputs.
    loss: (outputs, batch) -> (scalar float32, terms). Terms are float32
      scalars for the log; names ending in `_dropped` are counts that are
      summed over devices, all others are averaged.
    decode: (outputs, image_size) -> Decoded. Pure, static shapes.
  """

  network: nn.Module
  loss: Callable[
    [Any, types.Batch], tuple[jax.Array, dict[str, jax.Array]]
  ]
  decode: Callable[[Any, jax.Array], types.Decoded]
