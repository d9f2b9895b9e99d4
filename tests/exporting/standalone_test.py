"""Tests of solo_jax/exporting/standalone.py next to what it stands for.

tests/export_test.py runs it on exported models.
"""

import ast
import hashlib
import json
import pathlib
import sys

import numpy as np
import pytest

from solo_jax import types
from solo_jax.data import transforms
from solo_jax.exporting import standalone
from solo_jax.inference import tiling


def test_imports_nothing_but_numpy_and_runtimes():
  tree = ast.parse(pathlib.Path(standalone.__file__).read_text())
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names |= {alias.name.split(".")[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names.add(node.module.split(".")[0])
  runtimes = {"jax", "onnxruntime", "PIL"}
  assert names - set(sys.stdlib_module_names) == {"numpy"} | runtimes
  # At the top of the file stands NumPy alone.
  top = [x for x in tree.body if isinstance(x, ast.Import)]
  assert not {a.name for x in top for a in x.names} & runtimes


def test_16_bit_images_as_in_training():
  rng = np.random.default_rng(0)
  image = (rng.normal(900, 200, (40, 30, 3)).clip(0)).astype(np.uint16)
  np.testing.assert_array_equal(
    standalone.to_uint8(image), transforms.to_uint8(image)
  )
  flat = np.full((4, 4, 3), 7, np.uint16)
  np.testing.assert_array_equal(
    standalone.to_uint8(flat), transforms.to_uint8(flat)
  )


def test_what_is_no_image_is_refused():
  for image, message in (
    (np.zeros((4, 4, 3), np.float32), "expected uint8 or uint16 .* float32"),
    (np.zeros((4, 4, 2), np.uint8), r"got shape \(4, 4, 2\)"),
    (np.zeros((0, 4, 3), np.uint8), r"got shape \(0, 4, 3\)"),
  ):
    with pytest.raises(ValueError, match=message):
      standalone.to_rgb(image)
  assert standalone.to_rgb(np.zeros((4, 5, 4), np.uint8)).shape == (4, 5, 3)
  assert standalone.to_rgb(np.zeros((4, 5), np.uint8)).shape == (4, 5, 3)


def test_tiles_lie_where_the_predictor_lays_them():
  for size in ((100, 150), (64, 64), (30, 300), (257, 129)):
    assert standalone.tile_origins(size, 64, 16) == tiling.tile_origins(
      size, 64, 16
    )


def make_tiles(seed):
  """Random ellipses of two classes, as each tile of an image sees them."""
  rng = np.random.default_rng(seed)
  size, side = (100, 140), 64
  origins = tiling.tile_origins(size, side, 20)
  y, x = np.mgrid[: size[0], : size[1]]
  objects = []
  for _ in range(40):
    cy, cx, ry, rx = rng.uniform((0, 0, 3, 3), (*size, 16, 16))
    objects.append(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1)
  tiles = []
  for top, left in origins:
    window = np.s_[top : top + side, left : left + side]
    rows = []
    for i, mask in enumerate(objects):
      mask = mask[window] & (rng.random((side, side)) > 0.05)
      if mask.any() and rng.random() > 0.1:
        rows.append((float(rng.random()), i % 2, mask))
    rows.append((0.5, 0, np.zeros((side, side), bool)))  # an empty mask
    rows.sort(key=lambda row: -row[0])
    tiles.append(rows)
  return size, side, origins, tiles


def tight(mask):
  rows, columns = np.nonzero(mask)
  if not len(rows):
    return 0, 0, 0, 0
  return (
    int(columns.min()),
    int(rows.min()),
    int(columns.max()) + 1,
    int(rows.max()) + 1,
  )


@pytest.mark.parametrize("seed", range(4))
def test_merges_tiles_as_the_predictor_does(seed):
  size, side, origins, tiles = make_tiles(seed)
  expected = tiling.merge_tiles(
    [
      tiling.cut_out(
        types.Instances(
          masks=np.stack([mask for _, _, mask in rows]),
          scores=np.array([score for score, _, _ in rows]),
          labels=np.array([label for _, label, _ in rows]),
          boxes_xyxy=np.array([tight(mask) for _, _, mask in rows], float),
        ),
        origin,
        size,
      )
      for rows, origin in zip(tiles, origins, strict=True)
    ],
    origins,
    side,
    size,
    has_predicted_boxes=False,
  )
  found = standalone.merge_tiles(
    [
      [
        standalone.Detection(
          score=score,
          label=label,
          class_name="x",
          category_id=1,
          box_xyxy=tight(mask),
          mask=mask[
            tight(mask)[1] : tight(mask)[3], tight(mask)[0] : tight(mask)[2]
          ],
        )
        for score, label, mask in rows
      ]
      for rows in tiles
    ],
    origins,
    side,
    size,
  )
  assert 20 < len(expected) < sum(len(rows) for rows in tiles) - len(tiles)
  assert len(found) == len(expected)
  for i, detection in enumerate(found):
    assert detection.score == pytest.approx(expected.scores[i])
    assert detection.label == expected.labels[i]
    assert detection.box_xyxy == tuple(expected.boxes_xyxy[i].astype(int))
    np.testing.assert_array_equal(detection.full_mask(size), expected.masks[i])


def test_predicted_boxes_are_shifted_with_their_tile():
  """Of an object that two tiles see, the one that no seam cuts."""
  mask = np.ones((10, 12), bool)

  def detection(left, score):
    return standalone.Detection(
      score=score,
      label=0,
      class_name="x",
      category_id=1,
      box_xyxy=(left, 5, left + 12, 15),
      mask=mask,
      predicted_box_xyxy=(left - 0.5, 4.25, left + 12.5, 15.0),
    )

  whole, cut = detection(22, 0.6), detection(0, 0.9)
  (kept,) = standalone.merge_tiles(
    [[whole], [cut]], [(0, 0), (0, 22)], 64, (64, 86)
  )
  assert kept.box_xyxy == (22, 5, 34, 15)
  assert kept.predicted_box_xyxy == (21.5, 4.25, 34.5, 15)
  (moved,) = standalone.merge_tiles(
    [[], [detection(9, 0.9)]], [(0, 0), (30, 22)], 64, (94, 86)
  )
  assert moved.predicted_box_xyxy == (30.5, 34.25, 43.5, 45)
  assert standalone.to_json(moved)["box_xyxy"] == [30.5, 34.25, 43.5, 45]
  assert standalone.to_json(moved)["box_source"] == "predicted"


def unpack(predictor, **more):
  """Lets a loader read the results of one image: a detection and a padding."""
  masks = np.zeros((2, 8, 16), bool)
  masks[0, 2:5, 3:9] = True
  return predictor._unpack(
    dict(
      masks=np.packbits(masks, axis=2),
      boxes_xyxy=np.int32([[3, 2, 9, 5], [0, 0, 0, 0]]),
      scores=np.float32([0.75, 0]),
      labels=np.int32([1, 0]),
      valid=np.array([True, False]),
      num_dropped=np.int32(4),
      **more,
    )
  )


def test_models_of_before_predicted_boxes_are_read(tmp_path):
  """Format 1: no results but those; the same detections come out."""
  classes = dict(class_names=["a", "b"], category_ids=[3, 5])
  old = standalone.Predictor(write_model(tmp_path, format=1, **classes))
  new = standalone.Predictor(write_model(tmp_path, **classes))
  boxes = np.float32([[2.5, 1.5, 9.25, 5.5], [0, 0, 0, 0]])
  (before,), (without,), (after,) = (
    unpack(old),
    unpack(new),
    unpack(new, predicted_boxes_xyxy=boxes),
  )
  for found in (before, without, after):
    assert (found.score, found.class_name, found.category_id) == (0.75, "b", 5)
    assert found.box_xyxy == (3, 2, 9, 5) and found.mask.all()
  assert before.predicted_box_xyxy is without.predicted_box_xyxy is None
  assert after.predicted_box_xyxy == (2.5, 1.5, 9.25, 5.5)
  assert standalone.to_json(before)["box_xyxy"] == (3, 2, 9, 5)
  assert standalone.to_json(before)["box_source"] == "mask"


def write_model(folder, **changes):
  """Writes a model of two programs that do not exist."""
  np.savez(folder / "weights.npz")
  programs = [
    dict(
      jax=f"{name}.jax",
      onnx=None,
      batch_size=1,
      canvas_size=(1400, 1400),
      input_size=size,
      outputs=[],
    )
    for name, size in (("wide", (800, 1344)), ("tall", (1344, 800)))
  ]
  manifest = dict(
    format=standalone.FORMAT,
    preprocessing=dict(
      short_side=800,
      max_side=1333,
      keep_aspect=True,
      size_rounding="nearest",
      tile_size=None,
      tile_overlap=0,
    ),
    weights=dict(file="weights.npz", arrays=[]),
    programs=programs,
    sha256={
      "weights.npz": hashlib.sha256(
        (folder / "weights.npz").read_bytes()
      ).hexdigest()
    },
  )
  (folder / "manifest.json").write_text(json.dumps(manifest | changes))
  return folder


def test_an_image_takes_the_program_that_it_fits(tmp_path):
  predictor = standalone.Predictor(write_model(tmp_path))
  chosen = {
    size: predictor._programs[predictor._choose(size)]["jax"]
    for size in ((480, 640), (640, 480), (100, 1400), (1400, 100))
  }
  assert chosen == {
    (480, 640): "wide.jax",
    (640, 480): "tall.jax",
    (100, 1400): "wide.jax",
    (1400, 100): "tall.jax",
  }
  with pytest.raises(ValueError, match=r"1401x700 pixels .*fits none.*--image"):
    predictor(np.zeros((1401, 700, 3), np.uint8))


def test_damage_and_wrong_versions_are_named(tmp_path):
  folder = write_model(tmp_path)
  with pytest.raises(ValueError, match="exported without --onnx"):
    standalone.Predictor(folder, runtime="onnx")
  with pytest.raises(ValueError, match="runtime must be one of .*'tf'"):
    standalone.Predictor(folder, runtime="tf")
  np.savez(folder / "weights.npz", a=np.zeros(1))
  with pytest.raises(ValueError, match="weights.npz: not the file that was"):
    standalone.Predictor(folder)
  write_model(tmp_path, format=99)
  with pytest.raises(ValueError, match="format 99.*use the predictor.py"):
    standalone.Predictor(folder)
  with pytest.raises(FileNotFoundError, match="manifest.json"):
    standalone.Predictor(tmp_path / "nowhere")
