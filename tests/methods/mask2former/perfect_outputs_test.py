"""Tests of solo_jax/methods/mask2former/perfect_outputs.py."""

import functools
import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.methods.mask2former.decode import decode
from solo_jax.methods.mask2former.loss import (
  LossSettings,
  draw_points,
  outputs_loss,
)
from solo_jax.methods.mask2former.perfect_outputs import (
  cell_coverage,
  perfect_outputs,
)
from solo_jax.methods.mask2former.targets import make_targets

NETWORK = python_types.SimpleNamespace(
  num_queries=5, num_classes=3, num_decoder_layers=1
)
LABELS = [2, 0, 2]


@pytest.fixture(scope="module")
def scene():
  """A batch of one image with three boxes on whole cells, and their masks."""
  masks = np.zeros((1, 4, 32, 64), np.float32)
  masks[0, 0, 4:12, 8:24] = 1
  masks[0, 1, 16:32, 32:64] = 1
  masks[0, 2, 0:8, 40:48] = 1
  batch = python_types.SimpleNamespace(
    masks=types.PackedMasks(
      data=jnp.asarray(np.packbits(masks.astype(bool), axis=-1)),
      encoding="bits",
      stride=1,
    ),
    labels=jnp.asarray([[*LABELS, 0]]),
    valid=jnp.asarray([[True, True, True, False]]),
    image_valid=jnp.ones(1, bool),
  )
  return batch, masks


def test_the_decoder_finds_exactly_the_targets(scene):
  batch, masks = scene
  find = functools.partial(decode, things=range(3), max_detections=6)
  found = jax.jit(find)(
    perfect_outputs(NETWORK, batch), jnp.asarray([[32, 64]])
  )
  assert int(jnp.sum(found.scores > 0.5)) == 3
  cells = masks[0, :3, 2::4, 2::4]
  for label, probs in zip(
    found.labels[0, :3], found.masks.probs[0, :3], strict=True
  ):
    same = [np.array_equal(probs > 0.5, cell) for cell in cells]
    assert sum(same) == 1 and LABELS[same.index(True)] == label


def test_the_loss_has_nothing_to_improve(scene):
  batch, _ = scene
  targets = make_targets(batch, 5)
  keys = jax.random.split(jax.random.key(0), 1)

  def loss(share):
    outputs = jax.tree.map(lambda x: share * x, perfect_outputs(NETWORK, batch))
    return outputs_loss(
      outputs,
      targets,
      batch.image_valid,
      lambda i: draw_points(
        keys,
        i,
        num_points=200,
        oversample_ratio=3.0,
        importance_sample_ratio=0.75,
      ),
      LossSettings(
        category_weight=2.0,
        category_cost=2.0,
        mask_weight=5.0,
        dice_weight=5.0,
        no_object_weight=0.1,
        num_points=200,
        oversample_ratio=3.0,
        importance_sample_ratio=0.75,
      ),
      None,
    )

  perfect, terms = jax.jit(loss)(1.0)
  blank, _ = jax.jit(loss)(0.0)
  assert terms["category_loss"] < 1e-3
  # Between two cells the mask's edge is not where that of the pixels is.
  assert perfect < 0.2 * blank


def test_coverage_is_the_share_of_pixels(scene):
  rng = np.random.default_rng(0)
  coverage = rng.integers(0, 256, (1, 2, 8, 6)).astype(np.uint8)
  masks = types.PackedMasks(
    data=jnp.asarray(coverage), encoding="coverage", stride=2
  )
  cells = cell_coverage(masks)
  assert cells.shape == (1, 2, 4, 3)
  np.testing.assert_allclose(
    cells[0, 1, 2, 1], coverage[0, 1, 4:6, 2:4].mean() / 255, rtol=1e-6
  )
