"""Tests of solo_jax/methods/solov2/method.py."""

import pytest

from solo_jax.methods.solov2.method import problems
from tests.inspection.conftest import sections


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    (dict(network__mask_channels=9), "network.mask_channels is 9"),
    (dict(network__kernel_channels=9), "network.kernel_channels is 9"),
    (dict(network__mask_stride=4), "they must be equal"),
    (dict(network__levels=(2,)), "one per level"),
  ],
)
def test_problems_of_its_own_fields(changed, message):
  assert problems(sections("solov2_shapes")) == []
  assert any(
    message in line for line in problems(sections("solov2_shapes", **changed))
  )
