r"""Measures what the first photographs cost, by stage, in CPU seconds.

python benchmarks/cold_start.py --checkpoint=solov2_r50_3x photo.jpg ...

Stages: importing `predict`; loading the checkpoint; for each photograph, the
extra time of the first call (tracing, and compiling the program or reading it
from the cache) and the time of the second call (network, decoder, masks);
drawing. CPU seconds are summed over all threads. To measure without programs of
earlier runs, point SOLO_JAX_CACHE to a folder without `compiled`.
--nofew_shapes pads as an evaluation does.
"""

import pathlib
import time

from absl import app, flags, logging

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "As for predict.")
FEW_SHAPES = flags.DEFINE_boolean("few_shapes", True, "Pad as predict does.")


class Clock:
  """Prints CPU seconds since the last call."""

  def __init__(self):
    self.last = time.process_time()
    self.total = 0.0

  def lap(self) -> float:
    """Returns the CPU seconds since the last call, and adds them up."""
    now = time.process_time()
    seconds, self.last = now - self.last, now
    self.total += seconds
    return seconds


def main(argv: list[str]) -> None:
  """Runs the benchmark."""
  logging.set_verbosity(logging.ERROR)
  clock = Clock()
  import solo_jax.predict  # noqa: F401

  print(f"import {clock.lap():6.1f}")
  from solo_jax.api import Predictor
  from solo_jax.inference.compilation_cache import use_compilation_cache
  from solo_jax.media.reading import ImageReader
  from solo_jax.visualization import draw_instances

  use_compilation_cache()
  predictor = Predictor.from_checkpoint(
    CHECKPOINT.value, few_shapes=FEW_SHAPES.value
  )
  print(f"load   {clock.lap():6.1f}")
  for path in argv[1:]:
    image = ImageReader().read(pathlib.Path(path))
    clock.lap()
    predictor(image)
    first = clock.lap()
    found = predictor(image)
    second = clock.lap()
    clock.total -= second  # the second call is for comparison only
    draw_instances(image, found.above(0.3), predictor.class_names)
    size = predictor.padded_size(image.shape[:2])
    print(
      f"{pathlib.Path(path).name}, padded to {size}: compile "
      f"{first - second:.1f}, run {second:.1f}, draw {clock.lap():.1f}"
    )
  print(f"all    {clock.total:6.1f}, {predictor.num_compiled} programs")


if __name__ == "__main__":
  flags.mark_flag_as_required("checkpoint")
  app.run(main)
