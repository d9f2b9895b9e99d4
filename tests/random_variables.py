"""Variables of random numbers: unlike `init`, they need no compiler."""

import jax
import numpy as np


def random_variables(init, *args):
  """Returns numbers of the shapes of a module's variables.

  Args:
    init: `module.init`, with what is static given.
    *args: Its inputs.

  Returns:
    Kernels that keep the variance, small biases, norms that change nothing.
  """
  shapes = jax.eval_shape(init, jax.random.key(0), *args)
  rng = np.random.default_rng(0)

  def draw(path, x):
    if path[-1].key in ("scale", "var"):
      return np.ones(x.shape, np.float32)
    size = np.prod(x.shape[:-1]) ** -0.5 if x.ndim > 1 else 0.1
    return rng.normal(0, size, x.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)
