"""Tests of solo_jax/inference/compilation_report.py."""

import re

import numpy as np
import pytest

from solo_jax.inference.compilation_report import CompilationReport


def test_each_shape_is_reported_once_and_again_if_it_failed():
  report, lines = CompilationReport(), []
  report.tell = lines.append
  image = np.zeros((1, 32, 48, 3), np.uint8)
  with pytest.raises(KeyError), report([image]):
    raise KeyError
  assert len(lines) == 1
  for _ in range(2):
    with report([image]):
      pass
  assert len(lines) == 3
  assert lines[1].startswith("compiling for images padded to 32 x 48 on cpu")
  assert re.fullmatch(r"ready after \d+\.\d s", lines[2])
  with report([image, image[:, :16]]):
    pass
  assert "padded to 32 x 48, 16 x 48 on" in lines[3]
