r"""Finds instances in image files and draws them.

python -m solo_jax.predict --checkpoint=workdirs/shapes --out=found \
    photo.jpg scans/

Files may be of any size: RGB, grey or 16-bit; of a folder, its image files are
taken. Pixels are used as stored: an EXIF orientation is ignored, as COCO's
annotations ignore it. Below --out this writes

  overlays/<name>.png   the picture to look at
  predictions.json      COCO format: images, annotations (RLE), categories
  labels/<name>.png     with --labels: uint16 label image, 0 = background;
                        where instances overlap, the higher score wins
  scores.json           with --labels: {name: {label value: score}}
  views/<name>.png      with --views, of associative embedding: tags as colours,
                        seeds and groups beside the image

Compiled programs are kept for the next run, see inference/compilation_cache.py.
A file that cannot be read is named, the others are still done, and the exit
code is then 1.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import rich.progress
from absl import flags, logging
from rich.console import Console

from solo_jax import command, types, visualization
from solo_jax.data import transforms
from solo_jax.data.records import decode_image
from solo_jax.evaluation import coco_metrics, rle
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.inference.predictor import Predictor, to_rgb
from solo_jax.training import checkpoints
from solo_jax.training.setup import build_predictor

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
# Pixels of all masks that an overlay draws at once, a byte each.
MAX_DRAWN_PIXELS = 2**31

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
  """A file that could not be used.

  Attributes:
    path: The file.
    reason: Why not.
  """

  path: pathlib.Path
  reason: str


def predict_files(
  predictor: Predictor,
  paths: Sequence[pathlib.Path],
  out: pathlib.Path,
  *,
  class_names: Sequence[str],
  category_ids: Sequence[int],
  score_threshold: float,
  labels: bool,
  views: bool,
) -> list[Problem]:
  """Predicts files and writes everything the module's first lines list.

  Args:
    predictor: Predictor of a checkpoint.
    paths: Image files.
    out: Folder for the results; made if missing.
    class_names: Name of each label.
    category_ids: Category id of each label.
    score_threshold: Detections of a lower score are left out.
    labels: Write label images and scores.
    views: Write pictures of the network's maps.

  Returns:
    The files that could not be read.

  Raises:
    ValueError: If the method has no views.
  """
  if views and not predictor.has_views:
    raise ValueError("--views: this checkpoint's method has no maps to show")
  folders = dict(overlays=True, labels=labels, views=views)
  for folder in (name for name, is_wanted in folders.items() if is_wanted):
    (out / folder).mkdir(parents=True, exist_ok=True)
  waiting, problems, scores, entries = {}, [], {}, {}
  images = _read_images(paths, waiting, problems)
  with rich.progress.Progress(console=Console(stderr=True)) as progress:
    task = progress.add_task("predicting", total=len(paths))
    for index, instances in predictor.stream(images):
      path, name, image = waiting.pop(index)
      instances = instances.above(score_threshold)
      drawn = instances.to_dense(MAX_DRAWN_PIXELS)
      if len(drawn) < len(instances):
        logging.error(
          "the overlay of %s shows the best %d of %d instances, as many as fit "
          "into memory; predictions.json has all",
          path,
          len(drawn),
          len(instances),
        )
      picture = visualization.draw_instances(
        transforms.to_uint8(image), drawn, class_names
      )
      _write_png(out / "overlays" / f"{name}.png", picture[..., ::-1])
      if labels:
        label_image, scores[name] = make_label_image(instances)
        _write_png(out / "labels" / f"{name}.png", label_image)
      if views:
        picture = visualization.draw_views(
          transforms.to_uint8(image), predictor.views(image)
        )
        _write_png(out / "views" / f"{name}.png", picture[..., ::-1])
      height, width = image.shape[:2]
      entries[index] = (
        dict(id=index + 1, file_name=str(path), height=height, width=width),
        coco_metrics.to_results(instances, index + 1, category_ids),
      )
      progress.update(task, completed=len(entries) + len(problems))
  categories = zip(category_ids, class_names, strict=True)
  dataset = make_coco(
    [entries[i] for i in sorted(entries)],
    [dict(id=int(i), name=name) for i, name in categories],
  )
  (out / "predictions.json").write_text(json.dumps(dataset))
  if labels:
    (out / "scores.json").write_text(json.dumps(scores))
  return problems


def find_images(arguments: Sequence[str]) -> list[pathlib.Path]:
  """Lists the files that the arguments name.

  Args:
    arguments: Files, taken whatever they are called, and folders, of which the
      files with a suffix of SUFFIXES are taken (not those of sub-folders).

  Returns:
    Files in the order of the arguments, those of a folder by name.

  Raises:
    FileNotFoundError: If that is not a single file.
  """
  paths = []
  for argument in map(pathlib.Path, arguments):
    if argument.is_dir():
      paths += sorted(
        path
        for path in argument.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file()
      )
    else:
      paths.append(argument)
  if not paths:
    raise FileNotFoundError(
      f"no image files in {', '.join(arguments) or '(nothing)'}: expected "
      f"files, or folders with {', '.join(SUFFIXES)} files"
    )
  return paths


def unique_names(paths: Sequence[pathlib.Path]) -> list[str]:
  """Names the outputs of each file: its stem, numbered if it came before.

  Args:
    paths: Input files.

  Returns:
    As many names, all different: 'a', 'b', 'a_2'.
  """
  names = []
  for path in paths:
    name, number = path.stem, 1
    while name in names:
      number += 1
      name = f"{path.stem}_{number}"
    names.append(name)
  return names


def read_image(path: pathlib.Path) -> np.ndarray:
  """Reads an image file as its pixels are stored.

  Args:
    path: A file that OpenCV reads: JPEG, PNG, TIFF (its first page), ...

  Returns:
    RGB, grey repeated, alpha dropped. [H0, W0, 3] uint8 or uint16.

  Raises:
    OSError: If the file cannot be opened.
    ValueError: If it is empty, damaged, no image or not of 8 or 16 bits.
  """
  data = path.read_bytes()
  if not data:
    raise ValueError("the file is empty")
  # Not the pixels of `decode_image`, which only knows whether the file is
  # whole: in colour mode, OpenCV 5.0 misreads 16-bit RGB TIFF files.
  try:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
  except cv2.error as error:  # more pixels than OpenCV reads, for example
    raise ValueError(f"not readable: {error.err}") from error
  if image is not None:
    image = to_rgb(image)
  if image is None or decode_image(data) is None:
    raise ValueError("not an image, or damaged")
  return np.ascontiguousarray(image[..., ::-1])  # OpenCV reads BGR


def make_label_image(
  instances: types.Instances,
) -> tuple[np.ndarray, dict[str, float]]:
  """Flattens instances into one image, as microscopists exchange them.

  Args:
    instances: By falling score.

  Returns:
    label_image: 0 = background, i + 1 = instance i, the higher score where
      instances overlap. [H0, W0] uint16.
    scores: Score of each value that occurs in it, by value.
  """
  label_image = np.zeros(instances.masks.shape[1:], np.uint16)
  for i in reversed(range(len(instances))):
    rows, columns, mask = instances.crop(i)
    label_image[rows, columns][mask] = i + 1
  values = np.unique(label_image)
  return label_image, {
    str(value): float(instances.scores[value - 1])
    for value in values[values > 0]
  }


def make_coco(
  entries: Sequence[tuple[dict, list[dict]]], categories: list[dict]
) -> dict:
  """Puts predictions into the layout of a COCO annotation file.

  Args:
    entries: (entry of the image, its COCO results) in order.
    categories: COCO categories.

  Returns:
    images, annotations (results with id, area and iscrowd), categories.
  """
  annotations = []
  for _, results in entries:
    areas = rle.areas([result["segmentation"] for result in results])
    annotations += [
      dict(result, id=len(annotations) + i, area=int(area), iscrowd=0)
      for i, (result, area) in enumerate(zip(results, areas, strict=True), 1)
    ]
  return dict(
    images=[image for image, _ in entries],
    annotations=annotations,
    categories=categories,
  )


def _read_images(
  paths: Sequence[pathlib.Path],
  waiting: dict[int, tuple[pathlib.Path, str, np.ndarray]],
  problems: list[Problem],
) -> Iterator[np.ndarray]:
  """Yields the images that can be read.

  Fills `waiting` with (path, output name, image) by position among the images
  yielded, and `problems` with the files that cannot be read.
  """
  index = 0
  for path, name in zip(paths, unique_names(paths), strict=True):
    try:
      image = read_image(path)
    except (OSError, ValueError) as error:
      reason = error.strerror if isinstance(error, OSError) else str(error)
      problems.append(Problem(path=path, reason=reason))
      continue
    waiting[index] = path, name, image
    index += 1
    yield image


def _write_png(path: pathlib.Path, image: np.ndarray) -> None:
  if not cv2.imwrite(str(path), image):
    raise OSError(f"cannot write {path}")


def define_flags() -> None:
  """Defines the flags: when run, so that commands can be imported together."""
  flags.DEFINE_string(
    "checkpoint",
    None,
    "Folder of a run (newest checkpoint) or of a checkpoint.",
  )
  flags.DEFINE_string("out", None, "Folder for the results; made if missing.")
  flags.DEFINE_float(
    "score_threshold", 0.3, "Detections of a lower score are left out."
  )
  flags.DEFINE_integer(
    "batch_size", 1, "Images the network takes at once.", lower_bound=1
  )
  flags.DEFINE_boolean("labels", False, "Write label images as well.")
  flags.DEFINE_boolean(
    "views", False, "Write pictures of the maps of associative embedding."
  )
  flags.mark_flags_as_required(["checkpoint", "out"])


def main(argv: list[str]) -> None:
  """Runs the command."""
  logging.set_verbosity(logging.ERROR)  # Orbax tells every step
  use_compilation_cache()
  paths = find_images(argv[1:])
  checkpoint = checkpoints.load(FLAGS.checkpoint)
  out = pathlib.Path(FLAGS.out)
  predictor = build_predictor(
    checkpoint.config, checkpoint.variables, batch_size=FLAGS.batch_size
  )
  problems = predict_files(
    predictor,
    paths,
    out,
    class_names=checkpoint.class_names,
    category_ids=checkpoint.category_ids,
    score_threshold=FLAGS.score_threshold,
    labels=FLAGS.labels,
    views=FLAGS.views,
  )
  print(f"{len(paths) - len(problems)} images done, see {out}")
  print(predictor.summary(), file=sys.stderr)
  for problem in problems:
    print(f"{problem.path}: {problem.reason}", file=sys.stderr)
  if problems:
    sys.exit(f"{len(problems)} of {len(paths)} files could not be read")


if __name__ == "__main__":
  define_flags()
  command.run(main)
