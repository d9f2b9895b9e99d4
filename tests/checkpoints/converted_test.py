"""Tests of solo_jax/checkpoints/converted.py."""

import jax
import numpy as np
import pytest

from solo_jax.checkpoints.converted import save_converted
from solo_jax.checkpoints.store import load
from solo_jax.errors import UserError


def save(toy, folder):
  variables = {
    "params": {"backbone": {"kernel": np.arange(3, dtype=np.float32)}},
    "batch_stats": {"backbone": {"mean": np.ones(2, np.float32)}},
  }
  save_converted(
    str(folder),
    variables=variables,
    config=toy.make_toy_config(),
    class_names=("disc", "star"),
    category_ids=(3, 90),
    origin={"family": "mmdet"},
  )
  return variables


def test_converted_weights_load_like_a_run(toy, tmp_path):
  variables = save(toy, tmp_path / "new" / "x")
  found = load(str(tmp_path / "new" / "x"))
  assert (found.class_names, found.category_ids) == (("disc", "star"), (3, 90))
  assert found.step == 0 and found.config == toy.make_toy_config()
  assert found.exif is None
  jax.tree.map(np.testing.assert_array_equal, found.variables, variables)
  with pytest.raises(UserError, match="not an empty folder"):
    save(toy, tmp_path / "new")


def test_folder_with_brackets_is_refused_before_anything_is_written(
  toy, tmp_path
):
  with pytest.raises(UserError, match="its path has .* in 'run.2.'; choose"):
    save(toy, tmp_path / "run[2]" / "x")
  assert not list(tmp_path.iterdir())
  save(toy, tmp_path / "a]b*c?,ü (2)")
  assert load(str(tmp_path / "a]b*c?,ü (2)")).step == 0
