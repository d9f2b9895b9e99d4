"""Tests of solo_jax/nn/backbones/swin_windows.py."""

import numpy as np
import pytest

from solo_jax.nn.backbones.swin_windows import (
  relative_position_index,
  shift_mask,
)


@pytest.mark.golden("m2f_swin*.npz")
def test_fixture_tables(golden):
  side = golden.config["window_size"]
  height, width = golden["shift_mask_hw"].tolist()
  np.testing.assert_array_equal(
    shift_mask(height, width, side, side // 2), golden["shift_mask"]
  )
  np.testing.assert_array_equal(
    relative_position_index(side), golden["relative_position_index"]
  )
