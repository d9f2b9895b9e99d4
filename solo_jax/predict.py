r"""Finds instances in images, videos and cameras, and draws them.

python -m solo_jax.predict --checkpoint=workdirs/shapes --out=found \
    photo.jpg scans/ clip.mp4
find scans -name '*.tif' | python -m solo_jax.predict --checkpoint=... \
    --out=found --save=labels -

Arguments are image files, videos, folders (without their sub-folders), the
number of a camera (0 for the first; stop it with Ctrl-C) and '-' for a list of
paths on standard input. Images may be of any size: RGB, grey or 16-bit; each
page of a TIFF stack is an image. --exif=apply rotates photographs by their
orientation tag, --exif=ignore uses pixels as stored; the default is the
choice with which the training data were prepared. Videos are rotated upright.

In a video an instance keeps its number, the track, from frame to frame. A
detection with at least --score_threshold starts a track; a lower score can
continue one.

--save selects what is written below --out:

  overlay   overlays/<name>.png   the image with the instances drawn; .mp4 of a
                                  video
  rle       predictions.json      COCO format: images, annotations, categories
  polygons  polygons.json         the same with polygons, whose holes are filled
  masks     masks/<name>/<number>.png   one mask each, 0 or 255; the number is
                                  the rank by score, in a video the track
  labels    labels/<name>.png     uint16 label image: 0 = background, else that
                                  number; where instances overlap, the higher
                                  score wins; scores.json has the scores
  views     views/<name>.png      for associative embedding: tags as colours,
                                  seeds and groups next to the image
  panoptic  panoptic/<name>.png   COCO's panoptic format: a pixel's colour is
                                  the id of its segment, panoptic.json lists
                                  them; overlays then show things and stuff
  semantic  semantic/<name>.png   the category id of each pixel;
                                  semantic/classes.json has the names

--show=contour,fill,boxes,labels selects the parts of overlays. --colors=class
gives each class one colour; by default each instance, or track, has its own.

The <name> is the input's path below the folder that all inputs share, without
its suffix unless two names would be equal. That of a frame or a page is
<video>/<frame> or <stack>/<page>, counted from 000000. Annotations of a frame
have a track_id, its image entry has video_id, frame_index and seconds; that of
a page has page_index.

--flip and --scale are test-time augmentation: the network also processes each
image mirrored, and at several sizes. Compiled programs are kept for the next
run, see inference/compilation_cache.py. Files that cannot be read completely
are reported, all others are processed, and the exit code is then 1.
"""

import io
import pathlib
import sys
import time

from absl import flags

from solo_jax import api, cli
from solo_jax.data import exif
from solo_jax.errors import printable
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.media.inputs import describe_others, find_inputs
from solo_jax.media.prediction import predict_inputs
from solo_jax.media.reading import ImageReader
from solo_jax.media.saving import KINDS
from solo_jax.terminal import Console, plural
from solo_jax.visualization import COLORS, SHOWN, Look

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the flags, not on import, so that commands can share a process."""
  cli.define_checkpoint_flag()
  flags.DEFINE_string(
    "out", None, "Folder for the results; created if missing."
  )
  cli.define_score_flag("Leave out detections of a lower score.")
  cli.define_batch_size_flag("Number of images per network call.")
  cli.define_max_pixels_flag(
    "Do not read image files whose header declares more pixels: they would "
    "fill the memory."
  )
  flags.DEFINE_enum(
    "exif",
    None,
    exif.CHOICES,
    "Whether to rotate photographs by their orientation tag. Default: as for "
    "the training data.",
  )
  flags.DEFINE_list(
    "save", ["overlay", "rle"], f"What to write, any of {', '.join(KINDS)}."
  )
  flags.DEFINE_list(
    "show",
    list(Look().show),
    f"Parts to draw of each instance, any of {', '.join(SHOWN)}.",
  )
  flags.DEFINE_enum(
    "colors",
    Look().colors,
    COLORS,
    "Whether each instance or each class has its own colour in overlays.",
  )
  cli.define_augmentation_flags()
  flags.mark_flag_as_required("out")


def main(*arguments: str) -> None:
  """Runs the command."""
  use_compilation_cache()
  look = Look(show=FLAGS.show, colors=FLAGS.colors)
  if isinstance(sys.stdin, io.TextIOWrapper):  # names need not be UTF-8
    sys.stdin.reconfigure(errors="surrogateescape")
  inputs = find_inputs(arguments, sys.stdin)
  out = pathlib.Path(FLAGS.out)
  predictor = api.Predictor.from_checkpoint(
    FLAGS.checkpoint,
    batch_size=FLAGS.batch_size,
    scales=FLAGS.scale,
    flip=FLAGS.flip,
    few_shapes=True,
  )
  progress = cli.make_progress(Console(stderr=True, highlight=False))
  predictor.compilations.tell = progress.console.print
  start = time.perf_counter()
  num_images, problems = predict_inputs(
    predictor,
    inputs,
    out,
    score_threshold=FLAGS.score_threshold,
    save=FLAGS.save,
    look=look,
    reader=ImageReader(
      max_pixels=FLAGS.max_pixels, exif=FLAGS.exif or predictor.exif
    ),
    progress=progress,
  )
  seconds = time.perf_counter() - start
  if num_images:
    print(
      f"{plural(num_images, 'image')} in {seconds:.1f} s "
      f"({num_images / seconds:.1f} images/s, including compilation), see {out}"
    )
    print(predictor.summary(predictor.num_dropped), file=sys.stderr)
  else:
    print("nothing written")
  if inputs.skipped:
    others = describe_others(inputs.skipped)
    print(f"ignored in folders: {others}", file=sys.stderr)
  for problem in problems:
    print(printable(f"{problem.path}: {problem.reason}"), file=sys.stderr)
  if problems:
    sys.exit(f"{len(problems)} of {len(inputs)} inputs could not be read")


if __name__ == "__main__":
  define_flags()
  cli.run(main, takes_arguments=True)
