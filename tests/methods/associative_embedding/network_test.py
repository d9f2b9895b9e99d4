"""Tests of solo_jax/methods/associative_embedding/network.py."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.associative_embedding.network import AssociativeEmbedding


class NoBackbone(nn.Module):
  """Stands in where only the head runs."""


def make_network(**fields):
  return AssociativeEmbedding(
    **dict(
      backbone=NoBackbone(),
      num_classes=3,
      embedding="spatial",
      tag_channels=2,
      tag_radius=2.0,
      coordinate_unit=16.0,
      fpn_channels=4,
      head_channels=4,
      num_head_convs=1,
      num_hourglasses=0,
      mask_stride=2,
      num_groups=2,
      mean=(0.0, 0.0, 0.0),
      std=(1.0, 1.0, 1.0),
      channel_order="rgb",
      dtype=jnp.float32,
    )
    | fields
  )


def make_pyramid():
  rng = np.random.default_rng(1)
  return tuple(
    rng.normal(size=(2, 8 >> i, 16 >> i, 4)).astype(np.float32)
    for i in range(4)
  )


def shapes_of(network):
  """Those of the outputs of the head, and of its variables."""
  init, _ = compiled(network)
  return jax.eval_shape(init, jax.random.key(0), make_pyramid())


def first_outputs(network):
  """The outputs of the head with the variables that training starts from."""
  init, _ = compiled(network)
  return init(jax.random.key(0), make_pyramid())[0]


def outputs_of_zeros(network):
  """The outputs of the head with zeros for variables."""
  _, shapes = shapes_of(network)
  variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  _, apply = compiled(network)
  return apply(variables, make_pyramid())


@functools.cache
def compiled(network):
  init = functools.partial(network.init_with_output, method="head")
  apply = functools.partial(network.apply, method="head")
  return jax.jit(init), jax.jit(apply)


@pytest.mark.parametrize(
  ("fields", "size", "tags"),
  [
    (dict(), (16, 32), 2),
    (dict(mask_stride=4), (8, 16), 2),
    (dict(embedding="tag", tag_channels=5), (16, 32), 5),
    (dict(embedding="tag", tag_channels=1, num_hourglasses=2), (16, 32), 1),
  ],
)
def test_outputs_at_mask_resolution(fields, size, tags):
  outputs, _ = shapes_of(make_network(**fields))
  assert outputs.category_logits.shape == (2, *size, 3)
  assert outputs.embedding.shape == (2, *size, tags)
  for name in ("log_precision", "seed_logits", "quality_logits"):
    assert getattr(outputs, name).shape == (2, *size), name
  for leaf in jax.tree.leaves(outputs):
    assert leaf.dtype == jnp.float32


def test_without_weights_a_spatial_embedding_is_the_place():
  """Pixel centres (x, y) in units of 16 px, and the initial radius."""
  outputs = outputs_of_zeros(make_network())
  y, x = np.mgrid[:16, :32] * 2 + 1.0
  np.testing.assert_allclose(
    outputs.embedding[1], np.stack([x, y], -1) / 16, rtol=1e-6
  )


def test_the_initial_radius_is_the_one_given():
  outputs = outputs_of_zeros(make_network(tag_radius=3.0))
  np.testing.assert_allclose(outputs.log_precision, -2 * np.log(3), rtol=1e-6)
  outputs = first_outputs(make_network(embedding="tag", tag_radius=3.0))
  np.testing.assert_allclose(outputs.log_precision, -2 * np.log(3), rtol=1e-6)


def test_free_tags_do_not_depend_on_position_and_start_different():
  network = make_network(embedding="tag", tag_channels=4)
  outputs = outputs_of_zeros(network)
  np.testing.assert_array_equal(outputs.embedding, 0)
  outputs = first_outputs(network)
  assert np.std(outputs.embedding[0], axis=(0, 1)).min() > 0.01


def test_hourglasses_are_part_of_the_tree():
  _, variables = shapes_of(make_network(num_hourglasses=2))
  assert set(variables["params"]["hourglasses"]) == {
    "hourglass_0",
    "hourglass_1",
  }


def test_the_four_pixels_of_a_stride_4_cell_have_weights_of_their_own():
  """Depth to space: channel blocks in row-major order within the cell."""
  network = make_network(embedding="tag", tag_channels=1)
  _, variables = shapes_of(network)
  params = jax.tree.map(
    lambda x: np.zeros(x.shape, x.dtype), variables["params"]
  )
  params["tag"]["bias"] = jnp.arange(4.0)
  pyramid = tuple(jnp.zeros((1, 8 >> i, 8 >> i, 4)) for i in range(4))
  _, apply = compiled(network)
  outputs = apply({"params": params}, pyramid)
  np.testing.assert_array_equal(
    outputs.embedding[0, :4, :4, 0], np.tile([[0, 1], [2, 3]], (2, 2))
  )


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (dict(embedding="colour"), "'spatial' or 'tag', not 'colour'"),
    (dict(tag_channels=3), r"has 2 tag_channels \(x, y\), not 3"),
  ],
)
def test_wrong_fields_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    shapes_of(make_network(**fields))
