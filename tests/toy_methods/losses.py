"""The first losses of the toy methods; a program, for other device counts.

python -m tests.toy_methods.losses DATA_DIR OUT.json
"""

import json
import operator
import pathlib
import sys

import flax.linen as nn
import jax

from solo_jax import parallel
from solo_jax.building import build_method
from solo_jax.checkpoints.state import create_train_state, init_variables
from solo_jax.training.setup import build_optimizer, iterate_batches, open_data
from solo_jax.training.step import make_train_step
from tests.toy_methods import ROWS, make_config, register

NUM_STEPS = 3


def first_losses(config, accumulate):
  """Takes the first steps of a run, as the training loop does."""
  method = build_method(config, axis_name=parallel.AXIS_NAME)
  variables = init_variables(
    method.network, image_size=config.transforms.image_size, seed=config.seed
  )
  optimizer, learning_rate = build_optimizer(
    config, variables["params"], config.optimizer.learning_rate
  )
  step = parallel.map_step(
    make_train_step(
      method,
      optimizer,
      learning_rate,
      accumulate=accumulate,
      ema_decay=None,
      axis_name=parallel.AXIS_NAME,
      seed=config.seed,
    )
  )
  state = create_train_state(variables, optimizer, use_ema=False)
  state = parallel.replicate(state)
  records = open_data(config, config.dataset.train_split)
  batches = iterate_batches(config, records, 0)
  losses = []
  for _ in range(NUM_STEPS):
    state, metrics = step(state, next(batches))
    losses.append(float(parallel.fetch(metrics)["loss"]))
  batches.close()
  return losses


def losses_of_draws(config, variables, seeds):
  """The losses of one batch with different draws, on the first device."""
  method = build_method(config)
  records = open_data(config, config.dataset.train_split)
  batches = iterate_batches(config, records, 0)
  batch = jax.tree.map(lambda x: x[0], next(batches))
  batches.close()

  @jax.jit
  def compute(key):
    apply = nn.apply(method.loss, method.network, mutable=["batch_stats"])
    return apply(variables, batch, rngs={"draws": key})[0][0]

  return [float(compute(jax.random.key(seed))) for seed in seeds]


def main(data_dir, out):
  register(operator.setitem, setattr)
  losses = {
    name: first_losses(make_config(name, data_dir), accumulate=2)
    for name in ROWS
  }
  pathlib.Path(out).write_text(json.dumps(losses))


if __name__ == "__main__":
  from absl import flags

  flags.FLAGS.mark_as_parsed()  # what reads the records looks at flags
  main(*sys.argv[1:])
