"""Reads untrusted image files: their kind, size and pixels.

The declared size is read before the pixels, and the decoded size must be the
same: a file of a kilobyte can declare gigabytes of pixels, or different sizes
to different readers. Only the decoders of Pillow and OpenCV for the kinds
listed here are used, none that run other programs.
"""

import io
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
import PIL.Image
from PIL import (  # noqa: F401 (their import makes them known to Pillow)
  AvifImagePlugin,
  Jpeg2KImagePlugin,
  TiffImagePlugin,
  WebPImagePlugin,
)

from solo_jax import file_kinds
from solo_jax.data import tiff_pages
from solo_jax.errors import UserError

# Suffixes of supported files.
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif")
SUFFIXES += (".jp2", ".avif")
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# Pillow's plugins that may read a file.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "JPEG2000")
FORMATS += ("AVIF", "PPM")
_ANIMATED = ("PNG", "GIF", "WEBP", "AVIF")
_ORIENTATION = 0x0112
# For the whole process: Pillow's limit cannot be set for one call, and its
# message does not name our flag. read_header checks ours first.
PIL.Image.MAX_IMAGE_PIXELS = None


class Header(NamedTuple):
  """What an image file declares.

  Attributes:
    size: (height, width) as stored, ignoring the orientation tag.
    num_channels: Channels; 1 for a palette.
    orientation: Orientation of the EXIF or TIFF tag, 1 (upright) to 8.
    num_pages: Pages of a TIFF file without copies at lower resolution, or
      frames of an animation.
  """

  size: tuple[int, int]
  num_channels: int
  orientation: int
  num_pages: int

  @property
  def turned_size(self) -> tuple[int, int]:
    """Returns (height, width) after applying the orientation tag."""
    return self.size[::-1] if self.orientation > 4 else self.size


def read_header(file: BinaryIO, max_pixels: int) -> Header:
  """Returns what an image file's header declares, without decoding it.

  Args:
    file: An image file.
    max_pixels: Limit for height times width.

  Returns:
    The header.

  Raises:
    UserError: If the file is not an image, declares more pixels, or declares
      its size twice; the message continues after 'the file is'.
  """
  head = file.read(256)
  file.seek(0)
  try:
    header = _read_tiff(file) if tiff_pages.is_tiff(head) else _read_other(file)
  except UserError:
    raise
  except Exception as error:  # Pillow's parsers raise almost any exception
    raise UserError(file_kinds.what_it_is(head)) from error
  height, width = header.size
  if height * width > max_pixels:
    raise UserError(
      f"too large: its header declares {height} x {width} pixels (height x "
      f"width), more than --max_pixels={max_pixels}"
    )
  if not height * width:
    raise UserError("an image without pixels")
  return header


def _read_tiff(file: BinaryIO) -> Header:
  pages = [x for x in tiff_pages.read_pages(file) if not x.is_reduced]
  if not pages:
    raise UserError("a TIFF file without an image of full resolution")
  if len(pages) < pages[0].num_images:
    raise UserError(
      f"an ImageJ stack of {pages[0].num_images} images of which only the "
      "first has a header; save its planes as separate files"
    )
  largest = max(pages, key=lambda page: page.height * page.width)
  # A decoder allocates memory for whole tiles.
  if max(x.tile_pixels for x in pages) > max(
    2**24, largest.height * largest.width
  ):
    raise UserError("a TIFF file with tiles far larger than its image")
  first = pages[0]
  orientation = first.orientation if 1 <= first.orientation <= 8 else 1
  size = (largest.height, largest.width)
  if len(pages) == 1:
    size = (first.height, first.width)
  return Header(size, first.num_channels, orientation, len(pages))


def _read_other(file: BinaryIO) -> Header:
  with PIL.Image.open(file, formats=FORMATS) as image:
    width, height = image.size
    num_pages = (
      image.n_frames
      if image.format in _ANIMATED and getattr(image, "is_animated", False)
      else 1
    )
    header = Header(
      (height, width),
      len(image.getbands()),
      _orientation(image.info.get("exif")),
      num_pages,
    )
  file.seek(0)
  head = file.read(2**16)  # contains the header of nearly every file
  if head.startswith((_JPEG, _PNG)):
    size = stored_size(head) or stored_size(head + file.read())
    if size != header.size:
      raise UserError("an image that declares its size twice, or damaged")
  return header


def _orientation(exif: bytes | None) -> int:
  """Returns the orientation in EXIF data, 1 if there is none."""
  if not exif:
    return 1
  tags = PIL.Image.Exif()
  try:
    tags.load(exif)
    value = tags.get(_ORIENTATION, 1)
  except Exception:  # Pillow's parsers raise almost any exception
    return 1
  return value if value in range(1, 9) else 1


def stored_size(encoded: bytes) -> tuple[int, int] | None:
  """Returns the size of a JPEG or PNG file as decoders read it.

  Args:
    encoded: The file, or its beginning up to the pixels.

  Returns:
    (height, width); None for other kinds of files, or if the size is missing or
    repeated.
  """
  if encoded.startswith(_JPEG):
    sizes = list(_jpeg_sizes(encoded))
  elif encoded.startswith(_PNG) and encoded[8:16] == b"\0\0\0\rIHDR":
    sizes = [
      struct.unpack_from(">II", encoded, start + 8)[::-1]
      for kind, start in _png_chunks(encoded)
      if kind == b"IHDR" and start + 16 <= len(encoded)
    ]
  else:
    return None
  return sizes[0] if len(sizes) == 1 else None


def _jpeg_sizes(data: bytes) -> Iterator[tuple[int, int]]:
  """Yields (height, width) of each frame header before the pixels."""
  start = 2
  while (start := data.find(b"\xff", start)) >= 0 and start + 9 < len(data):
    marker = data[start + 1]
    if marker in (0x00, 0x01, *range(0xD0, 0xD9)):  # without a length
      start += 2
    elif marker == 0xFF:  # fill
      start += 1
    elif marker in (0xDA, 0xD9):
      return
    else:
      if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
        yield struct.unpack_from(">HH", data, start + 5)
      start += 2 + struct.unpack_from(">H", data, start + 2)[0]


def _png_chunks(png: bytes) -> Iterator[tuple[bytes, int]]:
  """Yields (kind, start) of chunks: length, kind, as many bytes, checksum."""
  start = len(_PNG)
  while kind := png[start + 4 : start + 8]:
    yield kind, start
    if kind == b"IEND":
      return
    start += 12 + int.from_bytes(png[start : start + 4])


def is_complete(encoded: bytes) -> bool:
  """Returns whether an image file is complete, mostly without decoding it.

  Must be called before OpenCV, which fills the missing part of a truncated file
  with grey, and allocates as much memory as a chunk of a PNG file claims to
  need. Nearly every JPEG file ends with its end marker; Pillow checks the
  others, and files other than JPEG and PNG.

  Args:
    encoded: An image file.

  Returns:
    False for a file that cannot be decoded completely.
  """
  if encoded.startswith(_PNG):
    return any(kind == b"IEND" for kind, _ in _png_chunks(encoded))
  if encoded.endswith(b"\xff\xd9"):
    return True
  try:
    return _is_loadable(encoded, 0)
  except UserError:
    return False


def _is_loadable(encoded: bytes, page: int) -> bool:
  formats = FORMATS
  if tiff_pages.is_tiff(encoded):
    formats = ("TIFF",)
    declared = tiff_pages.read_pages(io.BytesIO(encoded))[page]
  try:
    image = PIL.Image.open(io.BytesIO(encoded), formats=formats)
  except Exception:  # not a mode of Pillow, such as 64-bit integers
    return formats == ("TIFF",) and 0 < declared.end <= len(encoded)
  try:
    with image:
      if page:
        image.seek(page)
      image.load()
  except Exception:  # Pillow's decoders raise almost any exception
    return False
  return True


def decode(encoded: bytes, page: int = 0) -> np.ndarray:
  """Returns the pixels of an image file of any supported kind.

  Its header must have been checked by `read_header`.

  Args:
    encoded: The file.
    page: Page of a TIFF file, counted without copies at lower resolution.

  Returns:
    Pixels as stored, ignoring the orientation tag, channels in OpenCV's order.
    [H, W] or [H, W, C]; uint8 or uint16, for a TIFF file any type.

  Raises:
    UserError: If it cannot be decoded completely, or its size differs from the
      declared one.
  """
  if tiff_pages.is_tiff(encoded):
    return _decode_tiff(encoded, page)
  if not is_complete(encoded):
    raise UserError("not a readable image, or truncated")
  if not encoded.startswith((_JPEG, _PNG)):
    return _decode_by_pillow(encoded)
  size = stored_size(encoded)
  if size is None:
    raise UserError("not a readable image: it declares its size twice")
  image = _by_opencv(
    cv2.imdecode,
    np.frombuffer(encoded, np.uint8),
    cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION,
  )
  return _check_size(image, size)


def _decode_tiff(encoded: bytes, page: int) -> np.ndarray:
  pages = tiff_pages.read_pages(io.BytesIO(encoded))
  pages = [x for x in pages if not x.is_reduced]
  if page >= len(pages) or not _is_loadable(encoded, pages[page].index):
    raise UserError("not a readable image, or truncated")
  buffer, index = np.frombuffer(encoded, np.uint8), pages[page].index
  flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
  if index == 0:
    image = _by_opencv(cv2.imdecode, buffer, flags)
  else:
    _, images = _by_opencv(
      cv2.imdecodemulti, buffer, flags, range=(index, index + 1)
    )
    image = images[0] if len(images) else None
  if image is not None:  # OpenCV always applies the orientation of TIFF files
    image = turn_back(image, pages[page].orientation)
  return _check_size(image, (pages[page].height, pages[page].width))


def _by_opencv(function: Any, *arguments: Any, **options: Any) -> Any:
  try:
    return function(*arguments, **options)
  except cv2.error as error:  # for example, more pixels than OpenCV reads
    raise UserError(f"not readable: {error.err}") from error


def _check_size(image: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
  if image is None:
    raise UserError("not a readable image")
  if image.shape[:2] != tuple(size):
    raise UserError(
      f"not readable: its header declares {size[0]} x {size[1]} pixels, it has "
      f"{image.shape[0]} x {image.shape[1]}"
    )
  return image


def _decode_by_pillow(encoded: bytes) -> np.ndarray:
  try:
    with PIL.Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
      is_grey = image.mode in ("1", "L", "LA")
      if image.mode.startswith(("I", "F")):  # 16 or 32 bits
        return np.asarray(image)
      pixels = np.asarray(image.convert("L" if is_grey else "RGB"))
  except Exception as error:  # Pillow's decoders raise almost any exception
    raise UserError("not a readable image") from error
  return pixels if is_grey else np.ascontiguousarray(pixels[..., ::-1])


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
  """Returns an image turned upright.

  Args:
    image: [H, W] or [H, W, C].
    orientation: EXIF orientation, 1 to 8.

  Returns:
    The image as viewers show it.
  """
  if orientation in (5, 6, 7, 8):
    image = image.swapaxes(0, 1)
  if orientation in (3, 4, 7, 8):
    image = image[::-1]
  if orientation in (2, 3, 6, 7):
    image = image[:, ::-1]
  return np.ascontiguousarray(image)


def turn_back(image: np.ndarray, orientation: int) -> np.ndarray:
  """Returns an image as stored, given the upright one, see `turn`."""
  if orientation not in range(2, 9):
    return image
  return turn(image, {6: 8, 8: 6}.get(orientation, orientation))


def to_jpeg_or_png(
  encoded: bytes, *, page: int = 0, orientation: int = 1
) -> bytes:
  """Returns JPEG and PNG bytes unchanged, other images losslessly as PNG.

  Args:
    encoded: An image file of 8 or 16 bits. JPEG pixels are not decoded; only
      the end of the file is checked.
    page: Page of a TIFF file.
    orientation: EXIF orientation to apply; a JPEG that is turned becomes a PNG.

  Returns:
    Bytes of a JPEG or PNG file.

  Raises:
    UserError: If the image cannot be decoded or has neither 8 nor 16 bits.
  """
  is_kept = encoded.startswith((_JPEG, _PNG)) and orientation == 1
  if is_kept and encoded.startswith(_JPEG):
    if not is_complete(encoded):
      raise UserError("not a readable image, or truncated")
    return encoded
  image = decode(encoded, page)
  if image.dtype not in (np.uint8, np.uint16):
    raise UserError(
      f"expected an image of 8 or 16 bits, found {image.dtype} pixels"
    )
  if is_kept:
    return encoded
  return cv2.imencode(".png", turn(image, orientation))[1].tobytes()
