"""Tests of solo_jax/exporting/writer.py on small networks of every method."""

import functools
import importlib.util
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest

from solo_jax.building import build_method, build_predictor
from solo_jax.checkpoints.state import init_variables, variable_shapes
from solo_jax.checkpoints.store import Checkpoint
from solo_jax.errors import UserError
from solo_jax.exporting.writer import (
  default_input_sizes,
  export_checkpoint,
)

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
METHODS = (
  "solov2",
  "solo",
  "decoupled_solo",
  "associative_embedding",
  "mask_rcnn",
  "yolact",
)
SIDE = 64
# With the weights of `make_variables`: nothing in MEAN, a few objects in most
# images, more candidates than there is room for in NOISE.
THRESHOLDS = dict(
  solov2=dict(score_threshold=0.8, max_candidates=8),
  solo=dict(score_threshold=0.79, max_candidates=6),
  decoupled_solo=dict(score_threshold=0.79, max_candidates=6),
  associative_embedding=dict(
    seed_threshold=0.8,
    score_threshold=0.0,
    min_unclaimed=0.0,
    min_pixels=1,
    max_detections=3,
  ),
  mask_rcnn=dict(score_threshold=0.2),
  yolact=dict(score_threshold=0.2),
)
# Sizes of the network, and what else makes it small.
SMALL = dict(num_head_convs=1, head_channels=8, fpn_channels=8)
NETWORKS = dict(
  solov2=SMALL | dict(mask_channels=8, kernel_channels=8),
  solo=SMALL,
  decoupled_solo=SMALL,
  associative_embedding={},
  mask_rcnn=dict(
    fpn_channels=8,
    dense_channels=8,
    mask_convs=1,
    proposals_before_nms=(20, 20),
    proposals_after_nms=(10, 10),
  ),
  yolact=dict(fpn_channels=8, num_protos=4),
)
MEAN = np.full((SIDE, SIDE, 3), (124, 116, 104), np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def make_checkpoint(method, **preprocessing):
  """A checkpoint of a method's demo config, small, with random weights."""
  name = f"{method}_shapes"
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config()
  config.preprocessing.update(short_side=SIDE, max_side=SIDE, **preprocessing)
  config.backbone.update(stage_sizes=(1, 1, 1, 1), widths=(8, 8, 8, 8))
  config.network.update(**NETWORKS[method])
  if "update_threshold" in config.decode:
    config.decode.update_threshold = 1e-9
  config.decode.update(**dict(max_detections=10) | THRESHOLDS[method])
  num_classes = config.dataset.num_classes
  return Checkpoint(
    config=config.lock(),
    class_names=tuple("abcde"[:num_classes]),
    category_ids=tuple(range(3, 3 + num_classes)),
    variables=make_variables(config),
    step=7,
  )


def make_variables(config):
  """Kernels that keep the variance, everything else as before training."""
  rng = np.random.default_rng(0)

  def make(path, shape):
    name = path[-1].key
    if name != "kernel":
      return np.full(shape.shape, name in ("scale", "var"), np.float32)
    scale = np.sqrt(np.prod(shape.shape[:-1]))
    return (rng.normal(size=shape.shape) / scale).astype(np.float32)

  shapes = variable_shapes(
    build_method(config).network, image_size=(SIDE, SIDE)
  )
  return jax.tree_util.tree_map_with_path(make, shapes)


def load_module(path):
  """Imports the predictor.py of an export, as a program next to it would."""
  spec = importlib.util.spec_from_file_location(f"{path.parent.name}_", path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


@functools.cache
def native(method):
  checkpoint = make_checkpoint(method)
  return build_predictor(checkpoint.config, checkpoint.variables, batch_size=1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """Makes the export of a method, once; the first for every platform."""

  @functools.cache
  def make(method):
    out = tmp_path_factory.mktemp("export") / method
    export_checkpoint(
      make_checkpoint(method),
      out,
      image_size=(90, 85),
      platforms=("cpu", "cuda", "tpu") if method == "solov2" else ("cpu",),
    )
    return out

  return make


def assert_same(found, expected, size):
  """Detections of the loader against Instances."""
  assert len(found) == len(expected)
  np.testing.assert_allclose(
    [x.score for x in found], expected.scores, rtol=1e-5
  )
  assert [x.label for x in found] == expected.labels.tolist()
  for detection, mask, box in zip(
    found, expected.masks, expected.tight_boxes_xyxy, strict=True
  ):
    # A pixel may be within rounding of the threshold.
    assert (detection.full_mask(size) != mask).mean() < 1e-3
    np.testing.assert_allclose(detection.box_xyxy, box, atol=1)
    assert detection.class_name == "abcde"[detection.label]
    assert detection.category_id == detection.label + 3


def smooth(size, seed=0):
  """Soft colours. [*size, 3] uint8."""
  rng = np.random.default_rng(seed)
  return cv2.resize(
    rng.integers(0, 256, (8, 8, 3), np.uint8),
    size[::-1],
    interpolation=cv2.INTER_CUBIC,
  )


def assert_same_everywhere(exported, predictor):
  """Ordinary images of several sizes, an empty one and a crowded one."""
  before = predictor.num_dropped
  counts = {}
  for name, image in dict(
    ordinary=smooth((SIDE, SIDE)),
    small=smooth((30, 41), seed=1),
    large=smooth((90, 83), seed=2),
    grey=smooth((50, 60), seed=3)[..., 0],
    deep=smooth((50, 60), seed=3).astype(np.uint16) * 100,
    empty=MEAN,
    crowded=NOISE,
  ).items():
    dropped = predictor.num_dropped
    expected, found = predictor(image), exported(image)
    counts[name] = len(expected), predictor.num_dropped - dropped
    assert_same(found, expected, image.shape[:2])
  assert counts["empty"] == (0, 0)
  assert sum(found for found, _ in counts.values()) > 4, counts
  if not expected.has_predicted_boxes:  # else all candidates compete
    assert sum(dropped for _, dropped in counts.values()) > 0, counts
  assert exported.num_dropped == predictor.num_dropped - before


@pytest.mark.parametrize("method", METHODS)
def test_equals_the_native_predictor(folders, method):
  folder = folders(method)
  exported = load_module(folder / "predictor.py").Predictor(folder)
  assert_same_everywhere(exported, native(method))


# The converter lacks operations of non-maximum suppression.
@pytest.mark.parametrize(
  "method",
  [
    "solov2",
    "associative_embedding",
    # Their decoder is SOLOv2's.
    pytest.param("solo", marks=pytest.mark.slow),
    pytest.param("decoupled_solo", marks=pytest.mark.slow),
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


def make_mask2former():
  """A checkpoint of a small Mask2Former; its queries must differ."""
  path = CONFIGS / "mask2former_shapes.py"
  config = runpy.run_path(str(path))["get_config"]()
  config.preprocessing.update(short_side=SIDE, max_side=SIDE)
  config.backbone.update(stage_sizes=(1, 1, 1, 1), widths=(8, 8, 8, 8))
  config.network.update(
    num_queries=6,
    channels=32,
    mask_channels=8,
    encoder_hidden=16,
    num_decoder_layers=1,
    decoder_hidden=16,
  )
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
  "runtime", ["jax", pytest.param("onnx", marks=pytest.mark.slow)]
)
def test_mask2former_where_images_fill_the_input(tmp_path, runtime):
  """Its attention takes padding for image, and an export pads to one size."""
  if runtime == "onnx":
    pytest.importorskip("onnx", reason="ONNX is an extra")
  checkpoint = make_mask2former()
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
  module = load_module(tmp_path / "tiles" / "predictor.py")
  exported = module.Predictor(tmp_path / "tiles")
  images = [smooth((100, 150)), smooth((40, 50), seed=1), MEAN]
  found = exported.predict(images)
  expected = predictor.predict(images)
  assert len(expected[0]) > 3 and len(expected[2]) == 0
  for image, a, b in zip(images, found, expected, strict=True):
    assert_same(a, b, image.shape[:2])


RUN = """
import json, runpy, sys
for name in ("solo_jax", "flax", "cv2", "orbax", "ml_collections", "absl"):
  sys.modules[name] = None  # importing it fails
sys.argv[1:] = ["--score_threshold=0.5", "image.png"]
runpy.run_path(FOLDER + "/predictor.py", run_name="__main__")
"""


def test_runs_where_neither_solo_jax_nor_flax_can_be_imported(
  folders, tmp_path
):
  folder = folders("solov2")
  image = smooth((SIDE, SIDE))
  cv2.imwrite(str(tmp_path / "image.png"), image[..., ::-1])
  result = subprocess.run(
    [sys.executable, "-c", RUN.replace("FOLDER", repr(str(folder)))],
    cwd=tmp_path,
    env=os.environ | {"PYTHONPATH": ""},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  (line,) = result.stdout.splitlines()
  expected = native("solov2")(image).above(0.5)
  assert len(expected)
  assert json.loads(line) == {
    "file": "image.png",
    "detections": [
      dict(
        class_name="abcde"[label],
        score=pytest.approx(float(score), abs=1e-4),
        box_xyxy=box.astype(int).tolist(),
        box_source="mask",
        area=int(mask.sum()),
      )
      for label, score, box, mask in zip(
        expected.labels,
        expected.scores,
        expected.boxes_xyxy,
        expected.masks,
        strict=True,
      )
    ],
  }


def test_an_image_that_is_too_large_ends_in_one_line(folders, tmp_path):
  cv2.imwrite(str(tmp_path / "image.png"), smooth((91, 40)))
  result = subprocess.run(
    [sys.executable, folders("solov2") / "predictor.py", "image.png"],
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 1 and "Traceback" not in result.stderr
  assert "image.png: an image of 91x40 pixels" in result.stderr
  assert "export with a larger --image_size" in result.stderr


def test_manifest_says_all_that_a_runtime_must_know(folders):
  folder = folders("solov2")
  manifest = json.loads((folder / "manifest.json").read_text())
  config = make_checkpoint("solov2").config
  assert manifest["class_names"] == list("abcde")
  assert manifest["category_ids"] == [3, 4, 5, 6, 7]
  assert manifest["decode"]["score_threshold"] == 0.8
  assert manifest["preprocessing"]["mean"] == list(config.preprocessing.mean)
  assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
  assert set(manifest["sha256"]) == {
    "predictor.py",
    "weights.npz",
    "program_64x64.jax",
    "program_64x64.mlirbc",
  }
  (program,) = manifest["programs"]
  assert program["input_size"] == [64, 64]
  assert program["canvas_size"] == [90, 88]  # whole bytes of mask
  assert [tuple(x.values()) for x in program["inputs"]] == [
    ("image", "uint8", [1, 90, 88, 3]),
    ("original_size", "int32", [1, 2]),
  ]
  assert [tuple(x.values()) for x in program["outputs"]] == [
    ("masks", "uint8", [1, 10, 90, 11]),
    ("boxes_xyxy", "int32", [1, 10, 4]),
    ("scores", "float32", [1, 10]),
    ("labels", "int32", [1, 10]),
    ("valid", "bool", [1, 10]),
    ("num_dropped", "int32", [1]),
  ]
  with np.load(folder / "weights.npz") as weights:
    for array in manifest["weights"]["arrays"]:
      assert weights[array["name"]].shape == tuple(array["shape"])
    assert len(weights.files) == len(manifest["weights"]["arrays"])


@pytest.mark.parametrize("method", METHODS)
def test_program_is_plain_stablehlo(folders, method):
  """No calls of functions that only JAX's own runtime has."""
  folder = folders(method)
  exported = jax.export.deserialize((folder / "program_64x64.jax").read_bytes())
  code = (folder / "program_64x64.mlirbc").read_bytes()
  assert exported.mlir_module_serialized == code
  names = set(re.findall(r"= \"?(\w+)\.(\w+)", exported.mlir_module()))
  assert {dialect for dialect, _ in names} <= {"stablehlo", "chlo", "func"}
  assert ("stablehlo", "convolution") in names
  assert ("stablehlo", "custom_call") not in names


def test_platforms_are_those_asked_for(folders):
  exported = jax.export.deserialize(
    (folders("solov2") / "program_64x64.jax").read_bytes()
  )
  assert exported.platforms == ("cpu", "cuda", "tpu")


def test_wrong_arguments_are_refused(tmp_path):
  checkpoint = make_checkpoint("solov2")
  (tmp_path / "full").mkdir()
  (tmp_path / "full" / "notes.txt").touch()
  with pytest.raises(UserError, match="not an empty folder; remove it"):
    export_checkpoint(checkpoint, tmp_path / "full")
  for options, message in (
    (dict(platforms=["gpu"]), r"--platforms: \['gpu'\]; choose from .*cuda"),
    (dict(platforms=[]), "--platforms"),
    (dict(input_sizes=[(64, 70)]), "64x70: both sides must be multiples of 32"),
    (dict(input_sizes=[(64, 64)] * 2), "names a size twice"),
  ):
    with pytest.raises(UserError, match=message):
      export_checkpoint(checkpoint, tmp_path / "new", **options)
  assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
  ("rule", "expected"),
  [
    (dict(short_side=800, max_side=1333), [(800, 1344), (1344, 800)]),
    (dict(short_side=128, max_side=128), [(128, 128)]),
    (dict(short_side=256, max_side=300, tile_size=256), [(256, 256)]),
    (dict(short_side=300, max_side=256, tile_size=None), [(256, 256)]),
  ],
)
def test_default_inputs_take_every_image(rule, expected):
  rule = dict(pad_multiple=32, tile_size=None) | rule
  assert default_input_sizes(rule) == expected


@pytest.mark.parametrize(
  ("preprocessing", "expected"),
  [({}, 1024), (dict(tile_size=SIDE, tile_overlap=16), SIDE)],
)
def test_a_photograph_fits_unless_told_otherwise(
  tmp_path, preprocessing, expected
):
  checkpoint = make_checkpoint("solov2", **preprocessing)
  export_checkpoint(checkpoint, tmp_path / "x")
  manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
  assert manifest["programs"][0]["canvas_size"] == [expected, expected]


def test_weights_are_those_of_the_checkpoint(folders):
  leaves = jax.tree.leaves(make_checkpoint("solov2").variables)
  with np.load(folders("solov2") / "weights.npz") as weights:
    saved = [weights[name] for name in weights.files]
  for a, b in zip(saved, leaves, strict=True):
    np.testing.assert_array_equal(a, b)
