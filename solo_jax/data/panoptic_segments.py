"""Segments of panoptic PNG files and their entries in the JSON.

A pixel's colour is the id of its segment: R + 256 G + 65536 B, 0 for none
(https://arxiv.org/abs/1801.00868, COCO's format).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from solo_jax.data.coco_values import is_int, show, to_int
from solo_jax.data.examples import ObjectRecord
from solo_jax.data.findings import Findings
from solo_jax.data.image_files import decode
from solo_jax.data.label_pieces import encode_labels
from solo_jax.errors import UserError

MAX_ID = 2**24 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
  """The JSON entry of a segment.

  Attributes:
    id: Its value in the PNG, 1 to MAX_ID.
    label: Class of the segment.
    is_crowd: COCO's iscrowd.
    area: Area in pixels; None if missing.
  """

  id: int
  label: int
  is_crowd: bool
  area: int | None


def read_ids(encoded: bytes) -> np.ndarray:
  """Returns the segment id of each pixel.

  Args:
    encoded: A PNG file of 8 bits whose header was checked: RGB, RGBA (alpha
      is dropped), a palette of such colours, or grey, whose values are the ids
      themselves.

  Returns:
    [H, W] int64 from 0 to MAX_ID.

  Raises:
    UserError: If it cannot be decoded or has other pixels.
  """
  image = decode(encoded)
  if image.dtype != np.uint8:
    raise UserError(f"has pixels of {image.dtype}; need colours of 8 bits")
  if image.ndim == 2:
    return image.astype(np.int64)
  return image[..., :3].astype(np.int64) @ [65536, 256, 1]  # BGR


def to_colors(ids: np.ndarray) -> np.ndarray:
  """Returns the colours of segment ids, the reverse of `read_ids`.

  Args:
    ids: [H, W] int from 0 to MAX_ID.

  Returns:
    RGB. [H, W, 3] uint8.

  Raises:
    ValueError: If an id has no colour.
  """
  if ids.size and not 0 <= ids.min() <= ids.max() <= MAX_ID:
    raise ValueError(f"ids {ids.min()} to {ids.max()} exceed 0 to {MAX_ID}")
  return (ids[..., None] >> np.array([0, 8, 16]) & 255).astype(np.uint8)


def read_segments(
  items: Any, labels: Mapping[int, int], where: str, findings: Findings
) -> list[Segment]:
  """Returns the valid segments of an image.

  Args:
    items: Its segments_info.
    labels: Label of each category id.
    where: File and image, for messages.
    findings: Collects problems.

  Returns:
    The segments; the pixels of a skipped segment become void.
  """
  if not isinstance(items, list):
    kind = "image without a list segments_info"
    findings.problems.add(kind, f"{where}: segments_info is {show(items)}.")
    return []
  segments = {}
  for item in items:
    problem = _find_problem(item, labels, segments)
    if problem:
      kind, detail = problem
      findings.problems.add(kind, f"{where}: segment {detail}.")
      continue
    area = item.get("area")
    segments[to_int(item["id"])] = Segment(
      id=to_int(item["id"]),
      label=labels[to_int(item["category_id"])],
      is_crowd=bool(to_int(item.get("iscrowd") or 0)),
      area=area if is_int(area) else None,
    )
  return [*segments.values()]


def _find_problem(
  item: Any, labels: Mapping[int, int], seen: Mapping[int, Segment]
) -> tuple[str, str] | None:
  """Returns the problem of an entry of segments_info, or None."""
  key = to_int(item.get("id")) if isinstance(item, dict) else None
  if key is None or not 1 <= key <= MAX_ID:
    kind = "segment without an id from 1 to 16777215"
    return kind, f"{show(item)} has no such id"
  if key in seen:
    return "segment whose id is used before", f"{key}: its id is used before"
  if to_int(item.get("category_id")) not in labels:
    return (
      "segment of an unknown category",
      f"{key} has the unknown category_id {show(item.get('category_id'))}",
    )
  if item.get("iscrowd") not in (None, 0, 1, "0", "1", False, True):
    return (
      "segment whose iscrowd is neither 0 nor 1",
      f"{key} has iscrowd {show(item['iscrowd'])}",
    )
  return None


def make_objects(
  ids: np.ndarray, segments: Sequence[Segment], image_number: int, where: str
) -> tuple[list[ObjectRecord], list[tuple[str, str]]]:
  """Returns the segments of an image as objects, with masks from the PNG.

  Args:
    ids: Segment of each pixel. [H, W] int64.
    segments: Entries of the JSON.
    image_number: Number of the image in its split: annotation ids are this
      times 2^24 plus the segment's id, to be traceable.
    where: File and image, for messages.

  Returns:
    The objects, and (kind, line) of each difference between PNG and JSON.
  """
  encoded = encode_labels(ids)
  notes = list(_compare(encoded, segments, where))
  objects = [
    ObjectRecord(
      annotation_id=image_number * (MAX_ID + 1) + segment.id,
      label=segment.label,
      is_crowd=segment.is_crowd,
      rle=encoded[segment.id]["counts"],
      area=float(coco_mask.area(encoded[segment.id])),
      box_xywh=tuple(coco_mask.toBbox(encoded[segment.id])),
    )
    for segment in segments
    if segment.id in encoded
  ]
  return objects, notes


def _compare(
  encoded: Mapping[int, dict], segments: Sequence[Segment], where: str
) -> Iterator[tuple[str, str]]:
  """Yields (kind, line) for differences between PNG and JSON."""
  listed = {segment.id for segment in segments}
  for segment in segments:
    if segment.id not in encoded:
      kind = "segment without a pixel, skipped"
      yield kind, f"{where}: segment {segment.id} has no pixel"
      continue
    area = int(coco_mask.area(encoded[segment.id]))
    if segment.area not in (None, area):
      yield (
        "segment with another area than its pixels, which count",
        f"{where}: segment {segment.id} has {area} pixels, area {segment.area}",
      )
  surplus = sorted(encoded.keys() - listed)
  if surplus:
    yield (
      "pixels of a segment that is not listed, read as void",
      f"{where}: {len(surplus)} ids such as {surplus[0]} are not listed",
    )
