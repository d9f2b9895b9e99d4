r"""The dataset doctor: checks a dataset and a configuration before training.

python -m solo_jax.inspect_data --config=configs/solov2_nuclei.py --out=doctor

For your own data, start from the closest config and name the dataset:

python -m solo_jax.inspect_data --config=configs/solov2_own_data.py \
    --config.dataset.name=coco_instances/my_data --out=doctor

It counts images, instances, sizes and classes, repeats the problems that
`prepare` found and looks for more, reports which instances are lost between
annotation and training target (no grid cell, no capacity), and scores the
targets themselves, decoded like predictions: the highest AP that the
configuration allows. Then it suggests a configuration and scores that one, too.
It writes below --out:

  report.html               a page: verdict, pictures, tables
  report.md, report.json    what the terminal shows, and more
  suggested_config.py       to train with: --config=doctor/suggested_config.py
  training.png              training inputs, mask targets, cells or groups
  lost.png                  the evaluation inputs that lose most instances, if
                            any do
  suggested.png             training inputs of the suggestion
"""

import pathlib
import sys

from absl import flags

from solo_jax import cli
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.inspection.doctor import inspect
from solo_jax.terminal import Console

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the command's flags.

  Args:
    values: Flag values to define them in; tests pass their own.
  """
  cli.define_config_flag(values)
  cli.define_cache_flag(values)
  flags.DEFINE_string(
    "out",
    None,
    "Folder to write the report, pictures and suggested configuration to.",
    flag_values=values,
  )
  flags.DEFINE_integer(
    "num_images",
    500,
    "Number of images to decode per split, spread evenly; 0: all.",
    lower_bound=0,
    flag_values=values,
  )
  flags.DEFINE_integer(
    "num_oracle_images",
    100,
    "Number of evaluation images to score, spread evenly; 0: all.",
    lower_bound=0,
    flag_values=values,
  )


def main() -> None:
  """Runs the command."""
  use_compilation_cache()
  inspect(
    FLAGS.config,
    out=pathlib.Path(FLAGS.out) if FLAGS.out else None,
    num_images=FLAGS.num_images,
    num_oracle_images=FLAGS.num_oracle_images,
    console=Console(markup=False, highlight=False),
    progress=cli.make_progress(
      Console(stderr=True, markup=False, highlight=False)
    ),
    command=cli.command_line(sys.argv),
  )


if __name__ == "__main__":
  define_flags()
  cli.run(main)
