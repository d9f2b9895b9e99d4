"""Gives the training tests the toy method of toy.py."""

import importlib.util
import pathlib
from typing import ClassVar

import pytest
from etils import epath
from etils.epath.backend import fsspec_backend
from fsspec.implementations.memory import MemoryFileSystem


@pytest.fixture(scope="session")
def toy():
  """The module toy.py: tests are no package to import it from."""
  path = pathlib.Path(__file__).with_name("toy.py")
  spec = importlib.util.spec_from_file_location("toy", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


class MemoryBucket(MemoryFileSystem):
  """Object storage in memory: no folders, no appending, no locks."""

  protocol = ("gcs", "gs")
  store: ClassVar = {}
  pseudo_dirs: ClassVar = [""]

  @classmethod
  def _strip_protocol(cls, path):
    return super()._strip_protocol(path.removeprefix("gs://"))

  def _open(self, path, mode="rb", **options):
    assert mode in ("rb", "wb"), mode
    return super()._open(path, mode, **options)


@pytest.fixture
def bucket(monkeypatch):
  """Lets etils.epath open 'gs://...' in memory."""
  MemoryBucket.store.clear()
  storage = MemoryBucket()
  monkeypatch.setattr(fsspec_backend, "fs", lambda path: storage)
  return epath.Path("gs://bucket")
