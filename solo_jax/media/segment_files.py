"""Panoptic and semantic maps as files: COCO's panoptic format, label images."""

import json
import pathlib
from collections.abc import Collection, Mapping, Sequence

import cv2
import numpy as np

from solo_jax import types
from solo_jax.data.panoptic_segments import to_colors

KINDS = ("panoptic", "semantic")


class SegmentFiles:
  """Writes maps, one PNG file per image, and the meaning of their values.

  panoptic/<name>.png has a segment's id as colour, R + 256 G + 65536 B;
  panoptic.json lists the segments, as in COCO. semantic/<name>.png has the
  category id of each pixel, in 8 bits or, if needed, 16; semantic/classes.json
  names them, in the form that `prepare --dataset=semantic_images` reads.
  """

  def __init__(
    self,
    out: pathlib.Path,
    kinds: Collection[str],
    *,
    class_names: Sequence[str],
    category_ids: Sequence[int],
    is_thing: Sequence[bool],
  ):
    """Creates the folders.

    Args:
      out: Folder for all results.
      kinds: Names from KINDS.
      class_names: Name of each label.
      category_ids: Category id of each label.
      is_thing: Whether each label is a thing; empty where all are.
    """
    self._out, self._kinds = out, kinds
    self._ids = np.asarray(category_ids, np.int64)
    self._names = class_names
    self._is_thing = is_thing or (True,) * len(class_names)
    self._images, self._annotations = [], []
    for kind in kinds:
      (out / kind).mkdir(parents=True, exist_ok=True)

  def add(
    self, maps: Mapping[str, types.SegmentMap], *, name: str, file_name: str
  ) -> None:
    """Writes the maps of an image.

    Args:
      maps: By kind.
      name: Name of the output files.
      file_name: File name of the image, for panoptic.json; if a file has
        several images, a different name for each.
    """
    if "panoptic" in self._kinds:
      found = maps["panoptic"]
      self._write("panoptic", name, to_colors(found.ids)[..., ::-1])  # to BGR
      height, width = found.ids.shape
      key = len(self._images) + 1
      self._images.append(
        dict(id=key, file_name=file_name, height=height, width=width)
      )
      self._annotations.append(
        dict(
          image_id=key,
          file_name=f"{name}.png",
          segments_info=self._list_segments(found),
        )
      )
    if "semantic" in self._kinds:
      found = maps["semantic"]
      kind = np.uint8 if self._ids.max() < 256 else np.uint16
      self._write("semantic", name, self._ids[found.ids - 1].astype(kind))

  def _list_segments(self, found: types.SegmentMap) -> list[dict]:
    """Returns segments_info."""
    areas = np.bincount(found.ids.ravel())
    listed = []
    for segment in found.segments:
      rows, columns = (
        np.flatnonzero((found.ids == segment.id).any(axis)) for axis in (1, 0)
      )
      size = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
      listed.append(
        dict(
          id=segment.id,
          category_id=int(self._ids[segment.label]),
          isthing=int(segment.is_thing),
          score=segment.score,
          iscrowd=0,
          area=int(areas[segment.id]),
          bbox=[int(x) for x in (columns[0], rows[0], *size)],
        )
      )
    return listed

  def _write(self, kind: str, name: str, picture: np.ndarray) -> None:
    path = self._out / kind / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    # OpenCV cannot write to a path that is not UTF-8.
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())

  def finish(self) -> None:
    """Writes the meaning of the values in all maps so far."""
    categories = [
      dict(id=int(key), name=name, isthing=int(is_thing))
      for key, name, is_thing in zip(
        self._ids, self._names, self._is_thing, strict=True
      )
    ]
    if "panoptic" in self._kinds:
      content = dict(
        images=self._images,
        annotations=self._annotations,
        categories=categories,
      )
      path = self._out / "panoptic.json"
      path.write_text(json.dumps(content), encoding="utf-8")
    if "semantic" in self._kinds:
      names = {str(x["id"]): x["name"] for x in categories}
      path = self._out / "semantic" / "classes.json"
      path.write_text(json.dumps(names), encoding="utf-8")


def to_instances(found: types.SegmentMap) -> types.Instances:
  """Returns things and stuff of a map as masks, for drawing.

  Args:
    found: Panoptic map.

  Returns:
    One mask per segment, by decreasing score.
  """
  segments = sorted(found.segments, key=lambda segment: -segment.score)
  planes = np.stack(
    [found.ids.T == segment.id for segment in segments]
    or [np.zeros(found.ids.T.shape, bool)]
  )[: len(segments)]
  boxes = np.zeros((len(segments), 4), np.float32)
  for box, plane in zip(boxes, planes, strict=True):
    x, y = np.flatnonzero(plane.any(1)), np.flatnonzero(plane.any(0))
    box[:] = x[0], y[0], x[-1] + 1, y[-1] + 1
  return types.Instances(
    masks=planes.transpose(0, 2, 1),
    scores=np.array([segment.score for segment in segments], np.float32),
    labels=np.array([segment.label for segment in segments], np.int32),
    boxes_xyxy=boxes,
  )
