"""Tests of solo_jax/methods/grid/decode.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.grid.decode import (
  DecodeSettings,
  Grids,
  _capacities,
  decode_candidates,
  merge_candidates,
)
from solo_jax.methods.variants import Variant

SETTINGS = dict(
  strides=(4, 8),
  score_threshold=0.1,
  mask_threshold=0.5,
  max_candidates=64,
  nms_candidates=64,
  nms_kernel="gaussian",
  nms_sigma=2.0,
  update_threshold=0.05,
  max_detections=4,
)


def probability_of(score):
  return np.log(score / (1 - score))


def make_logits():
  """Levels of 3 x 3 and 2 x 2 cells, 2 classes, three cells that stand out."""
  first = np.full((1, 3, 3, 2), -9.0, np.float32)
  second = np.full((1, 2, 2, 2), -9.0, np.float32)
  first[0, 0, 1, 1] = probability_of(0.9)  # cell 1
  first[0, 2, 2, 0] = probability_of(0.6)  # cell 8
  second[0, 1, 0, 1] = probability_of(0.8)  # cell 9 + 2
  return first, second


def stripe_masks(maps, cell, valid):
  """Cell c has probability 0.9 in row c % 4 of a 4 x 6 mask, cell 11 0.8."""
  del valid
  inside = jnp.where(cell == 11, 0.8, 0.9)[:, None, None]
  is_row = jnp.arange(4)[None, :, None] == (cell % 4)[:, None, None]
  return jnp.where(jnp.broadcast_to(is_row, (len(cell), 4, 6)), inside, maps[0])


@functools.lru_cache
def jitted(**settings):
  return jax.jit(
    lambda logits, maps: decode_candidates(
      Grids(category_logits=logits, maps=maps, mask_probs=stripe_masks),
      DecodeSettings(**settings),
    )
  )


def run(logits, **overrides):
  maps = (jnp.zeros(len(logits[0])),)
  return jitted(**{**SETTINGS, **overrides})(logits, maps)


def test_decoded_scores_and_masks_by_hand():
  result = run(make_logits())
  # Area 6 is above 4 but not above 8: the second level's mask goes.
  np.testing.assert_allclose(result.scores[0], [0.81, 0.54, 0, 0], 1e-5)
  np.testing.assert_array_equal(result.labels[0, :2], [1, 0])
  np.testing.assert_array_equal(result.valid[0], [True, True, False, False])
  np.testing.assert_allclose(result.masks.probs[0, 0, 1], 0.9)
  np.testing.assert_allclose(result.masks.probs[0, 1, 0], 0.9)
  assert result.masks.probs[0, :2].sum() == pytest.approx(2 * 6 * 0.9)


def test_levels_have_their_own_area():
  result = run(make_logits(), strides=(6, 5))
  np.testing.assert_allclose(result.scores[0, :2], [0.8 * 0.8, 0], 1e-5)


def test_repeated_mask_decays_within_its_class_only():
  first, second = make_logits()
  second[...] = -9.0
  second[0, 0, 0, 0] = probability_of(0.7)  # cell 9: the mask of cell 1
  result = run((first, second), strides=(4, 4))
  np.testing.assert_allclose(result.scores[0, :3], [0.81, 0.63, 0.54], 1e-5)
  second[0, 0, 0] = second[0, 0, 0, ::-1]  # now of the same class
  result = run((first, second), strides=(4, 4))
  np.testing.assert_allclose(
    result.scores[0, :3], [0.81, 0.54, 0.63 * np.exp(-2)], 1e-5
  )


def test_dropped_candidates_are_counted():
  result = run(make_logits(), max_candidates=2)
  assert result.num_dropped[0] == 1
  assert run(make_logits()).num_dropped[0] == 0


def test_ladder_of_candidate_capacities():
  assert _capacities(50) == (50,)
  assert _capacities(64) == (64,)
  assert _capacities(500) == (128, 384, 500)


def column_masks(maps, cell, valid):
  """Cell c has probability 0.9 in column c % 6 of a 4 x 6 mask."""
  del maps, valid
  is_column = jnp.arange(6)[None, None] == (cell % 6)[:, None, None]
  return 0.9 * jnp.broadcast_to(is_column, (len(cell), 4, 6))


def merge(*variants, **overrides):
  """Merges (logits of 3 x 3 cells, is_mirrored), images of 16 x 24 pixels."""
  return merge_candidates(
    [
      Variant(
        outputs=(logits,),
        image_size=jnp.array([[16, 20]]),
        padded_size=(16, 24),
        is_mirrored=is_mirrored,
      )
      for logits, is_mirrored in variants
    ],
    lambda outputs: Grids(
      category_logits=outputs,
      maps=(jnp.zeros(1),),
      mask_probs=column_masks,
    ),
    DecodeSettings(**{**SETTINGS, "strides": (3,), **overrides}),
  )


def logits_of(cells):
  """Logits of 3 x 3 cells and one class; cell -> probability."""
  logits = np.full((1, 9, 1), -9.0, np.float32)
  for cell, score in cells.items():
    logits[0, cell] = probability_of(score)
  return jnp.asarray(logits.reshape(1, 3, 3, 1))


def test_candidates_of_a_mirror_image_are_added_in_place():
  """It sees in column 1 what is in column 3 of the 5 that hold the image."""
  merged = merge((logits_of({4: 0.8}), False), (logits_of({1: 0.6}), True))
  np.testing.assert_allclose(merged.scores[0], [0.72, 0.54, 0, 0], 1e-5)
  for mask, column in zip(merged.masks.probs[0], (4, 3), strict=False):
    expected = np.zeros((4, 6))
    expected[:, column] = 0.9
    np.testing.assert_allclose(mask, expected, atol=1e-5)


def test_what_two_variants_find_is_found_once():
  """Cells 4 of 5 columns and 0 of their mirror image are the same place."""
  merged = merge((logits_of({4: 0.7}), False), (logits_of({0: 0.8}), True))
  expected = [0.8 * 0.9, 0.7 * 0.9 * np.exp(-2)]
  np.testing.assert_allclose(merged.scores[0, :2], expected, 1e-4)
  merged = merge(
    (logits_of({4: 0.7}), False),
    (logits_of({0: 0.8}), True),
    update_threshold=0.1,
    nms_candidates=1,  # the places in NMS are shared
  )
  np.testing.assert_allclose(merged.scores[0, :2], [0.72, 0], 1e-4)


def test_dropped_candidates_of_all_variants_are_counted():
  cells = {0: 0.9, 2: 0.8, 6: 0.7}
  merged = merge(
    (logits_of(cells), False), (logits_of(cells), True), max_candidates=2
  )
  assert merged.num_dropped[0] == 2
