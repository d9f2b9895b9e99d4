"""Tests of solo_jax/exporting/program.py: equal to the host's predictor."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.exporting.program import make_program
from solo_jax.inference.predictor import Model, Predictor
from solo_jax.methods.interface import Method


class ColorNetwork(nn.Module):
  """Three 'instances' an image: its red, green and blue pixels."""

  @nn.compact
  def __call__(self, image, image_size, *, train):
    gain = self.param("gain", nn.initializers.ones, ())
    return gain * nn.avg_pool(image / 255.0, (2, 2), (2, 2))


def decode_colors(outputs, image_size):
  mask_probs = jnp.moveaxis(outputs, 3, 1)
  scores = jnp.max(mask_probs, (2, 3))
  scores, order = jax.lax.top_k(scores, 3)
  return types.Decoded(
    masks=types.FrameMasks(
      probs=jnp.take_along_axis(mask_probs, order[..., None, None], 1)
    ),
    scores=jnp.where(scores > 0.4, scores, 0.0),
    labels=order,
    valid=scores > 0.4,
    num_dropped=jnp.sum(scores <= 0.4, 1),
  )


@pytest.mark.parametrize(
  ("interpolation", "sizes"),
  [
    ("bilinear", [(32, 48), (20, 24), (61, 90), (9, 70)]),
    ("area", [(64, 96), (61, 30)]),
  ],
)
def test_equals_the_predictor(interpolation, sizes):
  rule = dict(
    short_side=32,
    max_side=48,
    pad_multiple=48,
    interpolation=interpolation,
    tile_size=None,
    tile_overlap=0,
  )
  method = Method(network=ColorNetwork(), loss=None, decode=decode_colors)
  variables = {"params": {"gain": np.float32(1)}}
  model = Model(
    method=method,
    variables=variables,
    preprocessing=rule,
    mask_threshold=0.4871,
  )
  native = Predictor(model, batch_size=2)
  weights, treedef = jax.tree.flatten(variables)
  program = jax.jit(
    make_program(
      method,
      treedef,
      preprocessing=rule,
      mask_threshold=0.4871,
      input_size=(48, 48),
    )
  )
  rng = np.random.default_rng(0)
  images = [
    rng.integers(0, 256, (*size, 3), np.uint8) // [1, 2, 4] for size in sizes
  ]
  images = [image.astype(np.uint8) for image in images]
  for start in range(0, len(images), 2):
    pair = images[start : start + 2]
    canvas = rng.integers(0, 256, (2, 64, 96, 3), np.uint8)
    for row, image in enumerate(pair):
      canvas[row, : image.shape[0], : image.shape[1]] = image
    original_size = np.array([x.shape[:2] for x in pair], np.int32)
    found = program(weights, canvas, original_size)
    for row, expected in enumerate(native.predict(pair)):
      valid = np.asarray(found["valid"][row])
      height, width = pair[row].shape[:2]
      masks = np.unpackbits(np.asarray(found["masks"][row]), axis=2)
      assert len(expected) == valid.sum() > 0
      np.testing.assert_array_equal(
        masks[valid, :height, :width], expected.masks
      )
      assert not masks[:, height:].any() and not masks[:, :, width:].any()
      np.testing.assert_array_equal(
        found["boxes_xyxy"][row][valid], expected.boxes_xyxy
      )
      np.testing.assert_array_equal(
        found["scores"][row][valid], expected.scores
      )
      np.testing.assert_array_equal(
        found["labels"][row][valid], expected.labels
      )
      assert found["num_dropped"][row] == 3 - len(expected)
