"""Tests of solo_jax/media/reading.py."""

import cv2
import numpy as np
import pytest

from solo_jax.media.reading import read_image


def test_colours_grey_and_alpha_become_rgb(tmp_path):
  rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
  alpha = np.full((2, 4, 1), 9, np.uint8)
  cv2.imwrite(str(tmp_path / "a.png"), rgb[..., ::-1])
  cv2.imwrite(
    str(tmp_path / "b.png"), np.concatenate([rgb[..., ::-1], alpha], axis=2)
  )
  cv2.imwrite(str(tmp_path / "c.png"), rgb[..., 0].astype(np.uint16) * 257)
  np.testing.assert_array_equal(read_image(tmp_path / "a.png"), rgb)
  np.testing.assert_array_equal(read_image(tmp_path / "b.png"), rgb)
  grey = read_image(tmp_path / "c.png")
  assert grey.dtype == np.uint16
  np.testing.assert_array_equal(
    grey, np.repeat(rgb[..., :1], 3, axis=2).astype(np.uint16) * 257
  )


def test_empty_and_cut_files_are_refused(tmp_path):
  cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
  data = (tmp_path / "a.png").read_bytes()
  for name, content in (("empty", b""), ("cut", data[: len(data) // 2])):
    path = tmp_path / f"{name}.png"
    path.write_bytes(content)
    with pytest.raises(ValueError):
      read_image(path)
