"""Tests of solo_jax/cache.py."""

import errno
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from solo_jax import cache
from solo_jax.cache import cache_folder, fill_once, offline_variable
from solo_jax.errors import UserError


def test_where_the_cache_is(monkeypatch, tmp_path):
  monkeypatch.delenv("SOLO_JAX_CACHE", raising=False)
  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  monkeypatch.setenv("HOME", str(tmp_path))
  assert cache_folder() == tmp_path / ".cache" / "solo_jax"
  monkeypatch.setenv("XDG_CACHE_HOME", "/a")
  assert cache_folder() == pathlib.Path("/a/solo_jax")
  monkeypatch.setenv("SOLO_JAX_CACHE", "~/b")
  assert cache_folder() == tmp_path / "b"


def test_offline_variables_are_recognised(monkeypatch):
  for name in cache.OFFLINE:
    monkeypatch.delenv(name, raising=False)
  assert offline_variable() is None
  monkeypatch.setenv("HF_HUB_OFFLINE", "0")
  assert offline_variable() is None
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  assert offline_variable() == "HF_HUB_OFFLINE"


def names(folder):
  """Names in a folder, without lock files."""
  return sorted(x.name for x in folder.iterdir() if x.suffix != ".lock")


def test_a_folder_is_made_once(tmp_path):
  made = []

  def make(part):
    assert names(tmp_path / "kind") == [part.name]
    (part / "file").write_text("x")
    made.append(part)

  folder = tmp_path / "kind" / "net"
  assert fill_once(folder, make) == fill_once(folder, make) == folder
  assert len(made) == 1 and (folder / "file").read_text() == "x"
  assert names(folder.parent) == ["net"]


@pytest.mark.parametrize("error", [UserError("no"), KeyError("bug")])
def test_a_failed_fill_leaves_nothing(tmp_path, error):
  def make(part):
    (part / "half").write_text("x")
    raise error

  with pytest.raises(type(error)):
    fill_once(tmp_path / "net", make)
  assert names(tmp_path) == []


def test_a_full_disk(tmp_path):
  def make(part):
    (part / "half").write_text("x")
    raise OSError(errno.ENOSPC, "No space left on device")

  with pytest.raises(UserError, match="No space left.*SOLO_JAX_CACHE"):
    fill_once(tmp_path / "net", make)
  assert names(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_read(tmp_path):
  folder = tmp_path / "net"
  fill_once(folder, lambda part: None)
  (tmp_path / ".net.lock").unlink()
  file = tmp_path / "file"
  file.write_text("")
  os.chmod(tmp_path, 0o500)
  try:
    assert fill_once(folder, lambda part: 1 / 0) == folder
  finally:
    os.chmod(tmp_path, 0o700)
  with pytest.raises(UserError, match="cache cannot be written.*SOLO_JAX"):
    fill_once(file / "net", lambda part: None)


def test_the_cache_works_without_symbolic_links(tmp_path, monkeypatch):
  def refuse(*_, **__):
    raise OSError("symbolic link privilege not held")

  monkeypatch.setattr(os, "symlink", refuse)
  fill_once(tmp_path / "net", lambda part: None)


def test_without_locks_the_first_to_finish_counts(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
  folder = tmp_path / "net"

  def make(part):
    folder.mkdir()
    (folder / "file").write_text("of another process")

  fill_once(folder, make)
  assert (folder / "file").read_text() == "of another process"
  assert names(tmp_path) == ["net"]


PROGRAM = """
import pathlib, sys, time
from solo_jax.cache import fill_once
def make(part):
  with open(part / "file", "w") as file:
    for i in range(20):
      file.write(str(i)); file.flush(); time.sleep(float(sys.argv[2]))
  print("made", flush=True)
fill_once(pathlib.Path(sys.argv[1]) / "net", make)
"""


def start(folder, seconds):
  return subprocess.Popen(
    [sys.executable, "-c", PROGRAM, str(folder), str(seconds)],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )


def test_several_processes_make_it_once(tmp_path):
  processes = [start(tmp_path, 0.01) for _ in range(4)]
  assert sorted(p.communicate()[0] for p in processes) == [""] * 3 + ["made\n"]
  assert names(tmp_path) == ["net"]
  whole = "".join(map(str, range(20)))
  assert (tmp_path / "net" / "file").read_text() == whole


def test_what_a_killed_process_left_is_removed(tmp_path):
  process = start(tmp_path, 10)
  part = tmp_path / f".net@{socket.gethostname()}@{process.pid}"
  while not (part / "file").exists():
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert names(tmp_path) == [part.name]
  elsewhere = tmp_path / ".net@another-machine@1"
  elsewhere.mkdir()
  fill_once(tmp_path / "net", lambda part: None)
  assert names(tmp_path) == [elsewhere.name, "net"]
