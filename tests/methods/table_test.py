"""Tests of solo_jax/methods/table.py."""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
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


class Reached(Exception):
  """The backbone got a row; what is behind it is not traced."""


class RowBackbone(nn.Module):
  def __call__(self, x, *, train, row=None):
    raise Reached(row)


@pytest.mark.parametrize("name", METHODS)
def test_the_row_reaches_the_backbone(name):
  """Backbones draw by the row, so every method must pass it on."""
  method = build_method(load(f"{name}_shapes"))
  network = method.network.clone(backbone=RowBackbone())

  def run(image, size, row):
    with pytest.raises(Reached) as found:
      network.init(jax.random.key(0), image, size, train=False, row=row)
    assert found.value.args[0] is row

  jax.eval_shape(
    run,
    jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.uint8),
    jax.ShapeDtypeStruct((2, 2), jnp.int32),
    jax.ShapeDtypeStruct((2,), jnp.int32),
  )
