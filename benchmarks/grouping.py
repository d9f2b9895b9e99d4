r"""CPU time and quality of the groupings on synthetic embeddings.

taskset -c 1 env OMP_NUM_THREADS=1 python benchmarks/grouping.py

Times are CPU ms per image at 200 x 336 with noise 0.15 and equal seed scores.
Quality is the mean IoU over scenes, for the noise in the heading (the standard
deviation in each dimension of each tag). Tags have 8 dimensions, and cluster
means a standard deviation of 1.5. The histogram, which bins at most 2
dimensions, gets 2 with a deviation of 10, and twice that for 400 objects, which
would otherwise coincide by chance.

For quality, the radius is proportional to the noise, as the radius of a trained
embedding follows the spread of its tags. Times are measured with a radius that
contains every pixel of a cluster. With a tight radius, seeds chosen without
scores are mostly outliers, each costs a try, and seed clustering takes two to
three times as long.
"""

import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table
from absl import app, flags
from grouping_scene import make_scene, mean_iou

from solo_jax.grouping.groups import Pixels
from solo_jax.grouping.mean_shift import mean_shift
from solo_jax.grouping.seed_clustering import seed_clustering
from solo_jax.grouping.tag_histogram import tag_histogram

_PASSES = flags.DEFINE_integer("passes", 5, "Passes; the best one counts.")
_SCENES = flags.DEFINE_integer("scenes", 5, "Scenes for the quality.")

SIZE = (200, 336)
NOISES = (0.15, 0.3, 0.5)
# Of each grouping: dimensions, deviation of the means, radius when timed,
# radius over noise (whose length is 2.8 times its deviation in 8 dimensions).
SETTINGS = {
  "seed": (8, 1.5, 2.0, 5.0),
  "mean_shift": (8, 1.5, 2.0, 5.0),
  "histogram": (2, 10.0, 1.25, 4.0),
}


@functools.partial(jax.jit, static_argnames=("name", "max_groups"))
def group(embedding, seed, foreground, radius, *, name, max_groups):
  """Runs one grouping on one image; returns its Groups."""
  num_pixels = embedding.shape[0]
  category = jnp.zeros(num_pixels, jnp.int32)
  log_precision = jnp.full(num_pixels, -2 * jnp.log(radius))
  limits = dict(max_groups=max_groups, min_pixels=10)
  pixels = Pixels(embedding, log_precision, category, foreground)
  if name == "seed":
    return seed_clustering(
      pixels, seed, seed_threshold=0.5, min_unclaimed=0.5, **limits
    )
  if name == "mean_shift":
    return mean_shift(pixels, **limits)
  return tag_histogram(pixels, num_categories=1, **limits)


def cpu_ms(work) -> float:
  """CPU time of one call in ms, best of the passes."""
  jax.block_until_ready(work())
  best = np.inf
  for _ in range(_PASSES.value):
    start = time.process_time()
    jax.block_until_ready(work())
    best = min(best, time.process_time() - start)
  return 1e3 * best


def measure(name: str, num_objects: int) -> dict:
  """Time and quality of one grouping at a number of objects."""
  num_tags, spread, timed_radius, radius_over_noise = SETTINGS[name]
  run = functools.partial(group, name=name, max_groups=2 * num_objects)
  if num_objects > 100:
    spread *= 2

  def scene(seed, noise):
    return make_scene(
      seed,
      size=SIZE,
      num_objects=num_objects,
      noise=noise,
      num_tags=num_tags,
      spread=spread,
    )

  def iou(seed, noise):
    drawn = scene(seed, noise)
    radius = radius_over_noise * noise
    found = run(drawn.embedding, drawn.seed, drawn.foreground, radius)
    return mean_iou(drawn.truth, np.asarray(found.assignment))

  timed = scene(0, NOISES[0])
  pixels = jax.device_put((timed.embedding, timed.seed, timed.foreground))
  pixels = (*pixels, timed_radius)
  return dict(
    grouping=name,
    objects=int(timed.truth.max()),
    groups=int(np.sum(run(*pixels).valid)),
    cpu_ms=cpu_ms(lambda: run(*pixels)),
    **{
      f"miou_{noise}": float(
        np.mean([iou(seed, noise) for seed in range(_SCENES.value)])
      )
      for noise in NOISES
    },
  )


def main(argv):
  del argv
  columns = [f"mIoU {noise}" for noise in NOISES]
  table = rich.table.Table("grouping", "objects", "groups", "CPU ms", *columns)
  rows = [measure(name, num) for num in (5, 25, 400) for name in SETTINGS]
  for row in rows:
    cells = (
      f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()
    )
    table.add_row(*cells)
  rich.console.Console().print(table)
  print(json.dumps(rows))


if __name__ == "__main__":
  app.run(main)
