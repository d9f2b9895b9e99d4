"""Runs an exported model; needs the files next to it, NumPy and JAX.

  from predictor import Predictor

  predictor = Predictor("exported")
  for found in predictor(image):  # [H, W, 3] uint8, RGB
    print(found.class_name, found.score, found.box_xyxy, found.mask.shape)

With runtime="onnx", and a model that was exported with --onnx, ONNX Runtime
replaces JAX. On the command line, with Pillow to read files:

  python exported/predictor.py photo.jpg

This file is copied unchanged next to every exported model, as predictor.py. It
must not import the package it is part of, so it is long and has its own code
for joining tiles.
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

# Formats of manifest.json that are written and that can be read. Format 1 had
# no predicted boxes; nothing else has changed since.
FORMAT = 2
READABLE = (1, 2)
RUNTIMES = ("jax", "onnx")
# Detections of neighbouring tiles that share more than this part of the smaller
# one are the same object.
SAME_OBJECT = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection:
  """One object of an image.

  Attributes:
    score: In [0, 1].
    label: Position in the class names.
    class_name: Name of the class.
    category_id: The dataset's own id of the class.
    box_xyxy: (left, top, right, bottom) of the mask in whole pixels, right and
      bottom exclusive; zeros for an empty mask.
    mask: The mask inside its box. [bottom - top, right - left] bool.
    predicted_box_xyxy: The box that the model predicted, in continuous pixels;
      None where it predicts masks alone.
  """

  score: float
  label: int
  class_name: str
  category_id: int
  box_xyxy: tuple[int, int, int, int]
  mask: np.ndarray
  predicted_box_xyxy: tuple[float, float, float, float] | None = None

  def full_mask(self, size: tuple[int, int]) -> np.ndarray:
    """Returns the mask in an image of (height, width). [height, width] bool."""
    full = np.zeros(size, bool)
    left, top, right, bottom = self.box_xyxy
    full[top:bottom, left:right] = self.mask
    return full


class Predictor:
  """An exported model.

  Attributes:
    manifest: The contents of manifest.json.
    num_dropped: Candidates beyond the decoder's capacity, over all images so
      far.
  """

  def __init__(
    self,
    folder: str | pathlib.Path = pathlib.Path(__file__).parent,
    *,
    runtime: str = "jax",
  ):
    """Reads a model; programs are compiled on first use.

    Args:
      folder: Folder of the export.
      runtime: 'jax' or 'onnx' (ONNX Runtime).

    Raises:
      FileNotFoundError: If a file is missing.
      ValueError: If a file was changed after the export, or the model has no
        program for this runtime.
    """
    if runtime not in RUNTIMES:
      raise ValueError(f"runtime must be one of {RUNTIMES}, got {runtime!r}")
    self._folder = pathlib.Path(folder)
    self.manifest = json.loads(
      (self._folder / "manifest.json").read_text(encoding="utf-8")
    )
    if self.manifest["format"] not in READABLE:
      raise ValueError(
        f"{self._folder}: exported in format {self.manifest['format']}, this "
        f"loader reads {READABLE}; use the predictor.py next to it"
      )
    self.num_dropped = 0
    self._runtime = runtime
    self._running = {}  # file of a program -> the function to call
    programs = [p for p in self.manifest["programs"] if p[runtime]]
    if not programs:
      raise ValueError(f"{self._folder}: exported without --{runtime}")
    # The smallest program that an image fits pads it least.
    self._programs = sorted(programs, key=lambda p: np.prod(p["input_size"]))
    self._weights = None
    if runtime == "jax":
      names = [x["name"] for x in self.manifest["weights"]["arrays"]]
      with np.load(self._checked(self.manifest["weights"]["file"])) as file:
        self._weights = [file[name] for name in names]

  def __call__(self, image: np.ndarray) -> list[Detection]:
    """Returns the objects of one image, by decreasing score.

    Args:
      image: RGB, RGBA (alpha is dropped) or grey. [H, W, 3], [H, W, 4],
        [H, W, 1] or [H, W] uint8 or uint16.

    Returns:
      The detections.

    Raises:
      ValueError: If the array is not such an image or too large for the model.
    """
    return self.predict([image])[0]

  def predict(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
    """Returns the objects of several images, run in the model's batches.

    Args:
      images: Images of any size and kind that `__call__` takes.

    Returns:
      The detections of each.
    """
    images = [to_uint8(to_rgb(image)) for image in images]
    rule = self.manifest["preprocessing"]
    side, overlap = rule["tile_size"], rule["tile_overlap"]
    if side is None:
      return self._detect(images)
    origins = [tile_origins(x.shape[:2], side, overlap) for x in images]
    tiles = [
      image[top : top + side, left : left + side]
      for image, corners in zip(images, origins, strict=True)
      for top, left in corners
    ]
    found = iter(self._detect(tiles))
    return [
      merge_tiles([next(found) for _ in corners], corners, side, x.shape[:2])
      for x, corners in zip(images, origins, strict=True)
    ]

  def _detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
    """Runs each image through the program that it fits."""
    waiting = {}
    for index, image in enumerate(images):
      number = self._choose(image.shape[:2])
      waiting.setdefault(number, []).append(index)
    results = [None] * len(images)
    for number, indices in waiting.items():
      program = self._programs[number]
      size = program["batch_size"]
      for start in range(0, len(indices), size):
        batch = indices[start : start + size]
        canvas = np.zeros((size, *program["canvas_size"], 3), np.uint8)
        sizes = np.ones((size, 2), np.int32)  # of the unused places
        for row, index in enumerate(batch):
          height, width = sizes[row] = images[index].shape[:2]
          canvas[row, :height, :width] = images[index]
        outputs = self._run(program, canvas, sizes)
        for row, index in enumerate(batch):
          results[index] = self._unpack({k: v[row] for k, v in outputs.items()})
    return results

  def _choose(self, size: tuple[int, int]) -> int:
    """Returns the program whose canvas and network input the image fits."""
    needed = resized_size(size, self.manifest["preprocessing"])
    for number, program in enumerate(self._programs):
      limits = (*program["canvas_size"], *program["input_size"])
      sides = (*size, *needed)
      if all(a <= b for a, b in zip(sides, limits, strict=True)):
        return number
    known = ", ".join(
      "{}x{} (resized to {}x{})".format(*p["canvas_size"], *p["input_size"])
      for p in self._programs
    )
    raise ValueError(
      "an image of {}x{} pixels (resized to {}x{}) fits none of the programs "
      "of this model: {}; shrink it, or export with a larger --image_size or "
      "--input_size".format(*size, *needed, known)
    )

  def _run(
    self, program: dict[str, Any], image: np.ndarray, original_size: np.ndarray
  ) -> dict[str, np.ndarray]:
    name = program[self._runtime]
    if name not in self._running:
      load = _load_onnx if self._runtime == "onnx" else _load_jax
      path = self._checked(name)
      names = [x["name"] for x in program["outputs"]]
      self._running[name] = load(path, self._weights, names)
    return self._running[name](image, original_size)

  def _unpack(self, outputs: dict[str, np.ndarray]) -> list[Detection]:
    """Returns the detections of one image, taken from a program's result."""
    self.num_dropped += int(outputs["num_dropped"])
    predicted = outputs.get("predicted_boxes_xyxy")
    detections = []
    for i in np.flatnonzero(outputs["valid"]):
      left, top, right, bottom = map(int, outputs["boxes_xyxy"][i])
      rows = np.unpackbits(outputs["masks"][i, top:bottom], axis=1)
      label = int(outputs["labels"][i])
      detections.append(
        Detection(
          score=float(outputs["scores"][i]),
          label=label,
          class_name=self.manifest["class_names"][label],
          category_id=self.manifest["category_ids"][label],
          box_xyxy=(left, top, right, bottom),
          mask=rows[:, left:right].astype(bool),
          predicted_box_xyxy=None
          if predicted is None
          else tuple(predicted[i].tolist()),
        )
      )
    return detections

  def _checked(self, name: str) -> pathlib.Path:
    """Returns the path of a file, checked against the manifest."""
    path = self._folder / name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != self.manifest["sha256"][name]:
      raise ValueError(
        f"{path}: not the file that was exported (its SHA-256 differs from "
        "the one in manifest.json); copy or export the model again"
      )
    return path


def _load_jax(
  path: pathlib.Path, weights: list[np.ndarray], names: Sequence[str]
) -> Callable[..., dict[str, np.ndarray]]:
  """Returns a program compiled by JAX for its default device."""
  import jax
  import jax.export

  call = jax.jit(jax.export.deserialize(path.read_bytes()).call)
  weights = jax.device_put(weights)

  def run(image, original_size):
    outputs = jax.device_get(call(weights, image, original_size))
    return dict(zip(names, outputs, strict=True))

  return run


def _load_onnx(
  path: pathlib.Path, weights: None, names: Sequence[str]
) -> Callable[..., dict[str, np.ndarray]]:
  """Returns a program for ONNX Runtime; the file includes the weights."""
  import onnxruntime

  session = onnxruntime.InferenceSession(
    str(path), providers=onnxruntime.get_available_providers()
  )
  inputs = [x.name for x in session.get_inputs()]

  def run(*arrays):
    outputs = session.run(None, dict(zip(inputs, arrays, strict=True)))
    return dict(zip(names, outputs, strict=True))

  return run


def to_rgb(image: np.ndarray) -> np.ndarray:
  """Returns a grey, RGB or RGBA image with three channels.

  Args:
    image: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] uint8 or uint16.

  Returns:
    Grey repeated, alpha dropped. [H, W, 3], dtype kept.

  Raises:
    ValueError: If the array is not such an image.
  """
  if image.dtype not in (np.uint8, np.uint16):
    raise ValueError(f"expected uint8 or uint16 pixels, got {image.dtype}")
  if image.ndim == 2:
    image = image[..., None]
  if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
    raise ValueError(
      "expected an image [H, W] or [H, W, 1, 3 or 4 channels], got shape "
      f"{image.shape}"
    )
  return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]


def to_uint8(image: np.ndarray) -> np.ndarray:
  """Returns a 16-bit image as 8 bits, by its percentiles 0.1 and 99.9."""
  if image.dtype == np.uint8:
    return image
  counts = np.cumsum(np.bincount(image.ravel(), minlength=2**16))
  low, high = np.searchsorted(
    counts, np.multiply((0.1, 99.9), image.size / 100)
  )
  levels = (np.arange(2**16) - low) * (255 / max(high - low, 1))
  return np.clip(levels + 0.5, 0, 255).astype(np.uint8)[image]


def resized_size(
  size: tuple[int, int], preprocessing: dict[str, Any]
) -> tuple[int, int]:
  """Returns the size to which the program resizes an image.

  Args:
    size: (height, width).
    preprocessing: short_side, max_side, keep_aspect, size_rounding, tile_size.

  Returns:
    (height, width), without padding.
  """
  short_side, tile = preprocessing["short_side"], preprocessing["tile_size"]
  if not preprocessing["keep_aspect"]:
    return short_side, short_side
  short, long = min(size), max(size)
  if tile is not None:
    # An image smaller than a tile is scaled like a whole tile, not enlarged.
    part = short_side * min(short, tile)
    short_side = max(1, (2 * part + tile) // (2 * tile))
  by_short = short_side, short
  by_long = preprocessing["max_side"], long
  above, below = min(by_short, by_long, key=lambda x: x[0] / x[1])
  half = 0 if preprocessing["size_rounding"] == "down" else below
  height, width = (
    max(1, (2 * side * above + half) // (2 * below)) for side in size
  )
  return height, width


def tile_origins(
  size: tuple[int, int], tile_size: int, overlap: int
) -> list[tuple[int, int]]:
  """Returns evenly spaced square tiles; neighbours share at least `overlap`."""

  def starts(length):
    count = max(1, -(-(length - overlap) // (tile_size - overlap)))
    return np.round(np.linspace(0, max(length - tile_size, 0), count))

  return [(int(y), int(x)) for y in starts(size[0]) for x in starts(size[1])]


def merge_tiles(
  tiles: Sequence[Sequence[Detection]],
  origins: Sequence[tuple[int, int]],
  tile_size: int,
  size: tuple[int, int],
) -> list[Detection]:
  """Returns the joined detections of all tiles of an image.

  Args:
    tiles: Detections of each tile.
    origins: (top, left) of each tile.
    tile_size: Side of a tile.
    size: (height, width) of the whole image.

  Returns:
    Detections of the whole image by decreasing score. Those cut by a seam are
    kept only if no other tile has the object.
  """
  placed, is_cut, first = (
    [],
    [],
    [],
  )  # first: where the detections of each tile start
  for found, (top, left) in zip(tiles, origins, strict=True):
    first.append(len(placed))
    for detection in found:
      box = np.add(detection.box_xyxy, (left, top, left, top))
      if not detection.mask.any():
        continue
      ends = np.minimum((left + tile_size, top + tile_size), size[::-1])
      # An edge of the tile is a seam unless it is an edge of the image.
      cut = (box[:2] == (left, top)) & (box[:2] > 0)
      cut |= (box[2:] == ends) & (box[2:] < size[::-1])
      is_cut.append(bool(cut.any()))
      predicted = detection.predicted_box_xyxy
      if predicted is not None:
        moved = np.add(predicted, (left, top, left, top), dtype=np.float32)
        predicted = tuple(moved.tolist())
      placed.append(
        dataclasses.replace(
          detection,
          box_xyxy=tuple(map(int, box)),
          predicted_box_xyxy=predicted,
        )
      )
  first.append(len(placed))
  same = [set() for _ in placed]
  for a, b in _neighbours(origins, tile_size):
    ranges = range(first[a], first[a + 1]), range(first[b], first[b + 1])
    for i, j in _touching(placed, *ranges):
      if _is_same_object(placed[i], placed[j]):
        same[i].add(j)
        same[j].add(i)
  kept = set()
  for i in sorted(
    range(len(placed)), key=lambda i: (is_cut[i], -placed[i].score)
  ):
    if not same[i] & kept:
      kept.add(i)
  order = sorted(kept, key=lambda i: (is_cut[i], -placed[i].score))
  return sorted((placed[i] for i in order), key=lambda x: -x.score)


def _neighbours(
  origins: Sequence[tuple[int, int]], tile_size: int
) -> Iterator[tuple[int, int]]:
  """Yields the pairs of tiles that share pixels."""
  corners = np.array(origins)
  for a in range(len(corners)):
    near = np.abs(corners[a + 1 :] - corners[a]).max(1) < tile_size
    for b in np.flatnonzero(near):
      yield a, a + 1 + int(b)


def _touching(
  placed: Sequence[Detection], one: range, other: range
) -> Iterator[tuple[int, int]]:
  """Yields the pairs of equal label whose boxes overlap."""

  def columns(indices):
    rows = [(placed[i].label, *placed[i].box_xyxy) for i in indices]
    return np.array(rows, np.int64).reshape(-1, 5).T

  label, left, top, right, bottom = (x[:, None] for x in columns(one))
  label_, left_, top_, right_, bottom_ = columns(other)
  overlap = (label == label_) & (left < right_) & (left_ < right)
  overlap &= (top < bottom_) & (top_ < bottom)
  for i, j in np.argwhere(overlap):
    yield one[i], other[j]


def _is_same_object(a: Detection, b: Detection) -> bool:
  left, top = np.maximum(a.box_xyxy[:2], b.box_xyxy[:2])
  right, bottom = np.minimum(a.box_xyxy[2:], b.box_xyxy[2:])

  def window(x):
    x0, y0 = x.box_xyxy[:2]
    return x.mask[top - y0 : bottom - y0, left - x0 : right - x0]

  shared = np.count_nonzero(window(a) & window(b))
  return shared > SAME_OBJECT * min(a.mask.sum(), b.mask.sum())


def main() -> None:
  """Prints the detections of image files, one JSON line per file."""
  parser = argparse.ArgumentParser(description="Runs an exported model.")
  parser.add_argument("images", nargs="+", help="image files")
  parser.add_argument("--runtime", choices=RUNTIMES, default="jax")
  parser.add_argument("--score_threshold", type=float, default=0.3)
  arguments = parser.parse_args()
  from PIL import Image

  predictor = Predictor(runtime=arguments.runtime)
  for path in arguments.images:
    with Image.open(path) as file:
      is_deep = file.mode.startswith("I;16")
      image = np.array(file if is_deep else file.convert("RGB"))
    try:
      detections = predictor(image)
    except ValueError as error:
      sys.exit(f"{path}: {error}")
    found = [
      to_json(x) for x in detections if x.score >= arguments.score_threshold
    ]
    print(json.dumps(dict(file=path, detections=found)))


def to_json(found: Detection) -> dict[str, Any]:
  """Returns a detection for JSON, with its predicted box if there is one."""
  predicted = found.predicted_box_xyxy
  is_predicted = predicted is not None
  return dict(
    class_name=found.class_name,
    score=round(found.score, 4),
    box_xyxy=[round(x, 2) for x in predicted]
    if is_predicted
    else found.box_xyxy,
    box_source="predicted" if is_predicted else "mask",
    area=int(found.mask.sum()),
  )


if __name__ == "__main__":
  main()
