r"""CPU time and quality of the groupings on synthetic embeddings.

python benchmarks/grouping.py

Times are CPU ms an image at 200 x 336, 8-dimensional tags (2 for the
histogram), uninformative seeds; run it pinned to one core for stable figures:

taskset -c 1 env OMP_NUM_THREADS=1 python benchmarks/grouping.py
"""

import functools
import json
import time

import jax
import numpy as np
import rich.console
import rich.table
from absl import app, flags
from grouping_scene import make_scene, mean_iou

from solo_jax.grouping.mean_shift import mean_shift
from solo_jax.grouping.seed_clustering import seed_clustering
from solo_jax.grouping.tag_histogram import tag_histogram

_PASSES = flags.DEFINE_integer("passes", 5, "Passes; the best one counts.")
_SCENES = flags.DEFINE_integer("scenes", 5, "Scenes for the quality.")

RADIUS = 2.5  # of 8 dimensions; the noise .5 of a pixel alone is 1.4 long
SMALL = (128, 128)
LARGE = (200, 336)


def make_groupings(max_groups: int) -> dict:
  """Jitted functions of a scene and their number of tag dimensions."""

  @functools.partial(jax.jit, static_argnums=0)
  def run(name, embedding, seed, foreground):
    num_pixels = embedding.shape[0]
    category = jax.numpy.zeros(num_pixels, jax.numpy.int32)
    precision = jax.numpy.full(num_pixels, -2 * np.log(RADIUS))
    limits = dict(max_groups=max_groups, min_pixels=10)
    if name == "seed":
      return seed_clustering(
        embedding,
        precision,
        seed,
        category,
        foreground,
        seed_threshold=0.5,
        min_unclaimed=0.5,
        **limits,
      )
    if name == "mean_shift":
      return mean_shift(embedding, precision, category, foreground, **limits)
    return tag_histogram(
      embedding, precision, category, foreground, num_categories=1, **limits
    )

  return {
    "seed": (functools.partial(run, "seed"), 8),
    "mean_shift": (functools.partial(run, "mean_shift"), 8),
    "histogram": (functools.partial(run, "histogram"), 2),
  }


def cpu_ms(work) -> float:
  """CPU time of one call in ms, best of the passes."""
  jax.block_until_ready(work())
  best = np.inf
  for _ in range(_PASSES.value):
    start = time.process_time()
    jax.block_until_ready(work())
    best = min(best, time.process_time() - start)
  return 1e3 * best


def arguments(scene):
  return scene.embedding, scene.seed, scene.foreground


def main(argv):
  del argv
  rows = []
  table = rich.table.Table(
    "grouping", "objects", "groups", "CPU ms", "mIoU .15", "mIoU .3", "mIoU .5"
  )
  for num_objects in (5, 25, 400):
    size = LARGE if num_objects == 400 else SMALL
    for name, (group, num_tags) in make_groupings(2 * num_objects).items():
      options = dict(num_objects=num_objects, num_tags=num_tags)
      timed = make_scene(0, size=LARGE, noise=0.15, **options)
      timed_arguments = jax.device_put(arguments(timed))
      milliseconds = cpu_ms(lambda g=group, a=timed_arguments: g(*a))
      groups = group(*timed_arguments)
      quality = {}
      for noise in (0.15, 0.3, 0.5):
        scenes = [
          make_scene(i, size=size, noise=noise, **options)
          for i in range(_SCENES.value)
        ]
        quality[noise] = float(
          np.mean(
            [
              mean_iou(s.truth, np.asarray(group(*arguments(s)).assignment))
              for s in scenes
            ]
          )
        )
      row = dict(
        grouping=name,
        objects=int(timed.truth.max()),
        groups=int(np.sum(groups.valid)),
        cpu_ms=milliseconds,
        **{f"miou_{noise}": value for noise, value in quality.items()},
      )
      rows.append(row)
      table.add_row(
        *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values())
      )
  rich.console.Console().print(table)
  print(json.dumps(rows))


if __name__ == "__main__":
  app.run(main)
