"""From images of any size to Instances at their size: the trained network.

Images are resized and padded by the rule of the checkpoint's `preprocessing`
and run through one compiled function per padded shape, always with the same
batch size on each device, so a result depends neither on the other images of
the batch nor on the number of devices.

With a short side S, a long side of at most L and padding to multiples of p,
there are at most 2 (L / p + 2) shapes: 88 for the published 800, 1333 and 32.
"""

import dataclasses
import functools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from solo_jax import types
from solo_jax.errors import UserError
from solo_jax.inference import augmentation, masks, tiling
from solo_jax.inference.compilation_report import CompilationReport
from solo_jax.inference.instances import to_instances
from solo_jax.inference.preparation import Preparation, Prepared
from solo_jax.inference.stage_clock import StageClock
from solo_jax.methods.interface import Method
from solo_jax.terminal import plural

# Batches' worth of images that may wait for others of their padded shape.
_MAX_WAITING = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """A trained method and everything needed to run it.

  Attributes:
    method: The method, made with the configuration of `variables`.
    variables: {'params', 'batch_stats'} of the network.
    preprocessing: short_side, max_side, pad_multiple, interpolation, tile_size
      and tile_overlap; other entries belong to the network and are ignored.
    mask_threshold: A pixel belongs to a mask above this probability.
    class_names: Name of each label; empty if unused.
    category_ids: The dataset's own id of each label; empty if unused.
    exif: What training did with orientation tags, 'apply' or 'ignore'. Arrays
      have no tags, so only code that reads files uses it.
  """

  method: Method
  variables: dict[str, Any]
  preprocessing: Mapping[str, Any]
  mask_threshold: float
  class_names: tuple[str, ...] = ()
  category_ids: tuple[int, ...] = ()
  exif: str = "ignore"


class Predictor:
  """Runs a trained method on images of any size.

  Threads may call it at once. It compiles once for each padded shape;
  `inference.compilation_cache` keeps the programs for the next start.

  Attributes:
    model: What it was made from, without the variables.
    class_names: Name of each label.
    category_ids: The dataset's own id of each label.
    exif: See `Model`.
    num_compiled: Padded shapes compiled so far.
    num_dropped: Candidates beyond the decoder's capacity so far.
    clock: The host's time by stage, over all images so far.
    compilations: Its `tell` gets a line before and after a compilation.
  """

  def __init__(
    self,
    model: Model,
    *,
    batch_size: int = 1,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    devices: Sequence[jax.Device] | None = None,
    few_shapes: bool = False,
  ):
    """Prepares a predictor; compiles on first use.

    Args:
      model: What to run.
      batch_size: Images per network call on each device; a short batch is
        padded.
      scales: Sizes at which each image is processed, relative to that of
        `preprocessing`; detections are joined in the frame of the first.
      flip: Whether each of them is also processed mirrored.
      devices: Devices of this process to spread the images over; None: the
        first.
      few_shapes: Whether fewer programs are compiled by padding more, see
        `preparation.pad_to_few`; scores of unusual formats differ a little from
        an evaluation's.

    Raises:
      UserError: If a scale is not positive, or the method has no test-time
        augmentation.
    """
    if not scales or min(scales) <= 0:
      raise UserError(f"scales must be positive factors, got {list(scales)}")
    method = model.method
    is_augmented = flip or len(scales) > 1
    if is_augmented:
      method.require("merge")
    devices = jax.local_devices()[:1] if devices is None else devices
    mesh = Mesh(np.asarray(devices), ("devices",))
    whole, rows = PartitionSpec(), PartitionSpec("devices")
    self._replicated = NamedSharding(mesh, whole)
    self._split = NamedSharding(mesh, rows)
    self.variables = model.variables
    self.model = dataclasses.replace(model, variables={})
    self.class_names = model.class_names
    self.category_ids = model.category_ids
    self.exif = model.exif
    self.num_compiled = 0
    self.num_dropped = 0
    self.clock = StageClock()
    self._tile_size = model.preprocessing["tile_size"]
    self._tile_overlap = model.preprocessing["tile_overlap"]
    self._preparation = Preparation(
      model.preprocessing, scales, few_shapes=few_shapes
    )
    self.compilations = CompilationReport()
    self._mask_threshold = model.mask_threshold
    self._batch_size = batch_size * len(devices)
    # Held while tracing and starting a program, not while it runs, and for the
    # counters, so that each shape is compiled once.
    self._lock = threading.Lock()

    def detect(variables, images, image_sizes):
      self.num_compiled += 1  # runs only while tracing: once per shape
      if is_augmented:
        return augmentation.detect_variants(
          method, variables, images, image_sizes, flip=flip
        )
      (image,), (image_size,) = images, image_sizes
      outputs = method.network.apply(variables, image, image_size, train=False)
      return method.decode(outputs, image_size)

    def draw(variables, image, image_size):
      outputs = method.network.apply(variables, image, image_size, train=False)
      return method.views(outputs, image_size)

    # Each device processes only its rows, without communication, so that
    # processes with different images need not stay in step.
    self._detect = jax.jit(
      jax.shard_map(
        detect,
        mesh=mesh,
        in_specs=(whole, rows, rows),
        out_specs=rows,
        check_vma=False,
      )
    )
    self._draw = jax.jit(draw)
    self._method = method

  @classmethod
  def from_checkpoint(
    cls,
    path: str | os.PathLike,
    *,
    batch_size: int = 1,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    few_shapes: bool = False,
  ) -> Self:
    """Returns the predictor of a model on JAX's first device.

    Args:
      path: Folder of a run (its newest checkpoint is used) or of one
        checkpoint, `workdir/checkpoints/<step>`; a name of `published.py`, an
        https:// address, hf:owner/model or the file of another code base.
      batch_size: See `__init__`.
      scales: See `__init__`.
      flip: See `__init__`.
      few_shapes: See `__init__`.

    Returns:
      The predictor.

    Raises:
      UserError: If there is no checkpoint (the message lists what was found),
        it is damaged, or its method has no test-time augmentation.
    """
    # Only here does inference import checkpoints and configs; the training
    # loop, which has both, builds its predictor without this function.
    from solo_jax.weights import load_model

    make = functools.partial(cls, load_model(os.fspath(path)), flip=flip)
    return make(batch_size=batch_size, scales=scales, few_shapes=few_shapes)

  def __call__(self, image: np.ndarray) -> types.Instances:
    """Returns the instances of one image.

    Args:
      image: RGB, RGBA (alpha is dropped) or grey. [H0, W0, 3], [H0, W0, 4],
        [H0, W0, 1] or [H0, W0] uint8 or uint16.

    Returns:
      Instances at the image's size.

    Raises:
      ValueError: If the array is not such an image.
    """
    return self.predict([image])[0]

  @property
  def variables(self) -> dict:
    """Returns the network's {'params', 'batch_stats'}, on all devices.

    Can be set to newer ones of the same shapes without recompiling.
    """
    return self._variables

  @variables.setter
  def variables(self, variables: dict) -> None:
    self._variables = jax.device_put(variables, self._replicated)

  @property
  def has_views(self) -> bool:
    """Returns whether the method can draw its maps, see `views`."""
    return self._method.views is not None

  def views(self, image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns pictures of the network's maps of one image, without tiling.

    Args:
      image: See `__call__`.

    Returns:
      RGB pictures at the image's size by name. [H0, W0, 3] uint8.

    Raises:
      errors.UserError: If the method has no views.
    """
    self._method.require("views")
    prepared = self._preparation(0, image)
    with self._lock:
      drawn = self._draw(
        self.variables,
        jnp.asarray(prepared.images[0][None]),
        jnp.asarray([prepared.image_sizes[0]], jnp.int32),
      )
    return {
      name: masks.picture_to_original(
        np.asarray(picture[0]),
        mask_stride=prepared.images[0].shape[0] // picture.shape[1],
        image_size=prepared.image_sizes[0],
        original_size=prepared.original_size,
      )
      for name, picture in drawn.items()
    }

  def predict(self, images: Iterable[np.ndarray]) -> list[types.Instances]:
    """Returns the instances of several images, in their order.

    Args:
      images: Images of any size and kind that `__call__` takes.

    Returns:
      Instances of each image.
    """
    return [
      found for _, found in sorted(self.stream(images), key=lambda x: x[0])
    ]

  def stream(
    self, images: Iterable[np.ndarray]
  ) -> Iterator[tuple[int, types.Instances]]:
    """Yields instances batch by batch, keeping few images in memory.

    Images are batched with others of the same padded shape, so results are not
    in the order of the images. At most 4 batches of images wait for others;
    then the shape that has waited longest runs as a short batch. While the
    device runs one batch, the host turns the previous one's detections into
    masks.

    Args:
      images: Images of any size and kind that `__call__` takes.

    Yields:
      (position of the image in `images`, its Instances).
    """
    if self._tile_size is None:
      yield from self._stream_whole(images)
      return
    yield from tiling.detect_tiled(
      images,
      self._stream_whole,
      tile_size=self._tile_size,
      overlap=self._tile_overlap,
      clock=self.clock,
    )

  def _stream_whole(
    self, images: Iterable[np.ndarray]
  ) -> Iterator[tuple[int, types.Instances]]:
    """Runs images through the network without tiling; see `stream`."""
    running = None
    for group in self._group(images):
      running, finished = self._start(group), running
      yield from self._finish(finished)
    yield from self._finish(running)

  def _group(self, images: Iterable[np.ndarray]) -> Iterator[list[Prepared]]:
    """Yields batches of one padded shape, short ones if too many wait."""
    waiting = {}  # padded shape -> images; the oldest shape first
    num_waiting = 0
    for index, image in enumerate(images):
      with self.clock("preprocessing"):
        prepared = self._preparation(index, image)
      shape = tuple(image.shape for image in prepared.images)
      group = waiting.setdefault(shape, [])
      group.append(prepared)
      num_waiting += 1
      if len(group) < self._batch_size:
        if num_waiting < _MAX_WAITING * self._batch_size:
          continue
        shape = next(iter(waiting))
      group = waiting.pop(shape)
      num_waiting -= len(group)
      yield group
    yield from waiting.values()

  def summary(self, num_dropped: int) -> str:
    """Returns a log line about compilations and dropped candidates so far.

    Args:
      num_dropped: Candidates dropped by this predictor, or by all processes
        together.
    """
    return (
      f"{plural(self.num_compiled, 'padded shape')} compiled, "
      f"{plural(num_dropped, 'candidate')} beyond the capacity of decoding"
    )

  def padded_size(self, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size of the network input of an image, without tiling.

    Args:
      size: (height, width) of the image.

    Returns:
      Padded (height, width).
    """
    return self._preparation.padded_size(size)

  def _start(
    self, group: list[Prepared]
  ) -> tuple[list[Prepared], types.Decoded]:
    """Sends a batch to the device without waiting for the result."""
    padding = self._batch_size - len(group)
    images = tuple(
      np.pad(np.stack(rows), ((0, padding), (0, 0), (0, 0), (0, 0)))
      for rows in zip(*(p.images for p in group), strict=True)
    )
    image_sizes = tuple(
      np.pad(np.array(rows, np.int32), ((0, padding), (0, 0)), mode="edge")
      for rows in zip(*(p.image_sizes for p in group), strict=True)
    )
    batch = jax.device_put((images, image_sizes), self._split)
    with self._lock, self.clock("compiling, starting"):
      with self.compilations(images):
        decoded = self._detect(self.variables, *batch)
    return list(group), decoded

  def _finish(
    self, running: tuple[list[Prepared], types.Decoded] | None
  ) -> Iterator[tuple[int, types.Instances]]:
    """Waits for a batch and resizes its masks to the original sizes."""
    if running is None:
      return
    group, decoded = running
    with self.clock("network, decoding"):
      decoded = jax.device_get(decoded)
    with self._lock:
      self.num_dropped += int(decoded.num_dropped[: len(group)].sum())
    for row, prepared in enumerate(group):
      with self.clock("masks"):
        found = to_instances(
          decoded,
          row,
          padded_size=prepared.images[0].shape[:2],
          image_size=prepared.image_sizes[0],
          original_size=prepared.original_size,
          threshold=self._mask_threshold,
        )
      yield prepared.index, found
