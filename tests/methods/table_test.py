"""Tests of solo_jax/methods/table.py."""

import pathlib

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
