"""Tests of solo_jax/inspect_data.py, the command."""

import pathlib
from types import SimpleNamespace

from solo_jax import inspect_data


def test_flags_reach_the_doctor(monkeypatch):
  asked = []
  monkeypatch.setattr(
    inspect_data,
    "inspect",
    lambda *args, **kwargs: asked.append((args, kwargs)),
  )
  monkeypatch.setattr(inspect_data, "use_compilation_cache", lambda: None)
  for out in ("doctor", None):
    monkeypatch.setattr(
      inspect_data,
      "FLAGS",
      SimpleNamespace(
        config="a config", out=out, num_images=5, num_oracle_images=0
      ),
    )
    inspect_data.main()
  (first, options), (_, others) = asked
  assert first == ("a config",)
  assert options["out"] == pathlib.Path("doctor") and others["out"] is None
  assert options["num_images"] == 5 and options["num_oracle_images"] == 0
