"""What a grouping returns.

Shape letters: Q pixels (h * w, flattened), M groups, T tag dimensions.
"""

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Groups:
  """Pixels of one image, grouped.

  Attributes:
    assignment: Group of each pixel, 1..M; 0 for none. [Q] int32.
    centers: Mean embedding of each group. [M, T] float32.
    log_precision: Mean log(1 / radius^2) of each group. [M] float32.
    valid: [M] bool.
    num_dropped: Groups found beyond the capacity M. [] int32.
  """

  assignment: jax.Array
  centers: jax.Array
  log_precision: jax.Array
  valid: jax.Array
  num_dropped: jax.Array
