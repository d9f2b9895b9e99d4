"""Tests of solo_jax/methods/table.py."""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.building import build_method
from solo_jax.errors import UserError
from solo_jax.methods.table import METHODS, find
from tests.config_test import load


def test_unknown_method_lists_the_known_ones():
  with pytest.raises(UserError, match=r"unknown method 'yolo'.*solov2"):
    find("yolo")


def test_every_folder_with_a_method_has_a_row():
  root = pathlib.Path(__file__).parents[2] / "solo_jax" / "methods"
  folders = {path.parent.name for path in root.glob("*/method.py")}
  assert set(METHODS) == folders - {"grid"}


def test_a_method_knows_its_name():
  config = load("solo_shapes")
  assert build_method(config).name == "solo"
  # Plain sections do as well.
  assert build_method(config.to_dict()).network == build_method(config).network


class RowBackbone(nn.Module):
  """Average pools of the image plus the row."""

  @nn.compact
  def __call__(self, x, *, train, row=None):
    if row is not None:
      x = x + row[:, None, None, None]
    return tuple(nn.avg_pool(x, (s, s), (s, s)) for s in (4, 8, 16, 32))


@pytest.mark.parametrize("name", METHODS)
def test_the_row_reaches_the_backbone(name):
  method = build_method(load(f"{name}_shapes"))
  network = method.network.clone(backbone=RowBackbone())
  image = jnp.zeros((2, 64, 64, 3), jnp.uint8)
  size = jnp.full((2, 2), 64)

  @jax.jit
  def run(row):
    variables = network.init(jax.random.key(0), image, size, train=False)
    return network.apply(variables, image, size, train=False, row=row)

  leaves = jax.tree.leaves(run(jnp.array([0, 3])))
  outputs = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
  assert any(np.any(x[0] != x[1]) for x in outputs)
