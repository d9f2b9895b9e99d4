"""Tests of solo_jax/exporting/writer.py: ONNX, tiles, queries."""

import json
import runpy

import pytest

from solo_jax.building import build_method, build_predictor
from solo_jax.checkpoints.state import init_variables
from solo_jax.checkpoints.store import Checkpoint
from solo_jax.exporting.writer import export_checkpoint
from tests.exporting.small_exports import (
  CONFIGS,
  MEAN,
  SIDE,
  assert_same,
  assert_same_everywhere,
  load_module,
  make_checkpoint,
  native,
  smooth,
)


@pytest.mark.parametrize(
  "method",
  [
    "solov2",
    pytest.param("associative_embedding", marks=pytest.mark.slow),
    # Their decoder is SOLOv2's.
    pytest.param("solo", marks=pytest.mark.slow),
    pytest.param("decoupled_solo", marks=pytest.mark.slow),
    pytest.param("yolact", marks=pytest.mark.slow),
    pytest.param("mask_rcnn", marks=pytest.mark.slow),
  ],
)
def test_onnx_runtime_equals_the_native_predictor(tmp_path, method):
  onnx = pytest.importorskip("onnx", reason="ONNX is an extra")
  pytest.importorskip("jax2onnx", reason="ONNX is an extra")
  folder = tmp_path / method
  export_checkpoint(
    make_checkpoint(method), folder, image_size=(90, 85), onnx=True
  )
  model = onnx.load(folder / "program_64x64.onnx")
  assert {(x.domain, x.version) for x in model.opset_import} == {("", 23)}
  assert not model.functions  # nor operations of any other domain
  module = load_module(folder / "predictor.py")
  exported = module.Predictor(folder, runtime="onnx")
  assert_same_everywhere(exported, native(method))


QUERIES = dict(
  mask2former=dict(
    num_queries=6,
    channels=32,
    mask_channels=8,
    encoder_hidden=16,
    num_decoder_layers=1,
    decoder_hidden=16,
  ),
  queryinst=dict(
    num_proposals=9,
    channels=16,
    num_stages=2,
    num_heads=2,
    hidden=16,
    dynamic_channels=4,
    num_mask_convs=1,
  ),
)


def make_queries(method):
  """A checkpoint of a small method of queries, which must differ."""
  path = CONFIGS / f"{method}_shapes.py"
  config = runpy.run_path(str(path))["get_config"]()
  config.preprocessing.update(short_side=SIDE, max_side=SIDE)
  config.backbone.update(stage_sizes=(1, 1, 1, 1), widths=(8, 8, 8, 8))
  config.network.update(**QUERIES[method])
  config.decode.max_detections = 8
  network = build_method(config).network
  return Checkpoint(
    config=config.lock(),
    class_names=tuple("abcde"),
    category_ids=(3, 4, 5, 6, 7),
    variables=init_variables(network, image_size=(SIDE, SIDE), seed=0),
    step=7,
  )


@pytest.mark.parametrize(
  ("method", "runtime"),
  [
    ("mask2former", "jax"),
    pytest.param("mask2former", "onnx", marks=pytest.mark.slow),
    pytest.param("queryinst", "onnx", marks=pytest.mark.slow),
  ],
)
def test_queries_where_images_fill_the_input(tmp_path, method, runtime):
  """Mask2Former takes padding for image, and an export pads to one size."""
  if runtime == "onnx":
    pytest.importorskip("onnx", reason="ONNX is an extra")
  checkpoint = make_queries(method)
  export_checkpoint(
    checkpoint, tmp_path / "out", image_size=(90, 90), onnx=runtime == "onnx"
  )
  predictor = build_predictor(
    checkpoint.config, checkpoint.variables, batch_size=1
  )
  module = load_module(tmp_path / "out" / "predictor.py")
  exported = module.Predictor(tmp_path / "out", runtime=runtime)
  for side, seed in ((SIDE, 0), (31, 1), (90, 2)):
    image = smooth((side, side), seed=seed)
    expected = predictor(image)
    assert len(expected) > 2
    assert_same(exported(image), expected, image.shape[:2])


def test_tiles_and_batches(tmp_path):
  """Tiles of several images, two at a time, the last one alone."""
  checkpoint = make_checkpoint("solov2", tile_size=SIDE, tile_overlap=16)
  export_checkpoint(checkpoint, tmp_path / "tiles", batch_size=2)
  predictor = build_predictor(
    checkpoint.config, checkpoint.variables, batch_size=2
  )
  manifest = json.loads((tmp_path / "tiles" / "manifest.json").read_text())
  assert manifest["programs"][0]["canvas_size"] == [SIDE, SIDE]
  module = load_module(tmp_path / "tiles" / "predictor.py")
  exported = module.Predictor(tmp_path / "tiles")
  images = [smooth((100, 150)), smooth((40, 50), seed=1), MEAN]
  found = exported.predict(images)
  expected = predictor.predict(images)
  assert len(expected[0]) > 3 and len(expected[2]) == 0
  for image, a, b in zip(images, found, expected, strict=True):
    assert_same(a, b, image.shape[:2])
