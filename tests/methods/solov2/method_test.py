"""Tests of solo_jax/methods/solov2/method.py."""

import jax
import pytest

from solo_jax.building import build_method
from solo_jax.checkpoints.state import variable_shapes
from solo_jax.methods.solov2.method import problems
from tests.inspection.conftest import sections

REFINED = dict(network__refine="points", transforms__mask_stride=1)


def test_refined_masks_have_half_the_stride():
  config = sections("solov2_shapes", **REFINED)
  assert problems(config) == []
  method = build_method(config)
  assert not method.mask_strides  # no stride fits both network and targets
  plain = build_method(sections("solov2_shapes"))
  shapes, plain_shapes = (
    variable_shapes(x.network, image_size=(64, 64)) for x in (method, plain)
  )
  head = shapes["params"].pop("point_head")
  assert jax.tree.map(lambda x: x.shape, shapes) == jax.tree.map(
    lambda x: x.shape, plain_shapes
  )
  # 40 channels of P2, 24 of the mask feature, and the coarse mask.
  assert head["dense_0"]["kernel"].shape == (65, 40)


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    (dict(network__mask_channels=9), "network.mask_channels is 9"),
    (dict(network__kernel_channels=9), "network.kernel_channels is 9"),
    (dict(network__mask_stride=4), "they must be equal"),
    (dict(network__refine="points"), "the first must be 2 times the second"),
    (dict(network__levels=(2,)), "one per level"),
  ],
)
def test_problems_of_its_own_fields(changed, message):
  assert problems(sections("solov2_shapes")) == []
  assert any(
    message in line for line in problems(sections("solov2_shapes", **changed))
  )
