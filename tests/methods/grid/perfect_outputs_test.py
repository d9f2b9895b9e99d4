"""Tests of solo_jax/methods/grid/perfect_outputs.py, by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.grid.perfect_outputs import (
  find_owners,
  logit,
  perfect_cells,
)
from solo_jax.methods.grid.targets import Targets

# Instance 0 claims cells 4, 5; instance 1 claims 5, 6; instance 2 only 6.
TARGETS = Targets(
  category=jnp.zeros(9, jnp.int32),
  cell=jnp.array([4, 5, 6, 5, 6, 0]),
  instance=jnp.array([0, 1, 2, 0, 1, 0]),
  valid=jnp.array([True] * 5 + [False]),
  num_dropped=jnp.array(0),
)


def test_the_last_instance_owns_a_cell_and_centres_come_first():
  owner, first = jax.jit(find_owners, static_argnums=(1, 2))(TARGETS, 9, 4)
  assert owner.tolist() == [-1, -1, -1, -1, 0, 1, 2, -1, -1]
  assert first.tolist() == [4, 5, 6, 9]


def test_perfect_logits_are_high_for_the_label_of_the_cell():
  targets = jax.tree.map(lambda x: x[None], TARGETS)
  # Two levels, of 2 x 2 and of 1 x 1 and more: 4 + 4 + 1 cells.
  find = functools.partial(perfect_cells, num_grids=(2, 2, 1), num_classes=2)
  cells = jax.jit(find)(targets, np.array([[1, 0, 1]]))
  assert [x.shape for x in cells.owner] == [(1, 2, 2), (1, 2, 2), (1, 1, 1)]
  assert cells.owner[1][0].tolist() == [[0, 1], [2, -1]]
  is_sure = np.asarray(cells.category_logits[1][0]) > 0
  np.testing.assert_array_equal(
    is_sure.reshape(4, 2),
    [[False, True], [True, False], [False, True], [False, False]],
  )
  assert not np.any(np.asarray(cells.category_logits[0]) > 0)


def test_logits_are_bounded():
  found = jax.nn.sigmoid(logit(jnp.array([0.0, 0.25, 1.0])))
  np.testing.assert_allclose(found, [0.0, 0.25, 1.0], atol=1e-5)
  assert np.isfinite(logit(jnp.array([0.0, 1.0]))).all()
