"""Random draws that do not depend on how a batch is split over devices."""

import jax


def row_keys(key: jax.Array, row: jax.Array) -> jax.Array:
  """Returns a key for each image of a batch.

  Draws from these keys are the same on any number of devices and with any
  accumulation of gradients, as `row` is counted over the whole global batch.
  In a module: `row_keys(self.make_rng("draws"), row)`.

  Args:
    key: The same for all images.
    row: Row of each image in the global batch. [B] int32.

  Returns:
    [B] keys.
  """
  return jax.vmap(jax.random.fold_in, (None, 0))(key, row)
