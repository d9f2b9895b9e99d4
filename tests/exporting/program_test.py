"""Tests of solo_jax/exporting/program.py: equal to the host's predictor."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.exporting.onnx_program import write_onnx
from solo_jax.exporting.program import RESULTS, flatten_results, make_program
from solo_jax.inference.predictor import Model, Predictor
from solo_jax.methods.interface import Method


class ColorNetwork(nn.Module):
  """Three 'instances' per image: its red, green and blue pixels."""

  @nn.compact
  def __call__(self, image, image_size, *, train):
    gain = self.param("gain", nn.initializers.ones, ())
    return gain * nn.avg_pool(image / 255.0, (2, 2), (2, 2))


def decode_colors(outputs, image_size):
  mask_probs = jnp.moveaxis(outputs, 3, 1)
  scores = jnp.max(mask_probs, (2, 3))
  scores, order = jax.lax.top_k(scores, 3)
  return types.Decoded(
    masks=types.FrameMasks(
      probs=jnp.take_along_axis(mask_probs, order[..., None, None], 1)
    ),
    scores=jnp.where(scores > 0.4, scores, 0.0),
    labels=order,
    valid=scores > 0.4,
    num_dropped=jnp.sum(scores <= 0.4, 1),
  )


@pytest.mark.parametrize(
  ("interpolation", "sizes", "keep_aspect"),
  [
    ("bilinear", [(32, 48), (20, 24), (61, 90), (9, 70)], True),
    ("bilinear", [(32, 48), (61, 90), (64, 9)], False),
    ("area", [(64, 96), (61, 30)], True),
  ],
)
def test_equals_the_predictor(interpolation, sizes, keep_aspect):
  rule = dict(
    short_side=32,
    max_side=48 if keep_aspect else 32,
    keep_aspect=keep_aspect,
    size_rounding="nearest",
    pad_multiple=48,
    interpolation=interpolation,
    tile_size=None,
    tile_overlap=0,
  )
  method = Method(network=ColorNetwork(), loss=None, decode=decode_colors)
  variables = {"params": {"gain": np.float32(1)}}
  model = Model(
    method=method,
    variables=variables,
    preprocessing=rule,
    mask_threshold=0.4871,
  )
  native = Predictor(model, batch_size=2)
  weights, treedef = jax.tree.flatten(variables)
  program = jax.jit(
    make_program(
      method,
      treedef,
      preprocessing=rule,
      mask_threshold=0.4871,
      input_size=(48, 48),
    )
  )
  rng = np.random.default_rng(0)
  images = [
    rng.integers(0, 256, (*size, 3), np.uint8) // [1, 2, 4] for size in sizes
  ]
  images = [image.astype(np.uint8) for image in images]
  for start in range(0, len(images), 2):
    pair = images[start : start + 2]
    canvas = rng.integers(0, 256, (2, 64, 96, 3), np.uint8)
    for row, image in enumerate(pair):
      canvas[row, : image.shape[0], : image.shape[1]] = image
    original_size = np.array([x.shape[:2] for x in pair], np.int32)
    found = program(weights, canvas, original_size)
    for row, expected in enumerate(native.predict(pair)):
      valid = np.asarray(found["valid"][row])
      height, width = pair[row].shape[:2]
      masks = np.unpackbits(np.asarray(found["masks"][row]), axis=2)
      assert len(expected) == valid.sum() > 0
      np.testing.assert_array_equal(
        masks[valid, :height, :width], expected.masks
      )
      assert not masks[:, height:].any() and not masks[:, :, width:].any()
      np.testing.assert_array_equal(
        found["boxes_xyxy"][row][valid], expected.boxes_xyxy
      )
      np.testing.assert_array_equal(
        found["scores"][row][valid], expected.scores
      )
      np.testing.assert_array_equal(
        found["labels"][row][valid], expected.labels
      )
      assert found["num_dropped"][row] == 3 - len(expected)


SIZES = [(64, 96), (50, 60), (61, 33)]


def flat_box_program(model, canvas_size):
  weights, treedef = jax.tree.flatten(model.variables)
  program = make_program(
    model.method,
    treedef,
    preprocessing=model.preprocessing,
    mask_threshold=model.mask_threshold,
    input_size=(96, 96),
  )
  inputs = (
    jax.ShapeDtypeStruct((1, *canvas_size, 3), np.uint8),
    jax.ShapeDtypeStruct((1, 2), np.int32),
  )
  return *flatten_results(program, weights, inputs), weights, inputs


def assert_boxes_and_masks(run, model, box_method):
  """A program's named results against the host's, of several images."""
  native = Predictor(model)
  for seed, size in enumerate(SIZES):
    image = box_method.make_scene(*size, seed=seed).image
    canvas = np.zeros((1, 64, 96, 3), np.uint8)
    canvas[0, : size[0], : size[1]] = image
    found = run(canvas, np.array([size], np.int32))
    expected = native(image)
    assert found["valid"].sum() == len(expected) == 3
    np.testing.assert_allclose(
      found["predicted_boxes_xyxy"][0], expected.boxes_xyxy, rtol=1e-5
    )
    masks = np.unpackbits(np.asarray(found["masks"][0]), axis=2).astype(bool)
    inside = masks[:, : size[0], : size[1]]
    # A pixel may be within rounding of the threshold.
    assert (inside != expected.masks).sum() <= 2
    assert masks.sum() == inside.sum()
    tight = np.asarray(found["boxes_xyxy"][0])
    assert np.abs(tight - expected.tight_boxes_xyxy).max() <= 1
    np.testing.assert_array_equal(found["labels"][0], [0, 1, 2])


@pytest.mark.parametrize("paste", ["aligned", "torchvision"])
def test_box_masks_and_predicted_boxes_leave_the_program(box_method, paste):
  model = box_method.make_model(paste, pad_multiple=96)
  program, names, weights, _ = flat_box_program(model, (64, 96))
  assert names == (*RESULTS, "predicted_boxes_xyxy")
  compiled = jax.jit(program)
  assert_boxes_and_masks(
    lambda *x: dict(zip(names, compiled(weights, *x), strict=True)),
    model,
    box_method,
  )


@pytest.mark.parametrize("paste", ["aligned", "torchvision"])
def test_box_masks_leave_onnx(box_method, paste, tmp_path):
  pytest.importorskip("jax2onnx", reason="ONNX is an extra")
  onnxruntime = pytest.importorskip("onnxruntime")
  model = box_method.make_model(paste, pad_multiple=96)
  program, names, weights, inputs = flat_box_program(model, (64, 96))
  write_onnx(program, weights, inputs, names, tmp_path / "program.onnx")
  session = onnxruntime.InferenceSession(str(tmp_path / "program.onnx"))
  takes = [x.name for x in session.get_inputs()]
  assert [x.name for x in session.get_outputs()] == list(names)
  assert_boxes_and_masks(
    lambda *x: dict(
      zip(
        names, session.run(None, dict(zip(takes, x, strict=True))), strict=True
      )
    ),
    model,
    box_method,
  )
