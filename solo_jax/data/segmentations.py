"""Reads masks of annotation files in the forms that exporters write.

The form of COCO is polygons [[x1, y1, x2, y2, ...], ...] or an RLE {size,
counts}. Other forms are read if they are unambiguous, and reported.
"""

import ast
import base64
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from solo_jax.data.coco_values import is_int, is_number, show, to_int
from solo_jax.errors import UserError

# Rasterising a polygon takes 43 bytes per pixel of its outline. This is the
# outline of a comb with one-pixel teeth that fills a 2,000 x 2,000 image.
_MAX_OUTLINE = 2**22
# Characters per number of a compressed RLE: six suffice for runs of
# file_tree.PIXELS_LIMIT pixels, and pycocotools misreads the eighth.
_MAX_CHARACTERS = 7


class Unreadable(UserError):
  """A segmentation that cannot be used."""

  def __init__(self, kind: str, detail: str):
    """Makes the error.

    Args:
      kind: The problem, in the same words for all of its kind.
      detail: The same with the value found; continues after 'the annotation'.
    """
    super().__init__(detail)
    self.kind = kind


class Mask(NamedTuple):
  """A mask read from a segmentation.

  Attributes:
    rle: COCO's compressed RLE, size and counts.
    repairs: How the segmentation differed from COCO's form.
  """

  rle: dict[str, Any]
  repairs: Sequence[str]


def read_segmentation(segmentation: Any, size: list[int]) -> Mask:
  """Returns a segmentation given in any of its forms.

  Args:
    segmentation: The value in the file.
    size: [height, width] of the image.

  Returns:
    The mask, with at least one pixel.

  Raises:
    Unreadable: If it is not a mask for an image of this size.
  """
  repairs = []
  match segmentation:
    case dict():
      rle = _read_rle(segmentation, size, repairs.append)
    case [_, *_]:
      polygons = list(_read_polygons(segmentation, size, repairs.append))
      rle = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
    case other:
      raise Unreadable(
        "annotation without a mask",
        f"has the segmentation {show(other)}; need polygons or an RLE with "
        "size and counts",
      )
  if not coco_mask.area(rle):
    raise Unreadable(
      "mask without a pixel", "has a mask without a pixel inside its image"
    )
  return Mask(rle, repairs)


def _read_rle(
  segmentation: dict, size: list[int], repair: Callable[[str], None]
) -> dict[str, Any]:
  """Returns the compressed RLE."""
  given = segmentation.get("size")
  if given != size:
    read = [to_int(x) for x in given] if isinstance(given, list) else given
    if read != size:
      swapped = ""
      if read == size[::-1]:
        swapped = (
          ": width and height are swapped, either here only or also in the "
          "order of its pixels, so that it is not read"
        )
      raise Unreadable(
        "RLE of another size than its image",
        f"has an RLE of size {show(given)}; its image is {size} (height, width)"
        + swapped,
      )
    repair("RLE whose size is not of integers")
  runs, form = _read_counts(segmentation.get("counts"), size[0] * size[1])
  if form:
    repair(form)
  # pycocotools computes boxes of 2^32 pixels from inner runs of length 0.
  whole = [0]
  for i, run in enumerate(runs):
    if run and i % 2 == len(whole) % 2:
      whole.append(run)
    else:
      whole[-1] += run
  return coco_mask.frPyObjects({"size": size, "counts": whole}, *size)


def _read_counts(counts: Any, num_pixels: int) -> tuple[list[int], str | None]:
  """Returns run lengths over all pixels, and their form if not COCO's."""
  first, readings = None, []
  for form, read in _READINGS:
    try:
      runs = read(counts)
      _check_runs(runs, num_pixels)
    except (Unreadable, ValueError, SyntaxError) as error:
      is_own = isinstance(error, Unreadable)
      first = error if first is None and is_own else first
      continue
    if form is None:
      return runs, None
    readings.append((runs, form))
  if not readings:
    raise first
  if len(readings) > 1:
    forms = " or ".join(form for _, form in readings)
    raise Unreadable("RLE that can be read in two ways", f"has an {forms}")
  return readings[0]


def _check_runs(runs: Any, num_pixels: int) -> None:
  if not isinstance(runs, list) or not all(is_int(x) and x >= 0 for x in runs):
    raise Unreadable(
      "RLE counts that are not run lengths",
      "has RLE counts that are not run lengths",
    )
  if sum(runs) != num_pixels:
    raise Unreadable(
      "RLE counts over another number of pixels",
      f"has RLE counts over {sum(runs)} pixels; its image has {num_pixels}",
    )


def _as_written(counts: Any) -> Any:
  """Returns COCO's own form: a list of integers or compressed text."""
  if not isinstance(counts, str):
    return counts
  try:
    return _decode_counts(counts)
  except ValueError as error:
    raise Unreadable(
      "compressed RLE that cannot be decoded",
      f"has a compressed RLE that cannot be decoded: {error}",
    ) from error


def _from_numbers(counts: Any) -> list[int | None]:
  """Returns whole numbers that are written as floats or text."""
  if isinstance(counts, str):
    if not re.fullmatch(r"[\d.\s,;\[\]]*\d[\s,;][\d.\s,;\[\]]*", counts):
      raise ValueError("no list of numbers")
    counts = re.findall(r"[\d.]+", counts)
  elif not isinstance(counts, list) or all(is_int(x) for x in counts):
    raise ValueError("no list of floats")
  return [to_int(x) for x in counts]


def _from_bytes_text(counts: Any) -> list[int]:
  """Returns the bytes of Python's text for bytes: "b'...'"."""
  if not isinstance(counts, str) or not re.fullmatch(
    r"""b'[^']*'|b"[^"]*\"""", counts
  ):
    raise ValueError("no text of bytes")
  return _decode_counts(ast.literal_eval(counts).decode("ascii"))


def _from_escaped(counts: Any) -> list[int]:
  """Returns compressed text whose backslashes were doubled."""
  if not isinstance(counts, str) or "\\\\" not in counts:
    raise ValueError("no backslashes")
  return _decode_counts(counts.replace("\\\\", "\\"))


def _from_codes(counts: Any) -> list[int]:
  """Returns compressed text given as a list of its byte values."""
  if not isinstance(counts, list) or not all(
    is_int(x) and 48 <= x < 112 for x in counts
  ):
    raise ValueError("no codes of characters")
  return _decode_counts(bytes(counts).decode("ascii"))


def _from_base64(counts: Any) -> list[int]:
  """Returns compressed text that is packed in base64."""
  if not isinstance(counts, str):
    raise ValueError("no text")
  # Invalid base64, or text that is not ASCII, also raises ValueError.
  text = base64.b64decode(counts, validate=True).decode("ascii")
  return _decode_counts(text)


# Forms of counts, COCO's first.
_READINGS = (
  (None, _as_written),
  ("RLE whose counts are floats or text", _from_numbers),
  ("RLE whose counts are the text of bytes, b'...'", _from_bytes_text),
  ("RLE whose counts have doubled backslashes", _from_escaped),
  ("RLE whose counts are bytes as numbers", _from_codes),
  ("RLE whose counts are base64", _from_base64),
)


def _decode_counts(text: str) -> list[int]:
  """Returns COCO's run lengths, decompressed; ValueError if malformed.

  Each character from '0' has six bits: five of a number, low first, and one
  that is set if the number continues. From the fourth number on, each is the
  difference from the number two before.
  """
  counts, value, shift = [], 0, 0
  for character in text:
    bits = ord(character) - 48
    if not 0 <= bits < 64:
      raise ValueError(f"character {character!r}")
    value |= (bits & 31) << shift
    shift += 5
    if bits & 32:
      if shift == 5 * _MAX_CHARACTERS:
        raise ValueError(f"a number of more than {_MAX_CHARACTERS} characters")
      continue
    if bits & 16:
      value |= -1 << shift
    counts.append(value + counts[-2] if len(counts) > 2 else value)
    value = shift = 0
  if shift:
    raise ValueError("an unfinished number")
  return counts


def _read_polygons(
  segmentation: list, size: list[int], repair: Callable[[str], None]
) -> Iterator[list[float]]:
  """Yields the valid polygons as flat lists, at least one."""
  found, errors = [], []
  for polygon in _to_list_of_polygons(segmentation, repair):
    try:
      found.append(_read_polygon(polygon, size, repair))
    except Unreadable as error:
      errors.append(error)
  wrong = [x for x in errors if x.kind != _FEW_POINTS]
  if wrong or not found:
    raise (wrong or errors)[0]
  if errors:
    repair("part of fewer than 3 points next to valid ones, skipped")
  yield from found


_FEW_POINTS = "polygon of fewer than 3 points"


def _to_list_of_polygons(
  segmentation: list, repair: Callable[[str], None]
) -> list[Any]:
  """Returns a list of polygons, also for a polygon that is not in a list."""
  if all(map(is_number, segmentation)):
    repair("polygon that is not in a list of polygons")
    return [segmentation]
  if len(segmentation) > 2 and all(map(_is_point, segmentation)):
    repair("polygon of point pairs that is not in a list of polygons")
    return [segmentation]
  return segmentation


def _is_point(value: Any) -> bool:
  match value:
    case [x, y] | {"x": x, "y": y}:
      return is_number(x) and is_number(y)
  return False


def _read_polygon(
  polygon: Any, size: list[int], repair: Callable[[str], None]
) -> list[float]:
  """Returns [x1, y1, x2, y2, ...], checked."""
  if isinstance(polygon, list) and polygon and all(map(_is_point, polygon)):
    repair("polygon of point pairs")
    polygon = [
      x
      for point in polygon
      for x in ((point["x"], point["y"]) if isinstance(point, dict) else point)
    ]
  if not isinstance(polygon, list):
    raise Unreadable(
      "polygon that is not a list of numbers",
      f"has {show(polygon)} instead of a polygon; need a list of numbers "
      "[x1, y1, x2, y2, ...]",
    )
  for value in polygon:
    if not is_number(value):
      raise Unreadable(
        "polygon that is not a list of numbers",
        f"has a polygon that is not a list of numbers: {show(value)} in it; "
        "need [x1, y1, x2, y2, ...]",
      )
  if len(polygon) < 6 or len(polygon) % 2:
    is_odd = len(polygon) % 2 and len(polygon) > 6
    raise Unreadable(
      "polygon of an odd number of coordinates" if is_odd else _FEW_POINTS,
      f"has a polygon of {len(polygon)} numbers; need an even number, at "
      "least 6 (3 points)",
    )
  _check_extent(np.asarray(polygon, np.float64).reshape(-1, 2), size)
  return polygon


def _check_extent(points: np.ndarray, size: list[int]) -> None:
  """Raises for polygons that would take long to rasterise."""
  extent = np.array([size[1], size[0]])
  far = ((points < -extent) | (points > 2 * extent)).any(1)
  if far.any():
    x, y = points[far][0]
    raise Unreadable(
      "polygon with a point far outside its image",
      f"has a polygon point ({x:g}, {y:g}) far outside its image",
    )
  edges = np.diff(points, axis=0, append=points[:1])
  outline = np.abs(edges).max(1).sum()
  if outline > _MAX_OUTLINE:
    raise Unreadable(
      "polygon with an outline that is too long",
      f"has a polygon of {len(points)} points whose outline is {outline:.0f} "
      f"pixels long; at most {_MAX_OUTLINE} are read",
    )
