"""Reports which padded shapes a predictor compiles, and how long it takes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from absl import logging


class CompilationReport:
  """Reports a call of a program with new shapes, before and after it.

  Attributes:
    tell: Called with each line; may be set.
  """

  def __init__(self):
    self.tell: Callable[[str], None] = logging.info
    self._shapes: set[tuple[tuple[int, ...], ...]] = set()

  @contextlib.contextmanager
  def __call__(self, images: Sequence[np.ndarray]) -> Iterator[None]:
    """Returns a context for one call.

    Args:
      images: Arguments of the program. [B, H, W, 3] each.
    """
    shapes = tuple(image.shape for image in images)
    if shapes in self._shapes:
      yield
      return
    sizes = ", ".join(f"{shape[1]} x {shape[2]}" for shape in shapes)
    self.tell(
      f"compiling for images padded to {sizes} on {jax.default_backend()}, or "
      "reading the program from the cache"
    )
    start = time.perf_counter()
    yield
    self._shapes.add(shapes)
    self.tell(f"ready after {time.perf_counter() - start:.1f} s")
