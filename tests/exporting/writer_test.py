"""Tests of solo_jax/exporting/writer.py on small networks of every method."""

import functools
import json
import os
import re
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest

from solo_jax.errors import UserError
from solo_jax.exporting.writer import (
  default_input_sizes,
  export_checkpoint,
)
from tests.exporting.small_exports import (
  METHODS,
  SIDE,
  assert_same_everywhere,
  load_module,
  make_checkpoint,
  native,
  smooth,
)


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


@pytest.mark.parametrize("method", METHODS)
def test_equals_the_native_predictor(folders, method):
  folder = folders(method)
  exported = load_module(folder / "predictor.py").Predictor(folder)
  assert_same_everywhere(exported, native(method))


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


def test_an_image_that_is_too_large_gives_one_line(folders, tmp_path):
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


def test_manifest_has_all_that_a_runtime_must_know(folders):
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


def test_a_photograph_fits_without_an_image_size(tmp_path):
  export_checkpoint(make_checkpoint("solo"), tmp_path / "x")
  manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
  assert manifest["programs"][0]["canvas_size"] == [1024, 1024]


def test_weights_are_those_of_the_checkpoint(folders):
  leaves = jax.tree.leaves(make_checkpoint("solov2").variables)
  with np.load(folders("solov2") / "weights.npz") as weights:
    saved = [weights[name] for name in weights.files]
  for a, b in zip(saved, leaves, strict=True):
    np.testing.assert_array_equal(a, b)
