"""The first losses of the toy methods; a program, for other device counts.

python -m tests.toy_methods.losses DATA_DIR OUT.json
"""

import json
import operator
import pathlib
import sys

from solo_jax import parallel
from solo_jax.building import build_method
from solo_jax.checkpoints.state import create_train_state, init_variables
from solo_jax.training.setup import build_optimizer, iterate_batches, open_data
from solo_jax.training.step import make_train_step
from tests.toy_methods import ROWS, make_config, register

NUM_STEPS = 3


def first_losses(config, accumulate, draw_seed=0):
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
      seed=draw_seed,  # a run has config.seed, 0
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


def main(data_dir, out):
  register(operator.setitem, setattr)
  losses = {
    f"{name} {accumulate}": first_losses(
      make_config(name, data_dir), accumulate
    )
    for name in ROWS
    for accumulate in (1, 2)
  }
  # Its divisors are counts of the batch, or of a micro-batch.
  losses["mask_rcnn 1"] = first_losses(make_config("mask_rcnn", data_dir), 1)
  pathlib.Path(out).write_text(json.dumps(losses))


if __name__ == "__main__":
  from absl import flags

  flags.FLAGS.mark_as_parsed()  # what reads the records looks at flags
  main(*sys.argv[1:])
