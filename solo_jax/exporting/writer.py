"""Writes an exported model: programs, weights, loader and manifest."""

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
from absl import logging

from solo_jax.building import build_model
from solo_jax.checkpoints import store
from solo_jax.errors import UserError
from solo_jax.exporting import standalone
from solo_jax.exporting.onnx_program import write_onnx
from solo_jax.exporting.program import flatten_results, make_program

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
# Default side of the largest image; memory and time of masks and resizing grow
# with it.
IMAGE_SIDE = 1024


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
  """Writes everything that solo_jax/export.py lists.

  Args:
    checkpoint: The model.
    out: Folder to write to; created, must be new or empty.
    input_sizes: Padded (H, W) of the network, one program each; None:
      `default_input_sizes`.
    image_size: (height, width) of the largest image that the programs accept;
      None: a tile, or a square of IMAGE_SIDE or of the long side that images
      are resized to, whichever is larger.
    batch_size: Images per call of a program.
    platforms: Any of PLATFORMS.
    onnx: Write ONNX as well.

  Raises:
    UserError: If the folder is not empty, or a size or platform is invalid.
  """
  _check_request(out, platforms)
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
  inputs = (
    jax.ShapeDtypeStruct((batch_size, *canvas_size, 3), np.uint8),
    jax.ShapeDtypeStruct((batch_size, 2), np.int32),
  )
  programs = []
  for input_size in input_sizes:
    program = make_program(
      model.method,
      jax.tree.structure(checkpoint.variables),
      preprocessing=rule,
      mask_threshold=model.mask_threshold,
      input_size=input_size,
    )
    programs.append(
      _write_program(
        out,
        input_size,
        program,
        weights,
        inputs,
        platforms,
        onnx=onnx,
      )
    )
  _write_manifest(
    out,
    checkpoint,
    preprocessing=rule,
    platforms=platforms,
    weights=dict(file="weights.npz", arrays=_describe(names, weights)),
    programs=programs,
  )


def _check_request(out: pathlib.Path, platforms: Sequence[str]) -> None:
  """Raises for a folder that is not empty and for unknown platforms."""
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise UserError(
      f"{out} already exists and is not an empty folder; remove it or choose "
      "another one"
    )
  unknown = sorted(set(platforms) - set(PLATFORMS))
  if unknown or not platforms:
    raise UserError(f"--platforms: {unknown}; choose from {PLATFORMS}")


def _write_program(
  out: pathlib.Path,
  input_size: tuple[int, int],
  program: Callable[..., dict],
  weights: Sequence[np.ndarray],
  inputs: Sequence[jax.ShapeDtypeStruct],
  platforms: Sequence[str],
  *,
  onnx: bool,
) -> dict[str, Any]:
  """Writes a program in every form; returns its entry of the manifest."""
  stem = "program_{}x{}".format(*input_size)
  logging.info("exporting %s", stem)
  program, results = flatten_results(program, weights, inputs)
  exported = export_program(program, weights, inputs, platforms)
  (out / f"{stem}.jax").write_bytes(exported.serialize())
  (out / f"{stem}.mlirbc").write_bytes(exported.mlir_module_serialized)
  if onnx:
    write_onnx(program, weights, inputs, results, out / f"{stem}.onnx")
  batch_size, *canvas_size, _ = inputs[0].shape
  return dict(
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


def _write_manifest(
  out: pathlib.Path,
  checkpoint: store.Checkpoint,
  *,
  preprocessing: dict[str, Any],
  platforms: Sequence[str],
  weights: dict[str, Any],
  programs: list[dict],
) -> None:
  """Writes manifest.json, with checksums of the files."""
  manifest = dict(
    format=standalone.FORMAT,
    method=checkpoint.config.method,
    step=checkpoint.step,
    class_names=checkpoint.class_names,
    category_ids=checkpoint.category_ids,
    preprocessing=preprocessing,
    decode=checkpoint.config.decode.to_dict(),
    platforms=platforms,
    weights=weights,
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
  """Returns network inputs that fit images of every shape.

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
  """Raises for input sizes that the network does not support.

  Args:
    sizes: Padded (H, W) each.
    pad_multiple: What each side must be a multiple of.

  Raises:
    UserError: If one is not, or a size is repeated.
  """
  for size in sizes:
    if any(side <= 0 or side % pad_multiple for side in size):
      raise UserError(
        "--input_size={}x{}: both sides must be multiples of {} "
        "(preprocessing.pad_multiple)".format(*size, pad_multiple)
      )
  if len(set(sizes)) < len(sizes):
    raise UserError("--input_size names a size twice")


def export_program(
  program: Callable[..., tuple],
  weights: Sequence[np.ndarray],
  inputs: Sequence[jax.ShapeDtypeStruct],
  platforms: Sequence[str],
) -> jax.export.Exported:
  """Returns a program lowered for some platforms, which need not be present.

  Args:
    program: (weights, *inputs) -> arrays.
    weights: Weights of the network; only their shapes matter.
    inputs: Shapes of the other arguments.
    platforms: Platforms to run on.

  Returns:
    The exported program; its arguments are the weights, one by one, and the
    inputs.
  """
  shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in weights]
  # Unused arguments are kept, as the manifest lists all of them.
  jitted = jax.jit(program, keep_unused=True)
  return jax.export.export(jitted, platforms=tuple(platforms))(shapes, *inputs)


def _describe(names: Sequence[str], arrays: Sequence[Any]) -> list[dict]:
  return [
    dict(name=name, dtype=str(x.dtype), shape=x.shape)
    for name, x in zip(names, arrays, strict=True)
  ]
