"""Tests of solo_jax/data/exif.py."""

import pytest

from solo_jax.data import exif
from solo_jax.data.image_files import Header


@pytest.mark.parametrize(
  ("orientation", "choice", "size"),
  [
    (1, "apply", (96, 128)),
    (3, "apply", (96, 128)),
    (6, "apply", (128, 96)),
    (5, "apply", (128, 96)),
    (6, "ignore", (96, 128)),
    (6, None, (96, 128)),
  ],
)
def test_size_as_trained_on(orientation, choice, size):
  header = Header((96, 128), 3, orientation, 1)
  assert exif.image_size(header, choice) == size
  assert exif.compare_size(header, size, choice, "it says") is None


def test_annotations_of_the_turned_image_name_the_flag():
  header = Header((96, 128), 3, 6, 1)
  wrong = exif.compare_size(header, (128, 96), None, "they say")
  assert "--exif=apply" in wrong.kind
  assert wrong.detail.startswith(
    "is 96 x 128 (height x width) with EXIF orientation 6 ignored; they "
    "say 128 x 96"
  )
  wrong = exif.compare_size(header, (96, 128), "apply", "they say")
  assert "--exif=ignore" in wrong.kind and "128 x 96" in wrong.detail


def test_other_sizes_have_nothing_to_do_with_tags():
  header = Header((96, 128), 3, 1, 1)
  wrong = exif.compare_size(header, (128, 96), None, "they say")
  assert "exif" not in wrong.kind.lower()


def test_tags_are_described():
  assert exif.describe_tag(Header((9, 9), 3, 1, 1), None) is None
  kind, detail = exif.describe_tag(Header((9, 9), 3, 8, 1), None)
  assert "--exif=apply" in kind and "--exif=ignore" in kind
  assert detail == "has EXIF orientation 8"
  kind, _ = exif.describe_tag(Header((9, 9), 3, 8, 1), "apply")
  assert "turned" in kind
