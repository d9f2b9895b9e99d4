"""The images of a report: objects, detections and mistakes.

Pictures are drawn in the browser, from the image and the outlines of its masks,
so that colours, sizes and contents can be changed there.
"""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from solo_jax.evaluation import errors, operating_point
from solo_jax.evaluation.comparison import AREAS, Comparison, rows_of

# A page with at most this many bytes of pictures opens in two seconds; pictures
# of a larger one are in a folder next to it and are read when they are shown.
MAX_BYTES = 48_000_000
FOLDER = "report_images"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
  """An image of a report before it is drawn.

  Attributes:
    entry: Its data in the page, without picture and outlines.
    objects: Masks of the objects, as COCO RLE, in the order of `entry`.
    found: Masks of the detections, likewise.
    is_large: Whether it is among the images shown first.
  """

  entry: dict[str, Any]
  objects: list[dict]
  found: list[dict]
  is_large: bool

  @property
  def image_id(self) -> int:
    """Returns the id of the image."""
    return self.entry["image_id"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outline:
  """The outline of a mask.

  Attributes:
    path: As SVG writes it; '' for an empty mask.
    box: Left, top, width and height.
    deepest: (x, y) of the point that is farthest from the edge.
  """

  path: str
  box: tuple[int, int, int, int]
  deepest: tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
  """The data from which the browser draws an image.

  Attributes:
    name: Name of the image's file.
    jpeg: The image, maybe reduced.
    unit: Steps of the outlines per pixel of the image.
    objects: One per entry of `Shown.objects`.
    found: One per entry of `Shown.found`.
  """

  name: str
  jpeg: bytes
  unit: int
  objects: list[Outline]
  found: list[Outline]


def describe(
  image: operating_point.ImageQuality,
  masks: Comparison,
  outcomes: errors.Outcomes,
  *,
  score_threshold: float,
  is_large: bool,
) -> Shown:
  """Returns the objects and detections of an image.

  Args:
    image: Quality of the image.
    masks: Finished comparison.
    outcomes: Its outcomes.
    score_threshold: Detections of a lower score are left out.
    is_large: See `Shown`.

  Returns:
    The image. For a detection, `object` is the row of the object that it found
    or should have found, and `match` that of the object that it covers in any
    class; -1 for none.
  """
  rows = rows_of(outcomes.object_image_ids, image.image_id)
  here = rows_of(outcomes.image_ids, image.image_id)
  kept = here.start + np.flatnonzero(outcomes.scores[here] >= score_threshold)
  kept = kept[np.argsort(-outcomes.scores[kept], kind="mergesort")]
  # Like the confusion matrix, which leaves out ignored detections.
  counted = outcomes.kinds[kept] != errors.IGNORED
  matches = np.full(len(kept), -1)
  matches[counted] = operating_point.match_any_class(
    masks, outcomes.detection_ids[kept[counted]], outcomes.object_ids[rows]
  )
  objects = [masks.truth.annotations[row] for row in outcomes.object_ids[rows]]
  detections = [masks.results[row] for row in outcomes.detection_ids[kept]]
  size = masks.truth.images[image.image_id]
  return Shown(
    entry=dict(
      image_id=image.image_id,
      quality=image.quality,
      height=size["height"],
      width=size["width"],
      objects=[
        dict(label=label, size=_size_of(annotation["area"]))
        for label, annotation in zip(
          outcomes.object_labels[rows], objects, strict=True
        )
      ],
      found=[
        dict(
          label=outcomes.labels[i],
          score=round(float(outcomes.scores[i]), 6),
          kind=errors.KINDS[outcomes.kinds[i]],
          object=max(outcomes.objects[i] - rows.start, -1),
          match=match,
        )
        for i, match in zip(kept, matches, strict=True)
      ],
    ),
    objects=[annotation["segmentation"] for annotation in objects],
    found=[detection["segmentation"] for detection in detections],
    is_large=is_large,
  )


def _size_of(area: float) -> int:
  """Returns 0, 1 or 2 for small, medium and large, by the annotated area."""
  limits = AREAS["small"][1], AREAS["medium"][1]
  return int(np.searchsorted(limits, area, side="right"))


def join(
  shown: Sequence[Shown],
  pictures: Mapping[int, Picture],
  folder: epath.Path,
) -> list[dict[str, Any]]:
  """Returns images joined with their pictures.

  Args:
    shown: Images of the page.
    pictures: By image id.
    folder: Folder of the page. If the pictures are too large for one file,
      those not shown first are written below it.

  Returns:
    The data of the page, one dict per image.
  """
  is_one_file = sum(len(p.jpeg) for p in pictures.values()) <= MAX_BYTES
  entries = []
  for image in shown:
    picture = pictures[image.image_id]
    if is_one_file or image.is_large:
      source = "data:image/jpeg;base64,"
      source += base64.b64encode(picture.jpeg).decode()
    else:
      source = f"{FOLDER}/{image.image_id}.jpg"
      (folder / FOLDER).mkdir(exist_ok=True)
      (folder / source).write_bytes(picture.jpeg)
    entry = dict(
      image.entry,
      # As text: numbers of a browser are exact up to 2^53 only.
      image_id=str(image.image_id),
      name=picture.name,
      unit=picture.unit,
      picture=source,
    )
    for part in ("objects", "found"):
      entry[part] = [
        {**item, **dataclasses.asdict(outline)}
        for item, outline in zip(
          entry[part], getattr(picture, part), strict=True
        )
      ]
    entries.append(entry)
  return entries
