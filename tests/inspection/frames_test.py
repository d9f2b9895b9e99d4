"""Tests of solo_jax/inspection/frames.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.data import batching
from solo_jax.inference.predictor import Model, Predictor
from solo_jax.inspection.frames import (
  inference_frames,
  make_example,
  mask_weights,
  training_frame,
)
from solo_jax.methods.interface import Method
from tests.inspection.conftest import make_sample, sections

WHOLE = dict(
  short_side=40,
  max_side=72,
  keep_aspect=True,
  size_rounding="nearest",
  pad_multiple=16,
  interpolation="bilinear",
  tile_size=None,
  tile_overlap=0,
)
TILES = WHOLE | dict(short_side=48, max_side=48, tile_size=32, tile_overlap=8)
# The second tile begins at 25, which is 37.5 after resizing.
ODD_TILES = TILES | dict(tile_overlap=7)


class Recorder:
  """Stands for a network; keeps the images it is given."""

  def __init__(self):
    self.seen = []

  def apply(self, variables, image, image_size, *, train):
    jax.debug.callback(
      lambda *x: self.seen.append([np.array(v[0]) for v in x]),
      image,
      image_size,
      ordered=True,
    )
    return image


def decode_nothing(image, image_size):
  none = jnp.zeros((1, 1))
  return types.Decoded(
    masks=types.FrameMasks(probs=jnp.zeros((1, 1, *image.shape[1:3]))),
    scores=none,
    labels=none.astype(int),
    valid=none > 0,
    num_dropped=jnp.zeros(1, int),
  )


@pytest.mark.parametrize(
  "rule", [WHOLE, TILES, ODD_TILES], ids=["whole", "tiles", "odd"]
)
@pytest.mark.parametrize("size", [(50, 75), (20, 90), (30, 31)])
def test_frames_are_what_the_predictor_shows_its_network(rule, size):
  # Tells every row and column; noise tells whether a resize is the same one.
  rows, columns = np.indices(size)
  image = np.stack([2 * rows + 20, 2 * columns + 20, rows * 0], -1)
  image[..., 2] = np.random.default_rng(0).integers(0, 255, size)
  image = image.astype(np.uint8)
  recorder = Recorder()
  method = Method(network=recorder, loss=None, decode=decode_nothing)
  model = Model(
    method=method, variables={}, preprocessing=rule, mask_threshold=0.5
  )
  Predictor(model)(image)
  jax.effects_barrier()
  sample = dataclasses.replace(make_sample([], size), image=image)
  frames = inference_frames(sample, rule)
  assert len(frames) == len(recorder.seen)
  for frame, (shown, shown_size) in zip(frames, recorder.seen, strict=True):
    assert frame.padded_size == shown.shape[:2]
    assert frame.sample.image_size == tuple(shown_size)
    drawn = batching.render_image(
      frame.sample, image_size=frame.padded_size, interpolation="bilinear"
    )
    np.testing.assert_array_equal(drawn, shown)


def test_instances_of_a_tile_lie_in_its_frame():
  # Tiles of 32 at columns 0 and 24; the box is seen whole by the second.
  sample = make_sample([(30, 4, 46, 12)], (32, 56))
  first, second = inference_frames(sample, TILES)
  settings = sections("solov2_shapes", transforms__mask_stride=4)["transforms"]
  cut, whole = (make_example(f, settings) for f in (first, second))
  np.testing.assert_allclose(cut["boxes_xyxy"][0], (45, 6, 48, 18))
  np.testing.assert_allclose(whole["boxes_xyxy"][0], (9, 6, 33, 18))
  assert first.size == second.size == (32, 32)


def test_portrait_training_uses_the_swapped_size():
  settings = sections("solov2_shapes", transforms__image_size=(32, 64))
  settings = settings["transforms"]
  sizes = [
    training_frame(
      make_sample([], size),
      np.random.default_rng(0),
      settings,
      group_by_orientation=grouped,
    ).padded_size
    for size, grouped in (((60, 30), True), ((60, 30), False), ((30, 60), True))
  ]
  assert sizes == [(64, 32), (32, 64), (32, 64)]


@pytest.mark.parametrize("rule", ["majority", "coverage"])
def test_mask_weights_are_the_targets_of_valid_instances(rule):
  sample = make_sample([(0, 0, 8, 4), (16, 8, 20, 16)])
  (frame,) = inference_frames(sample, WHOLE | dict(short_side=64))
  settings = sections(
    "solov2_shapes", transforms__mask_stride=4, transforms__mask_rule=rule
  )["transforms"]
  weights = mask_weights(make_example(frame, settings))
  expected = np.zeros((2, 16, 16))
  expected[0, 0, :2] = 1
  expected[1, 2:4, 4] = 1
  np.testing.assert_array_equal(weights, expected)
