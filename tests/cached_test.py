"""Tests of solo_jax/cached.py; more in convert_test.py and weights_test.py."""

import dataclasses

from solo_jax import cached, published


def test_a_changed_row_is_another_name_in_the_cache(monkeypatch):
  row = published.find("solov2_r50_3x")
  names = {cached.key(row.name, row)}
  for change in (
    dict(source="https://x"),
    dict(published_as="x-01234567.pth"),
    dict(config="c"),
  ):
    names.add(cached.key(row.name, dataclasses.replace(row, **change)))
  monkeypatch.setattr(cached, "VERSION", -1)
  names |= {cached.key(row.name, row), cached.key("https://x/y", None)}
  assert len(names) == 6


def test_cached_folders_without_a_row_are_listed(monkeypatch, tmp_path):
  monkeypatch.setenv("SOLO_JAX_CACHE", str(tmp_path))
  row = published.find("solov2_r50_3x")
  assert cached.others() == []
  for name in (cached.key(row.name, row), "owner-net-0a1b2c3d", ".x@host@1"):
    (tmp_path / "checkpoints" / name).mkdir(parents=True)
  (tmp_path / "checkpoints" / ".x.lock").touch()
  assert [x.name for x in cached.others()] == ["owner-net-0a1b2c3d"]
