r"""Trains a method and evaluates it.

python -m solo_jax.train \
    --config=configs/solov2_shapes.py --workdir=workdirs/shapes

Rerunning the same command resumes from the last checkpoint. Ctrl-C, SIGTERM and
a closed terminal (SIGHUP) save a checkpoint first; the exit code is then 130,
143 or 129. The last line of a finished run is the metrics as JSON.

--config.training.init_from=... starts from the weights of another checkpoint,
or from published ones by name (python -m solo_jax.convert --list). The
input settings and frozen layers of that checkpoint are then used, unless the
config or a flag sets them.

Several processes: start the same command in each, with --distributed on a TPU
pod, under Slurm or in Kubernetes, and elsewhere with

    --coordinator=host0:1234 --num_processes=2 --process_id=0

A checkpoint can be resumed on a different number of devices or processes.
"""

import json

import jax
from absl import flags, logging
from ml_collections import config_flags

from solo_jax import cli
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.training.following import follow
from solo_jax.training.loop import train_and_evaluate


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the command's flags.

  Args:
    values: Flag values to define them in; tests pass their own.
  """
  cli.define_config_flag(values)
  flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run, for checkpoints, logs and pictures.",
    flag_values=values,
  )
  flags.DEFINE_boolean(
    "change_batch_size",
    False,
    "Resume from a checkpoint with another training.batch_size. Schedule and "
    "data continue at the same step; the learning rate follows the linear "
    "rule.",
    flag_values=values,
  )
  flags.DEFINE_boolean(
    "change_data",
    False,
    "Resume from a checkpoint trained on other data with the same name.",
    flag_values=values,
  )
  cli.define_cache_flag(values)
  cli.define_process_flags(values)
  flags.mark_flag_as_required("workdir", flag_values=values)


def main() -> None:
  """Runs the command."""
  given = flags.FLAGS
  use_compilation_cache()
  overrides = config_flags.get_override_values(given["config"])
  lines = follow(given.config, given.workdir, overrides)
  if jax.process_index() == 0:
    for line in lines:
      print(f"{line} (set it to keep another value)")
    print("reading the data and making the network", flush=True)
  metrics = train_and_evaluate(
    given.config,
    given.workdir,
    change_batch_size=given.change_batch_size,
    change_data=given.change_data,
  )
  if jax.process_index() == 0:
    print(json.dumps(metrics))


if __name__ == "__main__":
  define_flags()
  # Including warnings, for example about damaged checkpoints.
  cli.run(main, verbosity=logging.WARNING)
