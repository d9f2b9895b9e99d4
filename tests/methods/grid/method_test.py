"""Tests of solo_jax/methods/grid/method.py."""

import jax
import numpy as np
import pytest

from solo_jax.methods.grid.method import find_problems
from solo_jax.methods.interface import ABILITIES
from tests.inspection.conftest import sections
from tests.methods.scene import BOXES, make_setting

CONFIGS = pytest.mark.parametrize(
  "name", ["solov2_shapes", "solo_shapes", "decoupled_solo_shapes"]
)


@CONFIGS
def test_all_on_grids_have_the_same_abilities(name):
  method, _, _ = make_setting(name)
  has = {ability for ability in ABILITIES if getattr(method, ability)}
  lacks = set(ABILITIES) - has
  assert lacks == {"views", "decode_panoptic", "decode_semantic"}
  assert bool(method.mask_strides) == (name == "solov2_shapes")


@CONFIGS
def test_targets_are_drawn_on_their_objects(name):
  method, batch, _ = make_setting(name)
  colors = np.linspace(0.2, 1, 18, dtype=np.float32).reshape(6, 3)
  (picture,) = jax.jit(method.target_views)(batch, colors)["cells"]
  changed = np.abs(picture - batch.image[0] / 255).sum(-1) > 0.05
  for left, top, right, bottom in BOXES:
    assert changed[(top + bottom) // 2, (left + right) // 2]
  assert not changed[2:6, 2:6].any()


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    (dict(network__num_grids=(8,)), "network.num_grids has 1 entries"),
    (dict(loss__scale_ranges=()), "loss.scale_ranges has 0 entries"),
    (dict(network__num_groups=7), "network.head_channels is"),
  ],
)
def test_problems_of_grids(changed, message):
  assert find_problems(sections("solov2_shapes")) == []
  (line,) = find_problems(sections("solov2_shapes", **changed))
  assert message in line
