"""Tests of benchmarks/mask_ceiling.py: the bounds that choose stride and rule.

The figures (0.66, 0.83, 0.83, 0.975) are those of another implementation on
other drawings of scenes of the same kind.
"""

import pathlib
import runpy

import pytest

from solo_jax.data.records import open_records
from solo_jax.data.shapes import Shapes

ROOT = pathlib.Path(__file__).parents[2]
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "mask_ceiling.py"))
SIZE = dict(short_side=128, max_side=128)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
  data_dir = str(tmp_path_factory.mktemp("data"))
  Shapes(data_dir=data_dir, num_train=1, num_validation=60).prepare()
  return open_records(data_dir, "shapes", "validation")


@pytest.mark.parametrize(
  ("mask_stride", "mask_rule", "recall"),
  [
    (4, "majority", 0.66),
    (4, "coverage", 0.83),
    (2, "majority", 0.83),
    (2, "coverage", 0.975),
  ],
)
def test_recall_of_perfect_masks(scenes, mask_stride, mask_rule, recall):
  metrics = BENCHMARK["measure_ceiling"](
    scenes, mask_stride=mask_stride, mask_rule=mask_rule, **SIZE
  )
  assert metrics.mask_AR == pytest.approx(recall, abs=0.03)
