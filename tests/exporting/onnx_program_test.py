"""Tests of solo_jax/exporting/onnx_program.py, run by ONNX Runtime.

tests/export_test.py converts a whole predictor.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.errors import UserError
from solo_jax.exporting.onnx_program import write_onnx
from solo_jax.grouping.matrix_nms import mask_intersections

jax2onnx = pytest.importorskip("jax2onnx", reason="ONNX is an extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX is an extra")

INPUTS = (jax.ShapeDtypeStruct((6, 40), jnp.float32),)


def program(weights, values):
  """What predictors are made of: a product, top k, a switch, a platform."""
  scores, order = jax.lax.top_k(values @ weights[0], 4)
  masks = values[order] > 0
  shared = jax.lax.switch(
    jnp.sum(scores > 1),
    [lambda: jnp.zeros((4, 4)), lambda: mask_intersections(masks)],
  )
  return scores, order, shared


def test_onnx_runtime_computes_the_same(tmp_path):
  rng = np.random.default_rng(0)
  weights = [rng.normal(size=40).astype(np.float32)]
  path = tmp_path / "program.onnx"
  names = ("scores", "order", "shared")
  write_onnx(program, weights, INPUTS, names, path)
  session = onnxruntime.InferenceSession(
    str(path), providers=["CPUExecutionProvider"]
  )
  assert [x.name for x in session.get_outputs()] == list(names)
  (name,) = (x.name for x in session.get_inputs())
  shares = []
  for scale in (0, 1):
    values = scale * rng.normal(size=(6, 40)).astype(np.float32)
    found = session.run(None, {name: values})
    expected = jax.jit(program)([jnp.asarray(weights[0])], values)
    for a, b in zip(found, expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5)
    shares.append(found[2].sum())
  assert shares[0] == 0 and shares[1] > 0  # both branches were taken


def test_only_operations_of_the_standard_are_used(tmp_path):
  onnx = pytest.importorskip("onnx")
  path = tmp_path / "program.onnx"
  weights = [np.ones(40, np.float32)]
  write_onnx(program, weights, INPUTS, ("a", "b", "c"), path)
  model = onnx.load(path)
  assert {x.domain for x in model.opset_import} == {""}
  assert not model.functions


def test_an_operation_that_onnx_lacks_is_named(tmp_path):
  def fails(weights, values):
    return (jax.pure_callback(np.sin, values, values),)

  with pytest.raises(UserError, match="--onnx: .*pure_callback"):
    write_onnx(fails, [np.ones(1)], INPUTS, ("a",), tmp_path / "x.onnx")
  assert not any(tmp_path.iterdir())
