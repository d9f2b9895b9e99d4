r"""Exports a trained model, so that it runs without solo_jax.

python -m solo_jax.export --checkpoint=workdirs/shapes --out=exported
python exported/predictor.py photo.jpg

Writes below --out:

  predictor.py         loads and runs the model; needs NumPy and JAX only
  manifest.json        sizes, classes, thresholds, preprocessing, checksums
  weights.npz          the network's variables
  program_<HxW>.jax    the whole predictor for one size of network input, for
                       jax.export: resizing, network, decoding, masks
  program_<HxW>.mlirbc the same program as portable StableHLO bytecode
  program_<HxW>.onnx   with --onnx: the same, weights included, for ONNX Runtime

Each image is processed by the smallest program that it fits. docs/export.md
explains how the sizes are chosen and how to run without Python.
"""

import json
import pathlib

from absl import flags

from solo_jax import cli, weights
from solo_jax.errors import UserError
from solo_jax.exporting.writer import IMAGE_SIDE, PLATFORMS, export_checkpoint

FLAGS = flags.FLAGS


def parse_size(text: str) -> tuple[int, int]:
  """Returns (height, width) of 'HEIGHTxWIDTH', for example 800x1344.

  Args:
    text: Both sides in pixels.

  Returns:
    (height, width).

  Raises:
    UserError: If it is anything else.
  """
  height, _, width = text.partition("x")
  if not (
    height.isdecimal() and width.isdecimal() and int(height) * int(width)
  ):
    raise UserError(
      f"{text!r} is not a size; expected HEIGHTxWIDTH, such as 800x1344"
    )
  return int(height), int(width)


def define_flags() -> None:
  """Defines the flags, not on import, so that commands can share a process."""
  cli.define_checkpoint_flag()
  flags.DEFINE_string(
    "out", None, "Folder for the model; must be new or empty."
  )
  flags.DEFINE_list(
    "input_size",
    [],
    "Padded HxW of the network input, one program each. Default: one for "
    "landscape and one for portrait images, or one for tiles.",
  )
  flags.DEFINE_string(
    "image_size",
    None,
    "HxW of the largest image accepted. Default: a tile, or a square of "
    f"{IMAGE_SIDE} or preprocessing.max_side, whichever is larger.",
  )
  cli.define_batch_size_flag("Number of images per call of a program.")
  flags.DEFINE_list(
    "platforms",
    ["cpu"],
    f"Platforms to export for, any of {', '.join(PLATFORMS)}.",
  )
  flags.DEFINE_boolean("onnx", False, "Also write ONNX files (needs jax2onnx).")
  flags.mark_flag_as_required("out")


def main() -> None:
  """Runs the command."""
  out = pathlib.Path(FLAGS.out)
  export_checkpoint(
    weights.load(FLAGS.checkpoint),
    out,
    input_sizes=[parse_size(x) for x in FLAGS.input_size],
    image_size=FLAGS.image_size and parse_size(FLAGS.image_size),
    batch_size=FLAGS.batch_size,
    platforms=FLAGS.platforms,
    onnx=FLAGS.onnx,
  )
  for path in sorted(out.iterdir()):
    print(f"{path.stat().st_size / 1e6:8.2f} MB  {path}")
  manifest = json.loads((out / "manifest.json").read_text("utf-8"))
  if manifest["preprocessing"]["tile_size"] is None:
    height, width = manifest["programs"][0]["canvas_size"]
    print(
      f"Accepts images of up to {height} x {width} pixels; larger ones need "
      "--image_size=HxW."
    )


if __name__ == "__main__":
  define_flags()
  cli.run(main)
