"""Tests of solo_jax/methods/regions/anchors.py."""

import numpy as np
import pytest

from solo_jax.methods.regions.anchors import (
  Anchors,
  find_trained,
  make_anchors,
)

SIZES = (32, 64, 128, 256, 512)
MAPS = ((16, 24), (8, 12), (4, 6), (2, 3), (1, 2))


def make(**changed):
  given = dict(
    sizes=SIZES, ratios=(0.5, 1.0, 2.0), corners="exact", spacing="stride"
  )
  return Anchors(**given | changed)


def test_first_anchors_are_those_of_the_paper():
  anchors = make_anchors(make(), MAPS, (64, 96))[0]
  root = np.sqrt(2)
  np.testing.assert_allclose(
    anchors[:3],
    [
      [-16 * root, -8 * root, 16 * root, 8 * root],
      [-16, -16, 16, 16],
      [-8 * root, -16 * root, 8 * root, 16 * root],
    ],
    rtol=1e-6,
  )
  np.testing.assert_allclose(anchors[3:6], anchors[:3] + [4, 0, 4, 0])
  # One row further: 24 positions of three anchors.
  np.testing.assert_allclose(anchors[72:75], anchors[:3] + [0, 4, 0, 4])


def test_rounded_corners_of_torchvision():
  anchors = make_anchors(make(corners="rounded"), MAPS, (64, 96))[0]
  np.testing.assert_array_equal(anchors[0], [-23, -11, 23, 11])


def test_spacing_by_the_size_of_the_map():
  # P6 of 96 rows has 2: 96 // 2 = 48 where its stride is 64.
  maps = ((24, 24), (12, 12), (6, 6), (3, 3), (2, 2))
  given = make_anchors(make(spacing="map_size"), maps, (96, 96))[4]
  assert given[6, 1] - given[0, 1] == 48
  assert given[3, 0] - given[0, 0] == 48


def test_unknown_rules_are_refused():
  with pytest.raises(ValueError, match="corners must be in .*'round'"):
    make(corners="round")
  with pytest.raises(ValueError, match="spacing must be in .*'map'"):
    make(spacing="map")
  with pytest.raises(ValueError, match="trained anchors must be in"):
    find_trained([], MAPS, np.array([64, 96]), "some")


def test_anchors_of_an_image_in_a_larger_batch():
  anchors = make_anchors(make(), MAPS, (64, 96))
  counts = [len(x) for x in anchors]
  found = {
    rule: np.asarray(
      find_trained(anchors, MAPS, np.array([30, 70], np.int32), rule)
    )
    for rule in ("all", "own_padding", "inside_image")
  }
  assert found["all"].all()
  # Own padded size 32 x 96: rows 0 to 7 of P2, 0 to 3 of P3 and so on.
  levels = np.split(found["own_padding"], np.cumsum(counts)[:-1])
  for (height, width), rows, level in zip(
    MAPS, (8, 4, 2, 1, 1), levels, strict=True
  ):
    level = level.reshape(height, width, 3)
    assert level[:rows].all()
    assert not level[rows:].any()
  boxes = np.concatenate(anchors)
  inside = (boxes[:, :2] >= 0).all(1)
  inside &= (boxes[:, 2] < 70) & (boxes[:, 3] < 30)
  np.testing.assert_array_equal(
    found["inside_image"], inside & found["own_padding"]
  )


@pytest.mark.golden("rcnn_anchors*.npz")
def test_fixture(golden):
  for i, case in enumerate(golden.config["cases"]):
    maps = [tuple(map(int, size)) for size in golden[f"feature_hw_{i}"]]
    given = dict(sizes=tuple(case["sizes"]), ratios=tuple(case["ratios"]))
    padded = tuple(case["padded_hw"])
    exact = make_anchors(make(**given), maps, padded)
    np.testing.assert_allclose(
      np.concatenate(exact), golden[f"anchors_mmdet_{i}"], rtol=5e-6, atol=5e-6
    )
    rounded = make(**given, corners="rounded", spacing="map_size")
    np.testing.assert_array_equal(
      np.concatenate(make_anchors(rounded, maps, padded)),
      golden[f"anchors_tv_{i}"],
    )
