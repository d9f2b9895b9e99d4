"""Tests of solo_jax/methods/solo/method.py."""

import pytest

from solo_jax.methods.solo.method import problems
from tests.inspection.conftest import sections


@pytest.mark.parametrize(
  ("strides", "is_right"),
  [
    ((4, 8), True),  # masks of stride 2 and 4, of targets of stride 2
    ((2, 8), False),  # finer than the targets
    ((4, 12), False),  # an uneven multiple
  ],
)
def test_masks_of_levels_are_made_from_the_targets(strides, is_right):
  config = sections(
    "solo_shapes", network__strides=strides, transforms__mask_stride=2
  )
  found = problems(config)
  assert is_right == (not found)
  assert all("half of every stride must be" in line for line in found)
