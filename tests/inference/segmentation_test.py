"""Tests of solo_jax/inference/segmentation.py."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.errors import UserError
from solo_jax.inference.predictor import Model, Predictor
from solo_jax.inference.segmentation import Segmenter
from solo_jax.methods.interface import Method


class Brightness(nn.Module):
  """The red of each pixel times a parameter."""

  @nn.compact
  def __call__(self, image, image_size, *, train, row=None):
    scale = self.param("scale", nn.initializers.ones, ())
    return image[..., 0].astype(jnp.float32) * scale


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Maps:
  """Ids of a batch, all pixels of the input."""

  ids: jax.Array

  def to_original(self, row, *, image_size, original_size):
    height, width = image_size
    ids = np.asarray(self.ids[row])[:height, :width]
    ids = ids[:: height // original_size[0], :: width // original_size[1]]
    return types.SegmentMap(ids=ids, segments=())


METHOD = Method(
  network=Brightness(),
  loss=None,
  decode=None,
  decode_semantic=lambda outputs, size: Maps(outputs.astype(jnp.int32)),
  is_thing=(True, False),
)


def make_predictor(scale):
  rule = dict(
    short_side=8,
    max_side=64,
    keep_aspect=True,
    size_rounding="nearest",
    pad_multiple=32,
    interpolation="bilinear",
    tile_size=4,
    tile_overlap=0,
  )
  return Predictor(
    Model(
      method=METHOD,
      variables={"params": {"scale": jnp.float32(scale)}},
      preprocessing=rule,
      mask_threshold=0.5,
    )
  )


def test_an_image_is_segmented_whole_at_its_own_size():
  predictor = make_predictor(1)
  segmenter = Segmenter(predictor, ["semantic"])
  image = np.zeros((4, 6, 3), np.uint8)
  image[:, 3:, 0] = 7
  found = segmenter(image)
  assert found.keys() == {"semantic"}
  ids = found["semantic"].ids
  assert ids.shape == (4, 6)
  assert ids[:, 0].tolist() == [0] * 4 and ids[:, 5].tolist() == [7] * 4
  # Of the predictor's variables as they are then.
  predictor.variables = {"params": {"scale": jnp.float32(3)}}
  assert segmenter(image)["semantic"].ids[0, 5] == 21
  assert segmenter.is_thing == (True, False)


def test_a_method_without_such_maps_is_named():
  with pytest.raises(UserError, match="no panoptic segmentation"):
    Segmenter(make_predictor(1), ["panoptic"])
