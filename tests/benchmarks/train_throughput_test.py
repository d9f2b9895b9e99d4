"""Tests of benchmarks/train_throughput.py: what its figures are made of."""

import importlib
import pathlib
import sys
import types

import jax
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
  # Imported as other benchmarks do: its flags can be defined only once.
  sys.path.insert(0, str(FOLDER))
  try:
    return vars(importlib.import_module("train_throughput"))
  finally:
    sys.path.remove(str(FOLDER))


def test_operations_of_a_convolution_and_its_gradient(benchmark):
  x = jax.ShapeDtypeStruct((2, 16, 24, 8), np.float32)
  kernel = jax.ShapeDtypeStruct((1, 1, 8, 5), np.float32)

  def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  def loss(x, kernel):
    return convolve(x, kernel).sum()

  count = benchmark["count_flops"]
  forward = 2 * (2 * 16 * 24) * 8 * 5
  assert count(jax.jit(convolve).lower(x, kernel)) == forward
  # Nothing else in the gradient multiplies; the sum adds one per output.
  both = jax.value_and_grad(loss, argnums=(0, 1))
  total = count(jax.jit(both).lower(x, kernel))
  assert total == pytest.approx(3 * forward, rel=0.1)


def test_utilization_of_known_devices(benchmark, monkeypatch):
  def use(kind):
    device = types.SimpleNamespace(device_kind=kind)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])

  use("TPU v5 lite")  # 197e12 per second, not the 459e12 of "TPU v5"
  assert benchmark["utilization"](19.7e12, 1.0) == pytest.approx(0.1)
  use("NVIDIA H200")
  assert benchmark["utilization"](98.9e12, 0.5) == pytest.approx(0.2)
  use("cpu")
  assert benchmark["utilization"](1e12, 1.0) is None


def test_peak_names_go_from_special_to_general(benchmark):
  names = list(benchmark["PEAK_TFLOPS"])
  for i, name in enumerate(names):
    assert not any(name.startswith(before) for before in names[:i])
