"""Images with square objects and outputs that are right about them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.methods.associative_embedding.network import Outputs
from tests.target_masks import pack_bits, pack_coverage

SIZE = 16  # of the maps: 32 px images at stride 2
SQUARES = ((1, 1, 5, 0), (6, 2, 4, 2), (2, 9, 6, 1))  # x, y, side, label


def make_batch(squares=SQUARES, num_images=1, capacity=5, soft=True):
  """The squares, in map pixels, in the first image; none in the others."""
  masks = np.zeros((num_images, capacity, SIZE, SIZE), np.uint8)
  labels = np.zeros((num_images, capacity), np.int32)
  for i, (x, y, side, label) in enumerate(squares):
    masks[0, i, y : y + side, x : x + side] = 255
    labels[0, i] = label
  valid = np.arange(capacity)[None] < np.array(
    [[len(squares)]] + [[0]] * (num_images - 1)
  )
  side = 2 * SIZE
  return types.Batch(
    image=np.zeros((num_images, side, side, 3), np.uint8),
    image_size=np.full((num_images, 2), side, np.int32),
    image_valid=np.ones(num_images, bool),
    masks=(pack_coverage if soft else pack_bits)(masks, stride=2),
    centers=np.zeros((num_images, capacity, 2), np.float32),
    boxes_xyxy=np.zeros((num_images, capacity, 4), np.float32),
    labels=labels,
    valid=valid,
    num_dropped=np.zeros(num_images, np.int32),
    row=np.arange(num_images, dtype=np.int32),
  )


def make_outputs(num_images=1, num_tags=2, seed=0):
  """Random maps of 3 classes."""
  rng = np.random.default_rng(seed)

  def normal(*shape):
    shape = (num_images, SIZE, SIZE, *shape)
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  return Outputs(
    category_logits=normal(3),
    embedding=normal(num_tags),
    log_precision=normal(),
    seed_logits=normal(),
    quality_logits=normal(),
  )


def make_perfect(batch, quality=4.0):
  """Every pixel at the centre of its square, sure of its class and seed."""
  squares = batch.masks.data[0] > 0
  covered = squares.any(0)
  owner = squares.argmax(0)
  y, x = np.mgrid[:SIZE, :SIZE]
  embedding = np.stack([x, y], -1).astype(np.float32)
  for i in np.flatnonzero(batch.valid[0]):
    mine = covered & (owner == i)
    if mine.any():
      embedding[mine] = embedding[mine].mean(0)
  logits = np.full((SIZE, SIZE, 3), -12.0, np.float32)
  label = batch.labels[0][owner]
  for k in range(3):
    logits[covered & (label == k), k] = 12
  maps = Outputs(
    category_logits=logits,
    embedding=embedding,
    log_precision=np.full((SIZE, SIZE), 1.0, np.float32),
    seed_logits=np.where(covered, 12, -12).astype(np.float32),
    quality_logits=np.full((SIZE, SIZE), quality, np.float32),
  )
  return jax.tree.map(lambda m: jnp.asarray(m)[None], maps)


def repeat(batch, times):
  """The same images several times over."""
  return jax.tree.map(lambda x: np.concatenate([x] * times), batch)


@pytest.fixture
def batch():
  return make_batch()
