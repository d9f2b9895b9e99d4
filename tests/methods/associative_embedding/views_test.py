"""Tests of solo_jax/methods/associative_embedding/views.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.associative_embedding.decode import DecodeSettings
from solo_jax.methods.associative_embedding.views import (
  DIM,
  HEAT,
  draw_views,
  group_colors,
  heat_colors,
  tag_colors,
)
from tests.methods.associative_embedding.conftest import SIZE, make_perfect

SETTINGS = DecodeSettings(
  mask_stride=2,
  foreground_threshold=0.5,
  radii=(1.0,),
  max_detections=6,
  grouping="seed",
  seed_threshold=0.5,
  min_pixels=3,
  min_unclaimed=0.5,
  competing=False,
  score_terms=(),
  score_threshold=0.05,
  mask_threshold=0.5,
  nms_kernel="gaussian",
  nms_sigma=2.0,
  update_threshold=0.05,
)


def test_views_of_right_outputs(batch):
  outputs = make_perfect(batch)
  sizes = jnp.full((1, 2), 2 * SIZE)
  views = jax.jit(lambda o: draw_views(o, sizes, SETTINGS))(outputs)
  assert set(views) == {"tags", "seeds", "groups"}
  squares = batch.masks.data[0, :3] > 0
  outside = ~squares.any(0)
  for name, view in views.items():
    view = np.asarray(view[0])
    assert view.min() >= 0 and view.max() <= 1
    colors = []
    for square in squares:  # one colour a square ...
      assert np.ptp(view[square], axis=0).max() < 1e-4, name
      colors.append(view[square][0])
    if name != "seeds":  # ... and another for each
      distances = np.abs(np.subtract(*np.meshgrid(*[np.sum(colors, 1)] * 2)))
      assert np.sort(distances.ravel())[3:].min() > 0.01, name
      np.testing.assert_allclose(view[outside], DIM, rtol=1e-6)
  np.testing.assert_allclose(
    views["seeds"][0][squares[0]], [HEAT[-1]] * 25, rtol=1e-4
  )
  assert np.abs(views["seeds"][0][outside] - HEAT[0]).max() < 1e-4


def test_tags_span_the_colours_along_their_principal_axes():
  """Tags on a line in 5 dimensions: red alone varies, over its whole range."""
  direction = np.float32([3, -1, 2, 0, 5])
  place = np.float32([0, 1, 2, 4, 100])
  colors = np.array(
    tag_colors(place[:, None] * direction + 7, np.array([1, 1, 1, 1, 0], bool))
  )
  red = colors[:4, 0] if colors[0, 0] < colors[3, 0] else colors[3::-1, 0]
  expected = 0.15 + 0.85 * np.array([0, 0.25, 0.5, 1])
  assert np.allclose(red, expected, atol=1e-4) or np.allclose(
    red, 0.15 + 0.85 * np.array([0, 0.5, 0.75, 1]), atol=1e-4
  )
  np.testing.assert_allclose(colors[4], DIM, rtol=1e-6)


def test_tags_of_one_dimension_and_no_foreground():
  one = tag_colors(np.float32([[0], [1]]), np.ones(2, bool))
  np.testing.assert_allclose(one[:, 1:], 0.15 + 0.85 * 0.5, rtol=1e-5)
  none = tag_colors(np.float32([[0], [1]]), np.zeros(2, bool))
  np.testing.assert_allclose(none, DIM, rtol=1e-6)


def test_heat_rises_and_group_colours_differ():
  colors = heat_colors(jnp.linspace(0, 1, 20))
  np.testing.assert_allclose(colors[0], HEAT[0], atol=1e-6)
  np.testing.assert_allclose(colors[-1], HEAT[-1], atol=1e-6)
  assert np.all(np.diff(np.sum(colors, axis=1)) > 0)
  groups = np.asarray(group_colors(40))
  assert len(np.unique(groups.round(3), axis=0)) == 41
