r"""Exports a trained model, to be run without solo_jax.

python -m solo_jax.export --checkpoint=workdirs/shapes --out=exported
python exported/predictor.py photo.jpg

Below --out this writes

  predictor.py         loads and runs the model; needs NumPy and JAX only
  manifest.json        sizes, classes, thresholds, preprocessing, checksums
  weights.npz          the network's variables
  program_<HxW>.jax    the whole predictor for one size of network input, for
                       jax.export: resizing, network, decoding, masks
  program_<HxW>.mlirbc the same program as portable StableHLO bytecode
  program_<HxW>.onnx   with --onnx: the same with its weights, for ONNX Runtime

An image goes through the smallest program that it fits. docs/export.md says
how the sizes are chosen and what to do without Python.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import numpy as np
from absl import app, flags, logging

from solo_jax import cli
from solo_jax.building import build_model
from solo_jax.checkpoints import store
from solo_jax.exporting import standalone
from solo_jax.exporting.onnx_program import write_onnx
from solo_jax.exporting.program import flatten_results, make_program

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
# Side of the largest photograph that is taken unless told otherwise; masks and
# resizing cost memory and time by it.
IMAGE_SIDE = 1024

FLAGS = flags.FLAGS


def export_checkpoint(
  checkpoint: store.Checkpoint,
  out: pathlib.Path,
  *,
  input_sizes: Sequence[tuple[int, int]] | None = None,
  image_size: tuple[int, int] | None = None,
  batch_size: int = 1,
  platforms: Sequence[str] = ("cpu",),
  onnx: bool = False,
) -> None:
  """Writes everything that the module's first lines list.

  Args:
    checkpoint: The model.
    out: Folder to write to; made, and refused unless it is new or empty.
    input_sizes: Padded (H, W) of the network, a program each; None: as
      `default_input_sizes`.
    image_size: (height, width) of the largest image that the programs take;
      None: a tile, or a square of IMAGE_SIDE, or of the long side that images
      are resized to if that is more.
    batch_size: Images a call of a program.
    platforms: Any of PLATFORMS.
    onnx: Write ONNX as well.

  Raises:
    FileExistsError: If there is something in the folder.
    ValueError: If a size or a platform cannot be.
  """
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise FileExistsError(
      f"{out} is there already and not an empty folder; remove it or choose "
      "another one"
    )
  unknown = sorted(set(platforms) - set(PLATFORMS))
  if unknown or not platforms:
    raise ValueError(f"--platforms: {unknown}; choose from {PLATFORMS}")
  model = build_model(checkpoint.config, checkpoint.variables)
  rule = model.preprocessing
  input_sizes = input_sizes or default_input_sizes(rule)
  check_input_sizes(input_sizes, rule["pad_multiple"])
  side = rule["tile_size"] or max(rule["max_side"], IMAGE_SIDE)
  image_size = image_size or (side, side)
  # Masks are packed to bytes.
  canvas_size = image_size[0], -(-image_size[1] // 8) * 8
  paths, weights = zip(
    *jax.tree_util.tree_leaves_with_path(checkpoint.variables), strict=True
  )
  names = [jax.tree_util.keystr(p, simple=True, separator="/") for p in paths]
  out.mkdir(parents=True, exist_ok=True)
  np.savez(out / "weights.npz", **dict(zip(names, weights, strict=True)))
  shutil.copyfile(standalone.__file__, out / "predictor.py")
  programs = []
  for input_size in input_sizes:
    inputs = (
      jax.ShapeDtypeStruct((batch_size, *canvas_size, 3), np.uint8),
      jax.ShapeDtypeStruct((batch_size, 2), np.int32),
    )
    program, results = flatten_results(
      make_program(
        model.method,
        jax.tree.structure(checkpoint.variables),
        preprocessing=rule,
        mask_threshold=model.mask_threshold,
        input_size=input_size,
      ),
      weights,
      inputs,
    )
    stem = "program_{}x{}".format(*input_size)
    logging.info("exporting %s", stem)
    exported = export_program(program, weights, inputs, platforms)
    (out / f"{stem}.jax").write_bytes(exported.serialize())
    (out / f"{stem}.mlirbc").write_bytes(exported.mlir_module_serialized)
    if onnx:
      write_onnx(program, weights, inputs, results, out / f"{stem}.onnx")
    programs.append(
      dict(
        jax=f"{stem}.jax",
        stablehlo=f"{stem}.mlirbc",
        onnx=f"{stem}.onnx" if onnx else None,
        batch_size=batch_size,
        canvas_size=canvas_size,
        input_size=input_size,
        inputs=_describe(("image", "original_size"), inputs),
        outputs=_describe(results, exported.out_avals),
        calling_convention_version=exported.calling_convention_version,
      )
    )
  manifest = dict(
    format=standalone.FORMAT,
    method=checkpoint.config.method,
    step=checkpoint.step,
    class_names=checkpoint.class_names,
    category_ids=checkpoint.category_ids,
    preprocessing=rule,
    decode=checkpoint.config.decode.to_dict(),
    platforms=platforms,
    weights=dict(file="weights.npz", arrays=_describe(names, weights)),
    programs=programs,
    versions={
      name: importlib.metadata.version(name)
      for name in ("solo_jax", "jax", "jaxlib", "numpy")
    },
    sha256={
      path.name: hashlib.sha256(path.read_bytes()).hexdigest()
      for path in sorted(out.iterdir())
    },
  )
  (out / "manifest.json").write_text(
    json.dumps(manifest, indent=1), encoding="utf-8"
  )


def default_input_sizes(
  preprocessing: dict[str, Any],
) -> list[tuple[int, int]]:
  """Chooses network inputs that every image fits, whatever its shape.

  Args:
    preprocessing: short_side, max_side, pad_multiple and tile_size.

  Returns:
    Padded (H, W) of a landscape and of a portrait image, or of a tile.
  """
  short, long = preprocessing["short_side"], preprocessing["max_side"]
  short = min(short, long)
  if preprocessing["tile_size"] is not None:
    long = short  # tiles are squares
  multiple = preprocessing["pad_multiple"]
  short, long = (-(-side // multiple) * multiple for side in (short, long))
  return [(short, long)] if short == long else [(short, long), (long, short)]


def check_input_sizes(
  sizes: Sequence[tuple[int, int]], pad_multiple: int
) -> None:
  """Refuses network inputs that the network cannot take.

  Args:
    sizes: Padded (H, W) each.
    pad_multiple: What each side must be a multiple of.

  Raises:
    ValueError: If one is not, or one is given twice.
  """
  for size in sizes:
    if any(side <= 0 or side % pad_multiple for side in size):
      raise ValueError(
        "--input_size={}x{}: both sides must be multiples of {} "
        "(preprocessing.pad_multiple)".format(*size, pad_multiple)
      )
  if len(set(sizes)) < len(sizes):
    raise ValueError("--input_size names a size twice")


def export_program(
  program: Callable[..., tuple],
  weights: Sequence[np.ndarray],
  inputs: Sequence[jax.ShapeDtypeStruct],
  platforms: Sequence[str],
) -> jax.export.Exported:
  """Lowers a program for some platforms, which need not be at hand.

  Args:
    program: (weights, *inputs) -> arrays.
    weights: Of the network; only their shapes matter.
    inputs: Shapes of the other arguments.
    platforms: Where it is to run.

  Returns:
    The exported program, its arguments the weights one by one and the inputs.
  """
  shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in weights]
  # Arguments that a program does not read stay: the manifest lists them all.
  jitted = jax.jit(program, keep_unused=True)
  return jax.export.export(jitted, platforms=tuple(platforms))(shapes, *inputs)


def parse_size(text: str) -> tuple[int, int]:
  """Reads 'HEIGHTxWIDTH', for example 800x1344.

  Args:
    text: Both sides in pixels.

  Returns:
    (height, width).

  Raises:
    ValueError: If it is something else.
  """
  height, _, width = text.partition("x")
  if not (
    height.isdecimal() and width.isdecimal() and int(height) * int(width)
  ):
    raise ValueError(
      f"{text!r} is no size; expected HEIGHTxWIDTH as in 800x1344"
    )
  return int(height), int(width)


def _describe(names: Sequence[str], arrays: Sequence[Any]) -> list[dict]:
  return [
    dict(name=name, dtype=str(x.dtype), shape=x.shape)
    for name, x in zip(names, arrays, strict=True)
  ]


def define_flags() -> None:
  """Defines the flags: when run, so that commands can be imported together."""
  flags.DEFINE_string(
    "checkpoint",
    None,
    "Folder of a run (newest checkpoint) or of a checkpoint.",
  )
  flags.DEFINE_string("out", None, "Folder for the model; new or empty.")
  flags.DEFINE_list(
    "input_size",
    [],
    "Padded HxW of the network, a program each; by default one for landscape "
    "and one for portrait images, or one for tiles.",
  )
  flags.DEFINE_string(
    "image_size",
    None,
    "HxW of the largest image that is taken; by default a tile, or a square of "
    f"{IMAGE_SIDE} or preprocessing.max_side, whichever is more.",
  )
  flags.DEFINE_integer(
    "batch_size", 1, "Images that a program takes at once.", lower_bound=1
  )
  flags.DEFINE_list(
    "platforms",
    ["cpu"],
    f"Where the programs are to run, any of {', '.join(PLATFORMS)}.",
  )
  flags.DEFINE_boolean("onnx", False, "Write ONNX too (needs jax2onnx).")
  flags.mark_flags_as_required(["checkpoint", "out"])


def main(argv: list[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.ERROR)  # Orbax tells every step
  out = pathlib.Path(FLAGS.out)
  export_checkpoint(
    store.load(FLAGS.checkpoint),
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
      f"Takes images of up to {height} x {width} pixels; larger ones need "
      "--image_size=HxW."
    )


if __name__ == "__main__":
  define_flags()
  cli.run(main)
