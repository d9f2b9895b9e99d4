"""Tests of solo_jax/inference/compilation_cache.py."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from solo_jax.inference.compilation_cache import use_compilation_cache


@pytest.fixture(autouse=True)
def restored():
  before = jax.config.jax_compilation_cache_dir
  yield
  jax.config.update("jax_compilation_cache_dir", before)


def test_default_is_in_the_users_cache(monkeypatch, tmp_path):
  jax.config.update("jax_compilation_cache_dir", None)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert use_compilation_cache() == tmp_path / "solo_jax" / "compiled"
  assert jax.config.jax_compilation_cache_dir == str(
    tmp_path / "solo_jax" / "compiled"
  )
  jax.config.update("jax_compilation_cache_dir", None)
  monkeypatch.delenv("XDG_CACHE_HOME")
  monkeypatch.setenv("HOME", str(tmp_path))
  assert use_compilation_cache() == (
    tmp_path / ".cache" / "solo_jax" / "compiled"
  )


def test_jax_own_setting_wins(tmp_path):
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  assert use_compilation_cache() == tmp_path
  assert jax.config.jax_compilation_cache_dir == str(tmp_path)


PROGRAM = """
import jax, logging
from solo_jax.inference.compilation_cache import use_compilation_cache
use_compilation_cache()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(
  lambda event, **_: hits.append(event) if event.endswith("cache_hits") else 0
)
print(jax.jit(lambda x: x * 3 + 1)(2.0), len(hits))
"""


def test_a_second_process_finds_the_program(tmp_path):
  def run():
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    result = subprocess.run(
      [sys.executable, "-c", PROGRAM],
      capture_output=True,
      text=True,
      check=True,
      env=environment,
    )
    value, hits = result.stdout.split()
    return float(value), int(hits)

  assert run() == (7.0, 0)
  assert [*pathlib.Path(tmp_path, "solo_jax", "compiled").iterdir()]
  value, hits = run()
  assert value == 7.0 and hits > 0
