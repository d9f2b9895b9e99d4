r"""Finds instances in images, videos and cameras, and draws them.

python -m solo_jax.predict --checkpoint=workdirs/shapes --out=found \
    photo.jpg scans/ clip.mp4
find scans -name '*.tif' | python -m solo_jax.predict --checkpoint=... \
    --out=found --save=labels -

Arguments are image files, videos, folders (their images and videos, not those
of sub-folders), the number of a camera (0: the first; Ctrl-C ends it) and '-'
for a list of paths on the standard input. Images may be of any size: RGB, grey
or 16-bit. Pixels are used as stored: an EXIF orientation is ignored, as COCO's
annotations ignore it; videos are turned the right way up.

In a video an instance keeps its number, the track, from frame to frame. A score
of --score_threshold starts a track, a lower one can go on with it.

--save says what is written below --out:

  overlay   overlays/<name>.png   the picture to look at; .mp4 of a video
  rle       predictions.json      COCO format: images, annotations, categories
  polygons  polygons.json         the same with polygons, whose holes are filled
  masks     masks/<name>/<number>.png   a mask each, 0 or 255; the number is the
                                  rank by score, of a video the track
  labels    labels/<name>.png     uint16 label image: 0 = background, else that
                                  number; where instances overlap, the higher
                                  score wins; scores.json has the scores
  views     views/<name>.png      of associative embedding: tags as colours,
                                  seeds and groups beside the image

The <name> of a frame is <video>/<frame>, counted from 000000; its annotations
have a track_id, its entry a video_id, frame_index and seconds.

--flip and --scale are test-time augmentation: the network sees each image
mirrored as well, and at several sizes. Compiled programs are kept for the next
run, see inference/compilation_cache.py. A file that cannot be read, or not to
its end, is named, the others are still done, and the exit code is then 1.
"""

import collections
import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TextIO

import numpy as np
import rich.progress
from absl import flags, logging
from rich.console import Console

from solo_jax import api, cli, types
from solo_jax.data.file_tree import MAX_PIXELS, PIXELS_LIMIT
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.media import video
from solo_jax.media.reading import read_image
from solo_jax.media.saving import KINDS, Results
from solo_jax.media.tracking import Tracker
from solo_jax.progress import make_progress

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
MISSED_SECONDS = 1.0  # after which a track is given up

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
  """What to find instances in.

  Attributes:
    images: Image files.
    videos: Video files.
    cameras: Numbers of cameras.
  """

  images: Sequence[pathlib.Path] = ()
  videos: Sequence[pathlib.Path] = ()
  cameras: Sequence[int] = ()

  def __len__(self) -> int:
    return len(self.images) + len(self.videos) + len(self.cameras)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
  """An input that could not be used, or not all of it.

  Attributes:
    path: The file; 'camera 0' of a camera.
    reason: Why not.
  """

  path: pathlib.Path
  reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
  """What predicting needs whatever the input.

  Attributes:
    predictor: Of a checkpoint.
    score_threshold: Detections of a lower score are left out.
    max_pixels: Image files that declare more are not read.
    results: Where they go.
    progress: Where it is shown.
    problems: Those so far.
  """

  predictor: api.Predictor
  score_threshold: float
  max_pixels: int
  results: Results
  progress: rich.progress.Progress
  problems: list[Problem]

  def views(self, image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the pictures of the network's maps if they are wanted."""
    return self.predictor.views(image) if self.results.has("views") else {}

  def fail(self, path: pathlib.Path, error: OSError | ValueError) -> None:
    """Notes what an input could not be used for."""
    is_of_system = isinstance(error, OSError) and error.strerror
    reason = error.strerror if is_of_system else str(error)
    self.problems.append(Problem(path=path, reason=reason))


def predict_inputs(
  predictor: api.Predictor,
  inputs: Inputs,
  out: pathlib.Path,
  *,
  score_threshold: float,
  save: Collection[str],
  max_pixels: int = MAX_PIXELS,
) -> tuple[int, list[Problem]]:
  """Predicts all inputs and writes what the module's first lines list.

  Args:
    predictor: Predictor of a checkpoint.
    inputs: Files and cameras.
    out: Folder for the results; made if missing.
    score_threshold: Detections of a lower score are left out.
    save: Kinds of results, see `saving.KINDS`.
    max_pixels: Image files that declare more are not read.

  Returns:
    How many images and frames were done, and the problems.

  Raises:
    ValueError: If a kind is unknown, or the method has no views.
  """
  if "views" in save and not predictor.has_views:
    raise ValueError(
      "--save=views: this checkpoint's method has no maps to show"
    )
  cameras = [pathlib.Path(f"camera {index}") for index in inputs.cameras]
  names = unique_names([*inputs.images, *inputs.videos, *cameras])
  results = Results(
    out,
    save,
    class_names=predictor.class_names,
    category_ids=predictor.category_ids,
  )
  with results, make_progress(Console(stderr=True)) as progress:
    job = _Job(
      predictor=predictor,
      score_threshold=score_threshold,
      max_pixels=max_pixels,
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
        progress.console.print(f"{path}: ended")
  return results.num_images, job.problems


def _predict_images(
  job: _Job, paths: Sequence[pathlib.Path], names: Sequence[str]
) -> None:
  """Predicts image files; `names` has one for each, and maybe more."""
  if not paths:
    return
  task = job.progress.add_task("images", total=len(paths))
  waiting = collections.deque()  # what was read and is not yet predicted

  def read():
    for path, name in zip(paths, names, strict=False):
      try:
        image = read_image(path, job.max_pixels)
      except (OSError, ValueError) as error:
        job.fail(path, error)
        job.progress.advance(task)
        continue
      waiting.append((path, name, image))
      yield image

  for found in _in_order(job.predictor.stream(read())):
    path, name, image = waiting.popleft()
    job.results.add(
      image,
      found.above(job.score_threshold),
      file_name=str(path),
      name=name,
      views=job.views(image),
    )
    job.progress.advance(task)


def _predict_video(
  job: _Job,
  path: pathlib.Path,
  name: str,
  open_video: Callable[[pathlib.Path], video.VideoFile | video.Camera],
) -> None:
  """Predicts the frames of a video file or a camera."""
  try:
    source = open_video(path)
  except (OSError, ValueError) as error:
    job.fail(path, error)
    return
  tracker = Tracker(
    score_threshold=job.score_threshold, max_missed=MISSED_SECONDS
  )
  task = job.progress.add_task(path.name, total=source.num_frames)
  waiting = collections.deque()

  def read():
    for frame in source.frames():
      waiting.append(frame)
      yield frame.image

  with job.results.start_video(source, str(path), name) as writer:
    frames = _in_order(job.predictor.stream(read()))
    for index, found in enumerate(frames):
      frame = waiting.popleft()
      instances, tracks = tracker.update(found, frame.seconds)
      job.results.add_frame(
        frame,
        instances,
        tracks,
        index=index,
        file_name=str(path),
        name=name,
        views=job.views(frame.image),
        writer=writer,
      )
      job.progress.advance(task)
  if source.problem is not None:
    job.fail(path, ValueError(source.problem))


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


def find_inputs(arguments: Sequence[str], listed: TextIO) -> Inputs:
  """Sorts out what the arguments name.

  Args:
    arguments: Files, folders, of which the files with a suffix of an image or
      a video are taken (not those of sub-folders), numbers of cameras, and '-'.
    listed: Where '-' reads more paths from, one a line.

  Returns:
    The inputs, in the order of the arguments, those of a folder by name. A file
    with the suffix of a video is one, any other an image.

  Raises:
    FileNotFoundError: If there is nothing, or a folder has no such files.
  """
  paths, cameras = [], []
  for argument in arguments:
    path = pathlib.Path(argument)
    if argument == "-":
      paths += [pathlib.Path(x) for line in listed if (x := line.strip())]
    elif argument.isdecimal() and not path.exists():
      cameras.append(int(argument))
    elif path.is_dir():
      paths += _find_files(path)
    else:
      paths.append(path)
  is_video = [path.suffix.lower() in video.SUFFIXES for path in paths]
  inputs = Inputs(
    images=[p for p, moves in zip(paths, is_video, strict=True) if not moves],
    videos=[p for p, moves in zip(paths, is_video, strict=True) if moves],
    cameras=cameras,
  )
  if not len(inputs):
    raise FileNotFoundError(
      f"nothing to predict in {' '.join(arguments) or '(no arguments)'}: name "
      "images, videos, folders, the number of a camera, or - for a list of "
      "paths on the standard input"
    )
  return inputs


def _find_files(folder: pathlib.Path) -> list[pathlib.Path]:
  suffixes = (*SUFFIXES, *video.SUFFIXES)
  found = sorted(
    path
    for path in folder.iterdir()
    if path.suffix.lower() in suffixes and path.is_file()
  )
  if not found:
    raise FileNotFoundError(
      f"no images or videos in {folder} (sub-folders are not searched): "
      f"expected files with {', '.join(suffixes)}"
    )
  return found


def unique_names(paths: Sequence[pathlib.Path]) -> list[str]:
  """Names the outputs of each file: its stem, numbered if it came before.

  Args:
    paths: Input files.

  Returns:
    As many names, all different: 'a', 'b', 'a_2'.
  """
  names = {}  # in order
  for path in paths:
    name, number = path.stem, 1
    while name in names:
      number += 1
      name = f"{path.stem}_{number}"
    names[name] = None
  return list(names)


def define_flags() -> None:
  """Defines the flags: when run, so that commands can be imported together."""
  flags.DEFINE_string(
    "checkpoint",
    None,
    "Folder of a run (newest checkpoint) or of a checkpoint.",
  )
  flags.DEFINE_string("out", None, "Folder for the results; made if missing.")
  flags.DEFINE_float(
    "score_threshold",
    0.3,
    "Detections of a lower score are left out.",
    lower_bound=0.0,
    upper_bound=1.0,
  )
  flags.DEFINE_integer(
    "batch_size", 1, "Images the network takes at once.", lower_bound=1
  )
  flags.DEFINE_integer(
    "max_pixels",
    MAX_PIXELS,
    "Image files whose header declares more are not read: their pixels would "
    "fill the memory.",
    lower_bound=1,
    upper_bound=PIXELS_LIMIT,
  )
  flags.DEFINE_list(
    "save", ["overlay", "rle"], f"What to write, of {', '.join(KINDS)}."
  )
  cli.define_augmentation_flags()
  flags.mark_flags_as_required(["checkpoint", "out"])


def main(argv: list[str]) -> None:
  """Runs the command."""
  logging.set_verbosity(logging.ERROR)  # Orbax tells every step
  use_compilation_cache()
  inputs = find_inputs(argv[1:], sys.stdin)
  out = pathlib.Path(FLAGS.out)
  predictor = api.Predictor.from_checkpoint(
    FLAGS.checkpoint,
    batch_size=FLAGS.batch_size,
    scales=FLAGS.scale,
    flip=FLAGS.flip,
  )
  start = time.perf_counter()
  num_images, problems = predict_inputs(
    predictor,
    inputs,
    out,
    score_threshold=FLAGS.score_threshold,
    save=FLAGS.save,
    max_pixels=FLAGS.max_pixels,
  )
  seconds = time.perf_counter() - start
  print(
    f"{num_images} images done in {seconds:.1f} s "
    f"({num_images / seconds:.1f} images/s, compiling included), see {out}"
  )
  print(predictor.summary(predictor.num_dropped), file=sys.stderr)
  for problem in problems:
    print(f"{problem.path}: {problem.reason}", file=sys.stderr)
  if problems:
    sys.exit(f"{len(problems)} of {len(inputs)} inputs could not be read")


if __name__ == "__main__":
  define_flags()
  cli.run(main)
