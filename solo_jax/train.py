r"""Trains a method and evaluates it.

python -m solo_jax.train \
    --config=configs/solov2_shapes.py --workdir=workdirs/shapes

The same command goes on from the last checkpoint. Ctrl-C and SIGTERM save
first; the exit code is then 130 or 143. The last line of a finished run is the
metrics as JSON.

Several processes: start the same command in each with --distributed on a TPU
pod, under Slurm or in Kubernetes; elsewhere say who is who:

    --coordinator=host0:1234 --num_processes=2 --process_id=0

The checkpoints fit any number of devices and processes.
"""

import json
from collections.abc import Sequence

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from solo_jax import cli, parallel
from solo_jax.training.loop import train_and_evaluate


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the command's flags.

  Args:
    values: Where to; tests pass their own.
  """
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, with its argument after a colon. Single fields are set with "
    "--config.section.field=value.",
    lock_config=True,
    flag_values=values,
  )
  flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run: checkpoints, logs, pictures.",
    flag_values=values,
  )
  flags.DEFINE_boolean(
    "change_batch_size",
    False,
    "Go on from a checkpoint of another training.batch_size. Schedule and data "
    "go on at the same step number, the learning rate follows the linear rule.",
    flag_values=values,
  )
  cli.define_process_flags(values)
  flags.mark_flags_as_required(["config", "workdir"], flag_values=values)


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.WARNING)  # Orbax and TFDS tell every step
  given = flags.FLAGS
  if (address := cli.process_address(given)) is not None:
    parallel.connect(*address)
  if jax.process_index() == 0:
    print("reading the data and making the network", flush=True)
  metrics = train_and_evaluate(
    given.config, given.workdir, change_batch_size=given.change_batch_size
  )
  if jax.process_index() == 0:
    print(json.dumps(metrics))


if __name__ == "__main__":
  define_flags()
  cli.run(main)
