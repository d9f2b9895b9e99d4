"""Tests of solo_jax/losses/chunks.py."""

import jax
import numpy as np
import pytest

from solo_jax.losses.chunks import (
  CHUNK,
  get_chunk,
  num_chunks,
  pad_to_chunks,
  put_chunk,
)


@pytest.mark.parametrize(
  ("places", "expected"),
  [((), 0), ((0,), 1), ((CHUNK - 1,), 1), ((CHUNK,), 2), ((3, 2 * CHUNK), 3)],
)
def test_chunks_reach_the_last_valid_instance(places, expected):
  valid = np.zeros(3 * CHUNK, bool)
  valid[list(places)] = True
  assert num_chunks(valid) == expected
  assert num_chunks(valid[:0]) == 0


def test_chunks_put_together_are_the_padded_rows():
  tree = {
    "a": np.arange(2 * (CHUNK + 3)).reshape(2, -1),
    "b": np.ones((2, CHUNK + 3, 5), bool),
  }
  padded = pad_to_chunks(tree)
  assert padded["b"].shape == (2, 2 * CHUNK, 5)
  np.testing.assert_array_equal(padded["a"][:, : CHUNK + 3], tree["a"])
  assert not padded["a"][:, CHUNK + 3 :].any()
  image = jax.tree.map(lambda x: x[1], padded)
  copy = jax.tree.map(np.zeros_like, image)
  for i in range(2):
    copy = put_chunk(copy, get_chunk(image, i), i)
  jax.tree.map(np.testing.assert_array_equal, copy, image)
