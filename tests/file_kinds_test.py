"""Tests of solo_jax/file_kinds.py."""

import pytest

from solo_jax.file_kinds import what_it_is


@pytest.mark.parametrize(
  ("head", "expected"),
  [
    (b"", "empty"),
    (bytes(200), "nothing but zeros"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
    (b"\n <!DOCTYPE html><title>404", "a page of HTML"),
    (
      b"<?xml version='1.0'?><Error><Code>AccessDenied",
      "a page of HTML or XML",
    ),
    (b"\0\0\0\x18ftypheic", "a HEIC photograph"),
    (b"\0\0\0\x18ftypmif1", "a HEIC photograph"),
    (b"\0\0\0\x18ftypmp42", "a video"),
    (b"%PDF-1.7", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b\x08", "packed with gzip"),
    (bytes(127) + b"\1DICM", "a DICOM file"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b'{"a": 1}', "text such as JSON"),
    (b"nothing known", "not an image, or damaged"),
  ],
)
def test_kinds_by_their_beginning(head, expected):
  assert what_it_is(head).startswith(expected)
