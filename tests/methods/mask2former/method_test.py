"""Tests of solo_jax/methods/mask2former/method.py."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.mask2former.method import make, problems
from solo_jax.methods.mask2former.network import Outputs
from tests.methods.mask2former.loss_test import make_batch
from tests.methods.small_regions import make_variables

NETWORK = dict(
  num_queries=4,
  channels=32,
  mask_channels=8,
  num_heads=4,
  num_encoder_layers=1,
  encoder_hidden=16,
  num_decoder_layers=2,
  decoder_hidden=16,
  remat_encoder=False,
  mean=(0.0, 0.0, 0.0),
  std=(255.0, 255.0, 255.0),
  channel_order="rgb",
  dtype=jnp.float32,
)
LOSS = dict(
  category_weight=2.0,
  category_cost=2.0,
  mask_weight=5.0,
  dice_weight=5.0,
  no_object_weight=0.1,
  num_points=16,
  oversample_ratio=3.0,
  importance_sample_ratio=0.75,
)
DECODE = dict(things=(0,), max_detections=6, min_score=0.8, min_visible=0.8)


class Pools(nn.Module):
  """Averages of the pixels at strides 4, 8, 16, 32."""

  def __call__(self, x, *, train, row):
    del train, row
    return tuple(nn.avg_pool(x, (s, s), (s, s)) for s in (4, 8, 16, 32))


def make_method(**decode):
  return make(
    Pools(),
    num_classes=3,
    network=NETWORK,
    loss=LOSS,
    decode=DECODE | decode,
    axis_name=None,
  )


def test_a_step_of_training_lowers_the_loss():
  method = make_method()
  image = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3))
  batch = dataclasses.replace(
    make_batch(2, [2, 3]),
    image=jnp.asarray(image, jnp.uint8),
    image_size=jnp.asarray([[64, 96]] * 2),
  )

  @jax.jit
  def step(variables):
    def loss(variables):
      return nn.apply(method.loss, method.network)(
        variables, batch, rngs={"draws": jax.random.key(1)}
      )

    (value, terms), gradient = jax.value_and_grad(loss, has_aux=True)(variables)
    variables = jax.tree.map(
      lambda x, g: x - 0.01 * jnp.clip(g, -1, 1), variables, gradient
    )
    return value, terms, variables, gradient

  variables = make_variables(method.network, batch)
  first, terms, variables, _ = step(variables)
  for _ in range(5):
    last, _, variables, gradient = step(variables)
  assert last < first
  assert {"category_loss", "mask_loss", "dice_loss"} <= set(terms)
  flat = jax.tree_util.tree_leaves_with_path(gradient["params"])
  zero = {jax.tree_util.keystr(path) for path, g in flat if not g.any()}
  # Of the last step: weights of offsets start as zeros, so that what they are
  # multiplied by has no gradient in the first. Scores of all keys move alike
  # with the bias of the keys.
  assert all("['key']['bias']" in name for name in zero), zero


def test_segments_of_a_batch_on_the_host():
  sure = np.full((2, 4, 4), -20.0, np.float32)
  sure[..., 3] = 20  # no object
  sure[1, 0], sure[1, 1] = [20, 0, 0, 0], [0, 0, 20, 0]
  masks = np.full((2, 4, 8, 8), -20.0, np.float32)
  masks[1, 0, :, :4] = masks[1, 1, :, 4:] = 20
  outputs = Outputs((None, jnp.asarray(sure)), (None, jnp.asarray(masks)))
  sizes = dict(image_size=(32, 32), original_size=(64, 64))
  method = make_method()
  panoptic = method.decode_panoptic(outputs, jnp.full((2, 2), 32))
  empty, found = (panoptic.to_original(row, **sizes) for row in (0, 1))
  assert not empty.segments and not empty.ids.any()
  assert [(s.label, s.is_thing) for s in found.segments] == [
    (0, True),
    (2, False),
  ]
  np.testing.assert_array_equal(found.ids[:, [0, 63]], [[1, 2]] * 64)
  semantic = method.decode_semantic(outputs, jnp.full((2, 2), 32))
  found = semantic.to_original(1, **sizes)
  np.testing.assert_array_equal(found.ids[:, [0, 63]], [[1, 3]] * 64)
  # Without stuff every class is of things.
  panoptic = make_method(things=None).decode_panoptic(outputs, None)
  assert all(s.is_thing for s in panoptic.to_original(1, **sizes).segments)


CONFIG = dict(
  method="mask2former",
  network=NETWORK,
  decode=DECODE | dict(mask_threshold=0.5),
  dataset=dict(num_classes=3),
  transforms=dict(
    max_instances=4, mask_frame="image", mask_stride=1, mask_rule="majority"
  ),
)


@pytest.mark.parametrize(
  ("section", "field", "value", "message"),
  [
    ("network", "channels", 48, "network.channels is 48"),
    ("network", "num_heads", 5, "network.num_heads, 5"),
    ("decode", "things", (0, 3), "decode.things has 3"),
    ("decode", "mask_threshold", 0.4, "decode.mask_threshold is 0.4"),
    ("transforms", "mask_frame", "box", "transforms.mask_frame is 'box'"),
    ("transforms", "mask_rule", "published", "mask_stride=1 use 'majority'"),
    ("transforms", "mask_stride", 8, "transforms.mask_stride is 8"),
    ("decode", "max_detections", 13, "give at most 12"),
    ("transforms", "max_instances", 5, "transforms.max_instances is 5"),
  ],
)
def test_problems_of_its_own_fields(section, field, value, message):
  assert problems(CONFIG) == []
  changed = CONFIG | {section: CONFIG[section] | {field: value}}
  (line,) = problems(changed)
  assert message in line


def test_every_ability_is_of_the_network_of_the_config():
  method = make_method()
  batch = make_batch(1, [2])
  outputs = jax.eval_shape(method.perfect_outputs, batch)
  expected = jax.eval_shape(
    functools.partial(method.network.init_with_output, train=False),
    jax.random.key(0),
    batch.image,
    batch.image_size,
  )[0]
  assert jax.tree.structure(outputs) == jax.tree.structure(expected)
  for one, other in zip(
    jax.tree.leaves(outputs), jax.tree.leaves(expected), strict=True
  ):
    assert one.shape == other.shape
