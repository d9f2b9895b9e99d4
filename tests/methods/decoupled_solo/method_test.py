"""Tests of solo_jax/methods/decoupled_solo/method.py."""

from solo_jax.methods.decoupled_solo.method import problems
from solo_jax.methods.decoupled_solo.network import DecoupledSOLO
from tests.inspection.conftest import sections
from tests.methods.scene import make_setting


def test_decoupled_solo_has_its_own_network_and_solo_s_problems():
  method, _, _ = make_setting("decoupled_solo_shapes")
  assert type(method.network) is DecoupledSOLO
  assert problems(sections("decoupled_solo_shapes")) == []
  config = sections("decoupled_solo_shapes", transforms__mask_stride=16)
  (line,) = problems(config)
  assert "half of every stride must be" in line
