"""What the web page shows and offers for download."""

import html
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from solo_jax import types
from solo_jax.api import Predictor
from solo_jax.media.saving import Results


def select(
  instances: types.Instances, score: float, area: float
) -> types.Instances:
  """Returns the instances of at least a score and an area.

  Args:
    instances: By decreasing score.
    score: Smallest score.
    area: Fewest pixels.

  Returns:
    The selected instances, in the same order.
  """
  instances = instances.above(score)
  areas = np.array([instances.crop(i)[2].sum() for i in range(len(instances))])
  return instances.take(np.flatnonzero(areas >= area))


def describe(
  predictor: Predictor, instances: types.Instances
) -> list[dict[str, Any]]:
  """Returns a description of each instance.

  Args:
    predictor: Predictor of the checkpoint.
    instances: By decreasing score.

  Returns:
    One table row per instance, by column.
  """
  rows = []
  for i in range(len(instances)):
    left, top, right, bottom = instances.boxes_xyxy[i].astype(int).tolist()
    rows.append(
      {
        "#": i + 1,
        "class": predictor.class_names[instances.labels[i]],
        "score": f"{instances.scores[i]:.3f}",
        "area": int(instances.crop(i)[2].sum()),
        "box": f"{left}, {top} to {right}, {bottom}",
      }
    )
  return rows


def to_html(rows: Sequence[dict[str, Any]]) -> str:
  """Returns an HTML table of rows of equal columns; '' without rows."""
  if not rows:
    return ""

  def line(cells, tag):
    cells = (f"<{tag}>{html.escape(str(x))}</{tag}>" for x in cells)
    return f"<tr>{''.join(cells)}</tr>"

  body = "".join(line(row.values(), "td") for row in rows)
  return f"<table>{line(rows[0], 'th')}{body}</table>"


def write_json(
  folder: pathlib.Path,
  predictor: Predictor,
  image: np.ndarray,
  instances: types.Instances,
  name: str,
) -> pathlib.Path:
  """Writes instances in COCO's format, as `predict` does.

  Args:
    folder: Folder to write to.
    predictor: Predictor of the checkpoint.
    image: The image.
    instances: What to write.
    name: Name of the image's file.

  Returns:
    Path of the file.
  """
  with Results(
    folder,
    kinds=["rle"],
    class_names=predictor.class_names,
    category_ids=predictor.category_ids,
  ) as results:
    results.add(
      image, instances, file_name=name, name="image", views={}, maps={}
    )
  return folder / "predictions.json"
