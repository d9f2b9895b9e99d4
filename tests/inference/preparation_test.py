"""Tests of solo_jax/inference/preparation.py; predictor_test.py has more."""

import cv2
import numpy as np
import pytest

from solo_jax.data.transforms import to_rgb
from solo_jax.inference.preparation import Preparation


def prepare_with(scales=(1.0,), **overrides):
  rule = dict(
    short_side=32,
    max_side=48,
    keep_aspect=True,
    size_rounding="nearest",
    pad_multiple=16,
    interpolation="bilinear",
    tile_size=None,
    tile_overlap=0,
  )
  return Preparation(rule | overrides, scales)


def test_each_scale_is_a_factor_of_the_rule():
  image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
  prepared = prepare_with(scales=(1.0, 0.5, 2.0))(7, image)
  assert prepared.index == 7 and prepared.original_size == (64, 80)
  assert prepared.image_sizes == ((32, 40), (16, 20), (64, 80))
  assert [x.shape for x in prepared.images] == [
    (32, 48, 3),
    (16, 32, 3),
    (64, 80, 3),
  ]
  np.testing.assert_array_equal(prepared.images[2], image)
  assert not prepared.images[0][:, 40:].any()
  assert prepare_with(scales=(2.0, 1.0)).padded_size((64, 80)) == (64, 80)


@pytest.mark.parametrize(
  ("short_side", "max_side", "multiple"), [(800, 1333, 32), (32, 48, 16)]
)
def test_number_of_padded_shapes_is_bounded(short_side, max_side, multiple):
  preparation = prepare_with(
    short_side=short_side, max_side=max_side, pad_multiple=multiple
  )
  rng = np.random.default_rng(0)
  sizes = np.exp(rng.uniform(np.log(20), np.log(5000), (4000, 2))).astype(int)
  shapes = {preparation.padded_size(tuple(size)) for size in sizes.tolist()}
  assert 4 <= len(shapes) <= 2 * (max_side / multiple + 2)


def test_photographs_share_few_padded_shapes():
  rule = dict(short_side=800, max_side=1333, pad_multiple=32)
  exact = prepare_with(**rule)
  few = Preparation(exact._rule, (1.0,), few_shapes=True)
  # 4:3, 3:2 and 16:9 of cameras, a square, a panorama.
  for size, expected in {
    (480, 640): (800, 1088),
    (4000, 6000): (800, 1216),
    (427, 640): (800, 1216),
    (640, 512): (1024, 800),
    (512, 512): (800, 800),
    (600, 640): (800, 928),
    (1080, 1920): (800, 1344),
    (1920, 1080): (1344, 800),
    (500, 4000): (224, 1344),
  }.items():
    assert few.padded_size(size) == expected
    padded = exact.padded_size(size)
    assert expected[0] >= padded[0] and expected[1] >= padded[1]
    if size[0] not in (600, 1080, 1920, 500):
      assert expected == padded
  rng = np.random.default_rng(0)
  sizes = np.exp(rng.uniform(np.log(20), np.log(5000), (4000, 2))).astype(int)
  shapes = {few.padded_size(tuple(size)) for size in sizes.tolist()}
  assert len(shapes) == 21
  twice = Preparation(exact._rule, (0.5,), few_shapes=True)
  assert twice.padded_size((480, 640)) == (416, 544)
  # Tiles are as they were.
  tiled = Preparation(
    {**exact._rule, "tile_size": 512}, (1.0,), few_shapes=True
  )
  assert tiled.padded_size((100, 50)) == prepare_with(
    **rule, tile_size=512
  ).padded_size((100, 50))


def test_to_rgb_refuses_what_is_no_image():
  for image, message in (
    (np.zeros((4, 4, 3), np.float32), "expected uint8 or uint16 .* float32"),
    (np.zeros((4, 4, 2), np.uint8), r"got shape \(4, 4, 2\)"),
    (np.zeros((0, 4, 3), np.uint8), r"got shape \(0, 4, 3\)"),
    (np.zeros((1, 4, 4, 3), np.uint8), r"got shape \(1, 4, 4, 3\)"),
  ):
    with pytest.raises(ValueError, match=message):
      to_rgb(image)


# How the code bases round sizes and shrink images.
PUBLISHED = dict(
  tv=dict(size_rounding="down"),
  d2=dict(interpolation="antialias"),
  mmdet=dict(),
)


@pytest.mark.golden("rcnn_preprocess*.npz")
def test_sizes_are_those_of_each_code_base(golden):
  for height, width, short, long, *expected in golden["sizes"].tolist():
    for i, rule in enumerate(PUBLISHED.values()):
      prepare = prepare_with(
        short_side=short, max_side=long, pad_multiple=1, **rule
      )
      size = tuple(expected[2 * i : 2 * i + 2])
      assert prepare.padded_size((height, width)) == size


@pytest.mark.golden("rcnn_preprocess*.npz")
@pytest.mark.parametrize("name", PUBLISHED)
def test_images_are_those_of_each_code_base(golden, name):
  image = golden["image_rgb"]
  mean, std = (255 * np.array(golden.config[x]) for x in ("mean", "std"))
  for i, (short, long) in enumerate(golden.config["targets"]):
    rule = dict(short_side=short, max_side=long, pad_multiple=32)
    prepared = prepare_with(**rule | PUBLISHED[name])(0, image)
    (found,), ((height, width),) = prepared.images, prepared.image_sizes
    if name != "tv":
      expected = golden[f"{name}_resized_rgb_{i}"].astype(int)
      assert expected.shape == (height, width, 3)
      assert abs(found[:height, :width] - expected).max() <= 1
      continue
    # It resizes floats, where images are bytes here: off by rounding.
    assert (height, width) == tuple(golden[f"tv_hw_{i}"])
    expected = golden[f"tv_padded_{i}"].transpose(1, 2, 0)
    assert found.shape == expected.shape
    normalized = (found - mean) / std
    difference = np.abs(normalized - expected)[:height, :width] * std
    assert difference.max() <= 1
    assert not expected[height:].any() and not found[height:].any()


def test_stretched_to_a_square():
  """As OpenCV stretches, at every scale, whatever `few_shapes` says."""
  image = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)
  rule = dict(short_side=55, max_side=55, keep_aspect=False, pad_multiple=1)
  prepared = prepare_with(**rule)(0, image)
  wanted = cv2.resize(image, (55, 55), interpolation=cv2.INTER_LINEAR)
  np.testing.assert_array_equal(prepared.images[0], wanted)
  assert prepared.image_sizes == ((55, 55),)
