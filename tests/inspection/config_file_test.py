"""Tests of solo_jax/inspection/config_file.py."""

import pytest

from solo_jax.config import to_json
from solo_jax.inspection.config_file import format_config
from tests.config_test import ALL, load


def run(source):
  """Executes the source of a config file."""
  namespace = {}
  exec(compile(source, "suggested_config.py", "exec"), namespace)
  return namespace["get_config"]


@pytest.mark.parametrize(("name", "arg"), ALL)
def test_a_written_config_is_the_config(name, arg):
  config = load(name, arg)
  source = format_config(config.to_dict(), config, {}, "Title.")
  again = run(source)()
  assert to_json(again) == to_json(config)
  for section in config:
    if hasattr(config[section], "keys"):
      for field in config[section]:  # also those that are None now
        key = f"{section}.{field}"
        kind = config[section].get_type(field)
        assert again[section].get_type(field) is kind, key
  assert max(map(len, source.splitlines())) <= 80
  assert source.startswith('r"""Title.\n')


def test_changes_carry_their_reason_and_steps_are_an_argument():
  config = load("solov2_shapes")
  values = config.to_dict()
  values["network"]["num_grids"] = (24, 12)
  reason = "1.2 % of the objects lost their cell, which is more than there is"
  source = format_config(
    values, config, {"network.num_grids": reason}, "Title."
  )
  flat = " ".join(source.replace("# ", "").split())
  assert f"Was (16, 8): {reason} num_grids=(24, 12)," in flat
  assert run(source)().network.num_grids == (24, 12)
  assert run(source)("steps=7").training.num_steps == 7
  with pytest.raises(ValueError, match="unknown config argument"):
    run(source)("stepz=7")


def test_fields_stand_in_the_order_of_the_files():
  config = load("solov2_nuclei")
  source = format_config(config.to_dict(), config, {}, "Title.")
  order = [
    source.index(f"      {x}=") for x in ("short_sides", "max_side", "flip")
  ]
  assert order == sorted(order)
