"""Tests of solo_jax/training/loop.py; topology_test.py has whole runs."""

import pathlib
import runpy
import sys

import pytest

from solo_jax import parallel
from solo_jax.checkpoints import converted
from solo_jax.errors import UserError
from solo_jax.training import loop


class Records(list):
  class_names = ("nucleus",)
  category_ids = (1,)
  exif, fingerprint = "ignore", "f"
  is_thing = ()


def test_converted_weights_are_no_run_to_resume(toy, tmp_path, monkeypatch):
  """It would start from noise, and remove them with its checkpoints."""
  converted.save_converted(
    str(tmp_path),
    variables=toy.init_toy_variables(),
    config=toy.make_toy_config(),
    class_names=Records.class_names,
    category_ids=Records.category_ids,
    origin={},
  )
  method = toy.make_toy_method(parallel.AXIS_NAME)
  monkeypatch.setattr(loop, "build_method", lambda *_, axis_name: method)
  monkeypatch.setattr(loop, "open_data", lambda *_: Records())
  path = pathlib.Path(__file__).parents[2] / "configs" / "solov2_shapes.py"
  config = runpy.run_path(str(path))["get_config"]("")
  hook = sys.unraisablehook
  with pytest.raises(UserError, match=f"init_from={tmp_path} and another"):
    loop.train_and_evaluate(config, str(tmp_path))
  assert [x.name for x in (tmp_path / "checkpoints").iterdir()] == ["0"]
  assert sys.unraisablehook is hook  # the writer is closed
