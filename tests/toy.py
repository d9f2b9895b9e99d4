"""A method small enough to train in a test, and batches for it.

Run as a program it trains a few steps and saves losses and parameters, for
tests that need another number of devices than their own process has:

python tests/toy.py OUT.npz BATCH_SIZE ACCUMULATE NUM_STEPS
"""

import functools
import json
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax import parallel, types
from solo_jax.checkpoints.state import create_train_state, init_variables
from solo_jax.config import from_json
from solo_jax.methods.interface import Method, one_pass
from solo_jax.nn.backbones import resnet
from solo_jax.nn.draws import row_keys
from solo_jax.training.optimizer import make_optimizer
from solo_jax.training.step import make_train_step

IMAGE_SIZE = (8, 8)


class ToyBackbone(nn.Module):
  """A convolution and a batch norm, named like those of a ResNet."""

  axis_name: str | None

  @nn.compact
  def __call__(self, x, *, train, row=None):
    x = nn.Conv(4, (3, 3), strides=2, name="conv1")(x)
    return nn.relu(
      nn.BatchNorm(
        use_running_average=not train,
        axis_name=self.axis_name if train else None,
        name="bn1",
      )(x)
    )


class ToyNetwork(nn.Module):
  """Predicts one number per image."""

  axis_name: str | None

  @nn.compact
  def __call__(self, image, image_size, *, train, row=None):
    x = image.astype(jnp.float32) / 255.0
    x = ToyBackbone(self.axis_name, name="backbone")(x, train=train, row=row)
    return nn.Dense(1, name="head")(x.mean(axis=(1, 2)))[:, 0]


def make_toy_method(axis_name=None):
  """Regresses the first object's centre; normalised by the global count."""

  def loss(outputs, batch):
    error = toy_error(outputs, batch, batch.centers[:, 0, 0], axis_name)
    return error, {
      "toy_loss": error,
      "instances_dropped": jnp.sum(batch.num_dropped),
    }

  return Method(network=ToyNetwork(axis_name), loss=one_pass(loss), decode=None)


def make_drawing_method(axis_name=None):
  """The same with noise on the targets, drawn in the loss."""

  def loss(network, batch):
    outputs = network(batch.image, batch.image_size, train=True, row=batch.row)
    keys = row_keys(network.make_rng("draws"), batch.row)
    drawn = jax.vmap(lambda key: jax.random.randint(key, (), 0, 1000))(keys)
    target = batch.centers[:, 0, 0] + drawn / 1000
    # A term with this ending is a sum, here of whole numbers: exact.
    return toy_error(outputs, batch, target, axis_name), {
      "drawn_dropped": jnp.sum(drawn)
    }

  return Method(network=ToyNetwork(axis_name), loss=loss, decode=None)


def toy_error(outputs, batch, target, axis_name):
  valid = batch.image_valid.astype(jnp.float32)
  count = valid.sum()
  if axis_name is not None:
    count = jax.lax.pmean(count, axis_name)
  return jnp.sum(valid * (outputs - target) ** 2) / count


def make_toy_batch(rng, batch_size):
  """Draws a batch; an image's target is its mean brightness."""
  image = rng.integers(0, 256, (batch_size, *IMAGE_SIZE, 3)).astype(np.uint8)
  centers = np.zeros((batch_size, 2, 2), np.float32)
  centers[:, 0, 0] = image.mean(axis=(1, 2, 3)) / 255.0
  return types.Batch(
    image=image,
    image_size=np.tile(np.int32(IMAGE_SIZE), (batch_size, 1)),
    image_valid=np.arange(batch_size) != 1,
    masks=types.PackedMasks(
      data=np.zeros((batch_size, 2, 4, 1), np.uint8), encoding="bits", stride=2
    ),
    centers=centers,
    boxes_xyxy=np.zeros((batch_size, 2, 4), np.float32),
    labels=np.zeros((batch_size, 2), np.int32),
    valid=np.ones((batch_size, 2), bool),
    num_dropped=np.arange(batch_size, dtype=np.int32),
    row=np.arange(batch_size, dtype=np.int32),
  )


def make_toy_config(**training):
  """A config of which the loop and the checkpoints read a few fields."""
  sections = dict(
    seed=0,
    method="toy",
    backbone=dict(name="toy"),
    optimizer=dict(learning_rate=0.1, decay_steps=(5, 8)),
    evaluation=dict(batch_size=1),
    training=dict(
      batch_size=8,
      num_steps=10,
      checkpoint_every_steps=4,
      log_every_steps=3,
      picture_every_steps=0,
      num_pictures=0,
      max_nonfinite_steps=3,
    )
    | training,
  )
  return from_json(json.dumps(sections))  # not checked, but complete


def make_toy_batches(step):
  """The endless stream of batches on the device, from a step on."""
  while True:
    batch = make_toy_batch(np.random.default_rng(step), 8)
    yield parallel.split_batch(batch)
    step += 1


def make_toy_run(*, method=None, ema_decay=None, **changes):
  """Returns (replicated state, per-device step).

  Equal arguments give the same step, so that it compiles once per session.
  """
  optimizer, step = make_toy_step(method, ema_decay, **changes)
  state = create_train_state(
    init_toy_variables(), optimizer, use_ema=ema_decay is not None
  )
  return parallel.replicate(state), step


@functools.cache
def init_toy_variables():
  network = make_toy_method().network
  return init_variables(network, image_size=IMAGE_SIZE, seed=0)


@functools.cache
def make_toy_step(
  method,
  ema_decay,
  *,
  rate=0.1,
  accumulate=1,
  seed=0,
  frozen_stages=0,
  **changes,
):
  options = dict(
    name="sgd",
    momentum=0.9,
    weight_decay=1e-4,
    decayed="weights",
    clip_norm=None,
    backbone_factor=1.0,
    is_frozen=lambda name: resnet.is_frozen(name, frozen_stages),
  )
  optimizer = make_optimizer(
    init_toy_variables()["params"], **options | changes
  )
  step = make_train_step(
    method or make_toy_method(parallel.AXIS_NAME),
    optimizer,
    lambda step: jnp.float32(rate),
    accumulate=accumulate,
    ema_decay=ema_decay,
    axis_name=parallel.AXIS_NAME,
    seed=seed,
  )
  return optimizer, step


map_toy_step = functools.cache(parallel.map_step)


def main(out, batch_size, accumulate, num_steps):
  state, step = make_toy_run(
    method=make_drawing_method(parallel.AXIS_NAME),
    accumulate=int(accumulate),
    ema_decay=0.9,
  )
  mapped_step = map_toy_step(step)
  rng = np.random.default_rng(0)
  metrics = []
  for _ in range(int(num_steps)):
    batch = make_toy_batch(rng, int(batch_size))
    state, row = mapped_step(state, parallel.split_batch(batch))
    metrics.append(parallel.fetch(row))
  # Copies of the state on different devices must be equal.
  copies = [
    [np.asarray(shard.data) for shard in x.addressable_shards]
    for x in jax.tree.leaves(state)
  ]
  spread = max(
    np.abs(x - first).max() for first, *rest in copies for x in rest or [first]
  )
  arrays = {
    jax.tree_util.keystr(path): x
    for path, x in jax.tree_util.tree_leaves_with_path(parallel.fetch(state))
  }
  for name in metrics[0]:
    arrays[f"metrics/{name}"] = np.array([row[name] for row in metrics])
  np.savez(out, num_devices=jax.device_count(), spread=spread, **arrays)


if __name__ == "__main__":
  main(*sys.argv[1:])
