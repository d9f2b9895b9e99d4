"""Tests of solo_jax/methods/associative_embedding/average.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.associative_embedding.average import average_outputs
from solo_jax.methods.associative_embedding.network import Outputs
from solo_jax.methods.variants import Variant

UNIT = 8.0


def make_outputs(height, width, seed=0):
  rng = np.random.default_rng(seed)
  shape = 2, height, width

  def normal(*more):
    return jnp.asarray(rng.normal(size=(*shape, *more)), jnp.float32)

  return Outputs(normal(3), normal(2), normal(), normal(), normal())


def make_variant(outputs, image_size, is_mirrored=False):
  height, width = outputs.seed_logits.shape[1:]
  return Variant(
    outputs=outputs,
    image_size=jnp.tile(jnp.array(image_size), (2, 1)),
    padded_size=(4 * height, 4 * width),
    is_mirrored=is_mirrored,
  )


@jax.jit
def average(*variants):
  return average_outputs(variants, coordinate_unit=UNIT)


def assert_close(found, expected, inside=np.s_[:]):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x[:, *inside], y[:, *inside], atol=1e-4
    ),
    found,
    expected,
  )


def test_one_variant_is_left_as_it_is():
  outputs = make_outputs(4, 6)
  assert_close(average(make_variant(outputs, (16, 24))), outputs, np.s_[:, :])


def test_a_mirror_image_gives_the_same():
  """A valid width of 20 of 24 pixels: columns 0 to 4, votes about x = 10."""
  outputs = make_outputs(4, 6)
  mirrored = jax.tree.map(
    lambda x: jnp.concatenate([x[:, :, 4::-1], x[:, :, 5:]], axis=2), outputs
  )
  place = mirrored.embedding
  place = jnp.stack([20 / UNIT - place[..., 0], place[..., 1]], axis=-1)
  mirrored = Outputs(
    mirrored.category_logits,
    place,
    mirrored.log_precision,
    mirrored.seed_logits,
    mirrored.quality_logits,
  )
  found = average(
    make_variant(outputs, (16, 20)), make_variant(mirrored, (16, 20), True)
  )
  assert_close(found, outputs, np.s_[:, :5])


def test_places_and_radii_are_in_the_frame_of_the_first():
  """Twice as large, places and radii are twice as large: here those of 1."""

  def constant(size, x, y, log_precision):
    full = jnp.ones((2, *size))
    return Outputs(
      full[..., None] * jnp.array([0.5, -1.0]),
      full[..., None] * jnp.array([x, y]),
      full * log_precision,
      full * 0.3,
      full * -0.7,
    )

  once = constant((4, 6), 1.5, 0.75, -2 * np.log(0.2))
  twice = constant((8, 12), 3.0, 1.5, -2 * np.log(0.4))
  found = average(make_variant(once, (16, 24)), make_variant(twice, (32, 48)))
  assert_close(found, once, np.s_[:, :])


def test_probabilities_are_averaged_not_logits():
  outputs = make_outputs(4, 6)

  def with_seed(probability):
    logits = jnp.full((2, 4, 6), np.log(probability / (1 - probability)))
    return make_variant(
      Outputs(
        outputs.category_logits,
        outputs.embedding,
        outputs.log_precision,
        logits,
        logits,
      ),
      (16, 24),
    )

  found = average(with_seed(0.1), with_seed(0.9999))
  for logits in (found.seed_logits, found.quality_logits):
    np.testing.assert_allclose(
      jax.nn.sigmoid(logits), (0.1 + 0.9999) / 2, rtol=1e-4
    )


def test_sure_pixels_stay_finite():
  outputs = jax.tree.map(lambda x: 200 * x, make_outputs(4, 6))
  found = average(
    make_variant(outputs, (16, 24)), make_variant(outputs, (16, 24))
  )
  assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(found))
  np.testing.assert_array_equal(found.seed_logits > 0, outputs.seed_logits > 0)
