"""Recognises files that are not images by their first bytes."""

import re

UNKNOWN = "not an image, or damaged"
ZIP = "a zip archive"
# Recognises files that are not images by their first bytes.
_OTHERS = (
  (rb"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch "
   "that with git lfs pull"),
  (rb"\s*(<!doctype html|<html|<\?xml|<!--)", "a page of HTML or XML, as "
   "servers send instead of a file: download it again"),
  (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "a HEIC photograph, which is "
   "not read: convert it to JPEG or PNG"),
  (rb"....ftyp(qt|mp4|iso|M4V)", "a video"),
  (rb"%PDF", "a PDF document"),
  (rb"%!PS", "a PostScript document"),
  (rb"PK\x03\x04", ZIP),
  (rb"\x1f\x8b", "packed with gzip: unpack it"),
  (rb".{128}DICM", "a DICOM file, which is not read: convert it to PNG"),
  (rb"\x89HDF", "an HDF5 file, which is not read: convert it to TIFF or PNG"),
  (rb"\x93NUMPY", "a NumPy file, which is not read: convert it to TIFF or PNG"),
  (rb"\s*[{\[]", "text such as JSON"),
)  # fmt: skip


def what_it_is(head: bytes) -> str:
  """Returns what kind of file this is, if it is not an image.

  Args:
    head: Its first bytes, 132 or more where it has as many.

  Returns:
    The end of a sentence that begins with 'the file is'.
  """
  if not head:
    return "empty"
  if not head.strip(b"\0"):
    return "nothing but zeros, as an interrupted copy leaves"
  for pattern, name in _OTHERS:
    if re.match(pattern, head, re.IGNORECASE | re.DOTALL):
      return name
  return UNKNOWN
