"""Panoptic and semantic maps of images of any size."""

import threading
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.inference.predictor import Predictor
from solo_jax.inference.preparation import Preparation

KINDS = ("panoptic", "semantic")


class Segmenter:
  """Runs the network of a predictor for maps of whole images.

  Images are never tiled, so segments do not end at tiles. May be called from
  several threads.

  Attributes:
    is_thing: Whether each label is a thing.
  """

  def __init__(self, predictor: Predictor, kinds: Sequence[str] = KINDS):
    """Makes the segmenter, which compiles once per padded size.

    Args:
      predictor: The source of the variables, also after they change.
      kinds: Names from KINDS.

    Raises:
      errors.UserError: If the method has no such maps.
    """
    method = predictor.model.method
    decoders = {kind: method.require(f"decode_{kind}") for kind in kinds}
    self.is_thing = method.is_thing
    self._predictor = predictor
    self._preparation = Preparation(
      {**predictor.model.preprocessing, "tile_size": None}, (1.0,)
    )
    self._lock = threading.Lock()

    @jax.jit
    def run(variables, image, image_size):
      outputs = method.network.apply(variables, image, image_size, train=False)
      return {
        kind: decode(outputs, image_size) for kind, decode in decoders.items()
      }

    self._run = run

  def __call__(self, image: np.ndarray) -> dict[str, types.SegmentMap]:
    """Returns the maps of one image.

    Args:
      image: See `Predictor.__call__`.

    Returns:
      Maps at the image's size, by kind.
    """
    prepared = self._preparation(0, image)
    with self._lock:
      found = self._run(
        self._predictor.variables,
        jnp.asarray(prepared.images[0][None]),
        jnp.asarray([prepared.image_sizes[0]], jnp.int32),
      )
    found = jax.device_get(found)
    return {
      kind: queries.to_original(
        0,
        image_size=prepared.image_sizes[0],
        original_size=prepared.original_size,
      )
      for kind, queries in found.items()
    }
