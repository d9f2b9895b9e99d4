"""The command `train` with a network of two layers, for tests that start it
many times: records, pipeline, step, checkpoints, logs and errors are the real
ones, and a start costs seconds.
"""

import importlib.util
import os
import pathlib
import time

from absl import logging

from solo_jax import cli, parallel, train
from solo_jax.training import loop

_TOY = pathlib.Path(__file__).parents[1] / "toy.py"
_SPEC = importlib.util.spec_from_file_location("toy", _TOY)
toy = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(toy)


def evaluate(run, state):
  """The toy regresses a number and detects nothing; processes meet as ever."""
  print("evaluating", flush=True)
  time.sleep(float(os.environ["TOY_EVALUATION_SECONDS"]))
  parallel.gather_json([])
  return {"mask_AP": 0.25}


def main():
  method = toy.make_toy_method(parallel.AXIS_NAME)
  loop.build_method = lambda config, axis_name: method
  loop.Run._evaluate = evaluate
  train.define_flags()
  cli.run(train.main, verbosity=logging.WARNING)


if __name__ == "__main__":
  main()
