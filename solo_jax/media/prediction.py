"""Predicts images, videos and cameras, and saves the results."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np
import rich.progress

from solo_jax import types
from solo_jax.errors import UserError, printable
from solo_jax.inference.predictor import Predictor
from solo_jax.inference.segmentation import KINDS as SEGMENTS
from solo_jax.inference.segmentation import Segmenter
from solo_jax.media import video
from solo_jax.media.inputs import Inputs
from solo_jax.media.output_names import output_names
from solo_jax.media.reading import ImageReader
from solo_jax.media.saving import Results
from solo_jax.media.tracking import Tracker
from solo_jax.visualization import Look

MISSED_SECONDS = 1.0  # after which a track is dropped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
  """An input that could not be used, or only in part.

  Attributes:
    path: The file, or 'camera 0' for a camera.
    reason: The reason.
  """

  path: pathlib.Path
  reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
  """What predicting needs for every input.

  Attributes:
    predictor: Predictor of a checkpoint.
    segmenter: Segmenter of panoptic and semantic maps; None where none are
      wanted.
    score_threshold: Detections of a lower score are left out.
    reader: How image files are read.
    results: Writer of the results.
    progress: Progress display.
    problems: Problems so far.
  """

  predictor: Predictor
  segmenter: Segmenter | None
  score_threshold: float
  reader: ImageReader
  results: Results
  progress: rich.progress.Progress
  problems: list[Problem]

  def views(self, image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the pictures of the network's maps if they are wanted."""
    return self.predictor.views(image) if self.results.has("views") else {}

  def maps(self, image: np.ndarray) -> dict[str, types.SegmentMap]:
    """Returns the panoptic and semantic maps that are wanted."""
    return {} if self.segmenter is None else self.segmenter(image)

  def fail(self, path: pathlib.Path, error: OSError | UserError) -> None:
    """Records why an input could not be used."""
    is_of_system = isinstance(error, OSError) and error.strerror
    reason = error.strerror if is_of_system else str(error)
    self.problems.append(Problem(path=path, reason=reason))


def predict_inputs(
  predictor: Predictor,
  inputs: Inputs,
  out: pathlib.Path,
  *,
  score_threshold: float,
  save: Collection[str],
  reader: ImageReader = ImageReader(),  # noqa: B008, frozen
  progress: rich.progress.Progress,
  look: Look = Look(),  # noqa: B008, frozen
) -> tuple[int, list[Problem]]:
  """Returns the inputs that could not be read; writes what predict.py lists.

  Args:
    predictor: Predictor of a checkpoint.
    inputs: Files and cameras.
    out: Folder for the results; created if missing.
    score_threshold: Detections of a lower score are left out.
    save: Kinds of results, see `saving.KINDS`.
    reader: How image files are read.
    progress: Progress display; started and stopped here.
    look: Look of the overlays.

  Returns:
    The number of images and frames, and the problems.

  Raises:
    UserError: If a kind is unknown, or the method has no views or maps.
  """
  if "views" in save and not predictor.has_views:
    raise UserError(
      "--save=views: this checkpoint's method has no maps to show"
    )
  kinds = [kind for kind in SEGMENTS if kind in save]
  segmenter = Segmenter(predictor, kinds) if kinds else None
  cameras = [pathlib.Path(f"camera {index}") for index in inputs.cameras]
  names = output_names([*inputs.images, *inputs.videos])
  names += output_names(cameras)
  results = Results(
    out,
    save,
    class_names=predictor.class_names,
    category_ids=predictor.category_ids,
    is_thing=() if segmenter is None else segmenter.is_thing,
    look=look,
  )
  with results, progress:
    job = _Job(
      predictor=predictor,
      segmenter=segmenter,
      score_threshold=score_threshold,
      reader=reader,
      results=results,
      progress=progress,
      problems=[],
    )
    _predict_images(job, inputs.images, names)
    names = iter(names[len(inputs.images) :])
    for path in inputs.videos:
      _predict_video(job, path, next(names), video.VideoFile)
    for path, index in zip(cameras, inputs.cameras, strict=True):
      try:
        _predict_video(
          job, path, next(names), lambda _, i=index: video.Camera(i)
        )
      except KeyboardInterrupt:
        progress.console.print(f"{path}: finished")
  return results.num_images, job.problems


def _predict_images(
  job: _Job, paths: Sequence[pathlib.Path], names: Sequence[str]
) -> None:
  """Predicts image files; `names` has at least one name per file."""
  if not paths:
    return
  task = job.progress.add_task("images", total=len(paths))
  waiting = (
    collections.deque()
  )  # images that were read and are not yet predicted

  def read():
    for path, name in zip(paths, names, strict=False):
      try:
        pages = job.reader.open(path)
        for page, image in enumerate(pages):
          output, index = name, None
          if len(pages) > 1:
            output, index = f"{name}/{page:06d}", page
          waiting.append((path, output, image, index))
          yield image
      except (OSError, UserError) as error:
        job.fail(path, error)
      job.progress.advance(task)

  for found in _in_order(job.predictor.stream(read())):
    path, name, image, page = waiting.popleft()
    job.results.add(
      image,
      found.above(job.score_threshold),
      file_name=str(path),
      name=name,
      page=page,
      views=job.views(image),
      maps=job.maps(image),
    )


def _predict_video(
  job: _Job,
  path: pathlib.Path,
  name: str,
  open_video: Callable[[pathlib.Path], video.VideoFile | video.Camera],
) -> None:
  """Predicts the frames of a video file or a camera."""
  try:
    source = open_video(path)
  except (OSError, UserError) as error:
    job.fail(path, error)
    return
  tracker = Tracker(
    score_threshold=job.score_threshold, max_missed=MISSED_SECONDS
  )
  task = job.progress.add_task(printable(path.name), total=source.num_frames)
  waiting = collections.deque()

  def read():
    for frame in source.frames():
      waiting.append(frame)
      yield frame.image

  with job.results.start_video(source, str(path), name) as of_video:
    frames = _in_order(job.predictor.stream(read()))
    for found in frames:
      frame = waiting.popleft()
      instances, tracks = tracker.update(found, frame.seconds)
      of_video.add(
        frame,
        instances,
        tracks,
        views=job.views(frame.image),
        maps=job.maps(frame.image),
      )
      job.progress.advance(task)
  if source.problem is not None:
    job.problems.append(Problem(path=path, reason=source.problem))


def _in_order(
  results: Iterable[tuple[int, types.Instances]],
) -> Iterator[types.Instances]:
  """Yields the results of a stream in the order of its images."""
  early = {}
  index = 0
  for position, found in results:
    early[position] = found
    while index in early:
      yield early.pop(index)
      index += 1
