"""Gives the tests a writer of PyTorch files."""

import pytest
from torch_writer import TorchWriter


@pytest.fixture
def torch_writer(monkeypatch):
  return TorchWriter(monkeypatch)
