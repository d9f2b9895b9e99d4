"""Writes the results of predict: pictures, masks, label and COCO files."""

import contextlib
import json
import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import Self

import cv2
import numpy as np
from absl import logging

from solo_jax import types, visualization
from solo_jax.data import transforms
from solo_jax.errors import UserError
from solo_jax.evaluation import coco_metrics, rle
from solo_jax.evaluation.label_images import flatten
from solo_jax.media import segment_files, video
from solo_jax.media.coco_file import CocoFile, area_of, to_polygons

KINDS = ("overlay", "masks", "polygons", "rle", "labels", "views")
KINDS += segment_files.KINDS
# Kinds with a folder that has one file per image.
FOLDERS = {
  "overlay": "overlays",
  "masks": "masks",
  "labels": "labels",
  "views": "views",
}
# Kinds with one COCO file for all images.
COCO_FILES = {"rle": "predictions.json", "polygons": "polygons.json"}
# Pixels of all masks that an overlay draws at once, one byte each.
MAX_DRAWN_PIXELS = 2**31
MAX_VALUE = np.iinfo(np.uint16).max  # of a label image


class Results(contextlib.ExitStack):
  """The files of one call; leaving the context finishes them.

  The files are complete up to that point, even after an error or Ctrl-C.

  Attributes:
    num_images: Images and frames so far.
  """

  def __init__(
    self,
    out: pathlib.Path,
    kinds: Collection[str],
    *,
    class_names: Sequence[str],
    category_ids: Sequence[int],
    is_thing: Sequence[bool] = (),
    look: visualization.Look = visualization.Look(),  # noqa: B008, frozen
  ):
    """Creates the folders.

    Args:
      out: Folder for all results; created if missing.
      kinds: Names from KINDS.
      class_names: Name of each label.
      category_ids: Category id of each label.
      is_thing: Whether each label is a thing; empty where all are.
      look: Look of the overlays.

    Raises:
      UserError: If a kind is unknown, or there is none.
    """
    super().__init__()
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
      raise UserError(
        f"unknown kinds of results: {', '.join(unknown) or '(none given)'}; "
        f"choose from {', '.join(KINDS)}"
      )
    self.num_images = 0
    self._kinds = frozenset(kinds)
    self._class_names = class_names
    self._category_ids = category_ids
    self._look = look
    self._out = out
    out.mkdir(parents=True, exist_ok=True)
    for kind in self._kinds & set(FOLDERS):
      (out / FOLDERS[kind]).mkdir(exist_ok=True)
    self._segments = segment_files.SegmentFiles(
      out,
      self._kinds & set(segment_files.KINDS),
      class_names=class_names,
      category_ids=category_ids,
      is_thing=is_thing,
    )
    self._scores = {}  # of label images, by name
    self._videos = []
    categories = [
      dict(id=int(i), name=name)
      for i, name in zip(category_ids, class_names, strict=True)
    ]
    self._coco = {
      kind: CocoFile(out / name, categories, self._videos)
      for kind, name in COCO_FILES.items()
      if kind in self._kinds
    }

  def __enter__(self) -> Self:
    """Returns this writer with its files open."""
    for file in self._coco.values():
      self.enter_context(file)
    self.callback(self._segments.finish)
    if self.has("labels"):
      self.callback(
        lambda: (self._out / "scores.json").write_text(
          json.dumps(self._scores), encoding="utf-8"
        )
      )
    return super().__enter__()

  def has(self, kind: str) -> bool:
    """Returns whether a kind of output is wanted."""
    return kind in self._kinds

  @contextlib.contextmanager
  def start_video(
    self, source: video.VideoFile | video.Camera, file_name: str, name: str
  ) -> Iterator["VideoResults"]:
    """Returns a video writer; its files are complete once the context exits.

    Args:
      source: The video.
      file_name: For the COCO files.
      name: Name of its output files.

    Yields:
      The writer of its frames.
    """
    height, width = source.size
    self._videos.append(
      dict(
        id=len(self._videos) + 1,
        file_name=file_name,
        height=height,
        width=width,
        fps=float(source.rate),
      )
    )
    with contextlib.ExitStack() as stack:
      writer = None
      if self.has("overlay"):
        path = self._out / FOLDERS["overlay"] / f"{name}.mp4"
        writer = video.VideoWriter(path, source.rate)
        stack.enter_context(contextlib.closing(writer))
      yield VideoResults(self, len(self._videos), file_name, name, writer)

  def add(
    self,
    image: np.ndarray,
    instances: types.Instances,
    *,
    file_name: str,
    name: str,
    views: dict[str, np.ndarray],
    maps: dict[str, types.SegmentMap],
    page: int | None = None,
  ) -> None:
    """Writes the results of an image.

    Args:
      image: RGB. [H0, W0, 3] uint8 or uint16.
      instances: Its instances, by decreasing score.
      file_name: For the COCO files.
      name: Name of the output files.
      views: Pictures of the network's maps by title, for the kind 'views'.
      maps: Panoptic and semantic maps, for the kinds of these names.
      page: Page of the file, from 0, if it has several.
    """
    entry = {} if page is None else {"page_index": page}
    self._add(image, instances, name, file_name, entry, views, None)
    self._segments.add(
      maps, name=name, file_name=file_name if page is None else name
    )
    if self.has("overlay"):
      if "panoptic" in maps:  # things and stuff
        instances = segment_files.to_instances(maps["panoptic"])
      picture = self._draw(image, instances, file_name, None)
      self._write_picture("overlay", name, picture)

  def _add(self, image, instances, name, file_name, entry, views, tracks):
    """Writes everything but the overlay."""
    self.num_images += 1
    height, width = image.shape[:2]
    self._add_coco(
      dict(
        id=self.num_images,
        file_name=file_name,
        height=height,
        width=width,
        **entry,
      ),
      instances,
      tracks,
    )
    values = np.arange(1, len(instances) + 1) if tracks is None else tracks
    if self.has("masks"):
      (self._out / "masks" / name).mkdir(parents=True, exist_ok=True)
      for i, value in enumerate(values):
        mask = np.zeros((height, width), np.uint8)
        rows, columns, inside = instances.crop(i)
        mask[rows, columns][inside] = 255
        self._write_picture("masks", f"{name}/{value:04d}", mask)
    if self.has("labels"):
      label_image, self._scores[name] = make_label_image(instances, values)
      self._write_picture("labels", name, label_image)
    if self.has("views"):
      picture = visualization.draw_views(transforms.to_uint8(image), views)
      self._write_picture("views", name, picture)

  def _add_coco(self, entry, instances, tracks):
    """Writes an image's entry and annotations into the COCO files."""
    if not self._coco:
      return
    annotations = coco_metrics.to_results(
      instances, entry["id"], self._category_ids
    )
    areas = rle.areas([x["segmentation"] for x in annotations])
    for i, annotation in enumerate(annotations):
      annotation |= dict(area=int(areas[i]), iscrowd=0)
      if tracks is not None:
        annotation["track_id"] = int(tracks[i])
    if self.has("rle"):
      self._coco["rle"].add(entry, annotations)
    if self.has("polygons"):
      for i, annotation in enumerate(annotations):
        polygons = to_polygons(*instances.crop(i))
        annotation |= dict(segmentation=polygons, area=area_of(polygons))
      # Readers treat an empty list of polygons as damage.
      drawn = [x for x in annotations if x["segmentation"]]
      self._coco["polygons"].add(entry, drawn)

  def _draw(self, image, instances, file_name, tracks):
    drawn = instances.to_dense(MAX_DRAWN_PIXELS)
    if len(drawn) < len(instances):
      logging.error(
        "the overlay of %s shows the best %d of %d instances, as many as fit "
        "into memory; the other results have all",
        file_name,
        len(drawn),
        len(instances),
      )
    return visualization.draw_instances(
      transforms.to_uint8(image),
      drawn,
      self._class_names,
      tracks=None if tracks is None else tracks[: len(drawn)],
      look=self._look,
    )

  def _write_picture(self, kind, name, picture):
    path = self._out / FOLDERS[kind] / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture.ndim == 3:
      picture = picture[..., ::-1]  # OpenCV writes BGR
    # OpenCV cannot write to a path that is not UTF-8.
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


class VideoResults:
  """Writes the results of a video, frame by frame."""

  def __init__(
    self,
    results: Results,
    video_id: int,
    file_name: str,
    name: str,
    writer: video.VideoWriter | None,
  ):
    """Prepares for the first frame.

    Args:
      results: Writer of everything but the overlay.
      video_id: Video id of the video, for the COCO files.
      file_name: File name of the video, for the COCO files.
      name: Name of the video's output files.
      writer: Writer of the overlay; None if none is wanted.
    """
    self._results = results
    self._video_id = video_id
    self._file_name = file_name
    self._name = name
    self._writer = writer
    self._index = 0  # of the next frame

  def add(
    self,
    frame: video.Frame,
    instances: types.Instances,
    tracks: np.ndarray,
    *,
    views: dict[str, np.ndarray],
    maps: dict[str, types.SegmentMap],
  ) -> None:
    """Writes the results of the next frame.

    Args:
      frame: The frame.
      instances: Its instances, by decreasing score.
      tracks: Track of each instance, from 1. [M] int.
      views: See `Results.add`.
      maps: See `Results.add`.
    """
    results, file_name = self._results, self._file_name
    entry = dict(
      video_id=self._video_id, frame_index=self._index, seconds=frame.seconds
    )
    name = f"{self._name}/{self._index:06d}"
    results._add(frame.image, instances, name, file_name, entry, views, tracks)
    results._segments.add(maps, name=name, file_name=name)
    if self._writer is not None:
      if "panoptic" in maps:  # segments have no tracks
        instances = segment_files.to_instances(maps["panoptic"])
        tracks = None
      picture = results._draw(frame.image, instances, file_name, tracks)
      self._writer.write(video.Frame(image=picture, seconds=frame.seconds))
    self._index += 1


def make_label_image(
  instances: types.Instances, values: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
  """Returns instances as one label image, the usual format in microscopy.

  Args:
    instances: By decreasing score.
    values: Value of each instance in the image, from 1. Values above 16 bits
      are left out and logged. [M] int.

  Returns:
    label_image: 0 = background, the higher score where instances overlap; an
      instance is left out if better ones hide more than half of it. [H0, W0]
      uint16.
    scores: Score of each value that occurs in it, by value.
  """
  fits = np.flatnonzero(values <= MAX_VALUE)
  if len(fits) < len(values):
    logging.error(
      "a label image leaves out %d instances with numbers above %d",
      len(values) - len(fits),
      MAX_VALUE,
    )
  owner = flatten((instances.crop(i) for i in fits), instances.masks.shape[1:])
  kept = fits[np.unique(owner[owner > 0]) - 1]
  scores = {str(values[i]): float(instances.scores[i]) for i in kept}
  table = np.append(0, values[fits]).astype(np.uint16)
  return table[owner], scores
