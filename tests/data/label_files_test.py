"""Tests of solo_jax/data/label_files.py."""

import cv2
import numpy as np
import PIL.Image
import pytest

from solo_jax.data.label_files import read_label_image


def encode(suffix, image):
  return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_image_values(suffix, dtype):
  labels = np.arange(15, dtype=dtype).reshape(3, 5)
  labels[0, 0] = np.iinfo(dtype).max
  np.testing.assert_array_equal(
    read_label_image(encode(suffix, labels)), labels
  )


def test_palette_indices_are_the_labels(tmp_path):
  labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
  image = PIL.Image.fromarray(labels).convert("P")
  image.putpalette([x for i in range(256) for x in (255 - i, i, 7)])
  image.save(tmp_path / "p.png")
  read = read_label_image((tmp_path / "p.png").read_bytes())
  np.testing.assert_array_equal(read, labels)
