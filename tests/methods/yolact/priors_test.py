"""Tests of solo_jax/methods/yolact/priors.py."""

import numpy as np

from solo_jax.methods.yolact.priors import Priors, make_priors


def test_priors_of_two_sizes_and_ratios_by_hand():
  """Two sizes and two ratios, by size and then by ratio."""
  rule = Priors(sizes=((8.0, 16.0),), ratios=(1.0, 4.0), is_square=False)
  assert rule.per_position == 4
  found = make_priors(rule, [(1, 2)], (40, 60))
  assert found.shape == (8, 4) and found.dtype == np.float32
  sides = [(8, 8), (4, 16), (16, 16), (8, 32)]  # (width, height)
  expected = [
    [x - w / 2, 20 - h / 2, x + w / 2, 20 + h / 2]
    for x in (15, 45)
    for w, h in sides
  ]
  np.testing.assert_allclose(found, expected)


def test_square_ones_keep_the_width():
  rule = Priors(sizes=((8.0,),), ratios=(4.0,), is_square=True)
  found = make_priors(rule, [(1, 1)], (10, 10))
  np.testing.assert_allclose(found, [[3, 3, 7, 7]])


def test_published_number_at_550():
  sizes = tuple((float(s),) for s in (24, 48, 96, 192, 384))
  rule = Priors(sizes=sizes, ratios=(1.0, 2.0, 0.5), is_square=True)
  lengths = (69, 35, 18, 9, 5)
  found = make_priors(rule, [(s, s) for s in lengths], (550, 550))
  assert len(found) == 19_248
