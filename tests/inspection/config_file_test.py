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
  assert to_json(run(source)()) == to_json(config)
  lines = source.splitlines()
  # A list of many labels has a line for each.
  num_lines = sum(not line.strip(" ,").isdigit() for line in lines)
  assert num_lines < 70 and max(map(len, lines)) <= 80
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
  with pytest.raises(Exception, match="unknown config argument"):
    run(source)("stepz=7")


def test_a_reason_of_several_fields_is_written_out_once():
  config = load("solov2_shapes")
  values = config.to_dict()
  values["transforms"]["mask_stride"] = values["network"]["mask_stride"] = 4
  reason = "perfect masks have a recall of .7"
  keys = ("transforms.mask_stride", "network.mask_stride")
  source = format_config(values, config, dict.fromkeys(keys, reason), "Title.")
  assert source.count(reason) == 1
  assert "mask_stride=4,  # Was 2: as transforms.mask_stride\n" in source
  # A changed field is written though its value is the neutral one.
  assert run(source)().network.mask_stride == 4
  assert source.count("mask_stride=4,") == 2


def test_text_with_spaces_is_not_broken():
  config = load("solov2_shapes")
  values = config.to_dict()
  values["dataset"]["data_dir"] = "a folder with " + 5 * "rather long " + "name"
  again = run(format_config(values, config, {}, "Title."))()
  assert again.dataset.data_dir == values["dataset"]["data_dir"]


@pytest.mark.parametrize(
  "text",
  [
    'a"""\nraise SystemExit("run")\n"""',
    "short\nraise SystemExit('run')",
    "a\r\nraise SystemExit('run')\x1b[31m\\",
  ],
)
def test_names_in_comments_and_docstrings_are_not_run(text):
  """A name of a dataset or of a class may hold anything."""
  config = load("solov2_shapes")
  values = config.to_dict()
  values["network"]["num_grids"] = (24, 12)
  source = format_config(values, config, {"network.num_grids": text}, text)
  assert run(source)().network.num_grids == (24, 12)
  assert "\x1b" not in source
