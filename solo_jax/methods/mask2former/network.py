"""The Mask2Former network (https://arxiv.org/abs/2112.01527).

Shape letters: B images, H, W padded input, h, w mask resolution (a quarter),
Q queries, K classes.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.methods.mask2former.decoder import MaskedDecoder
from solo_jax.methods.mask2former.pixel_decoder import PixelDecoder
from solo_jax.nn.layers import normalize_image

MASK_STRIDE = 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
  """Raw outputs, one entry before the first layer and one after each.

  The last entry is the result; all entries have a loss.

  Attributes:
    class_logits: Logits of a softmax; the last class is 'no object'.
      [B, Q, K + 1] float32.
    mask_logits: [B, Q, h, w] float32.
  """

  class_logits: tuple[jax.Array, ...]
  mask_logits: tuple[jax.Array, ...]


class Mask2Former(nn.Module):
  """Backbone, pixel decoder and a decoder of queries.

  Attributes:
    backbone: Module returning maps at strides 4, 8, 16, 32.
    num_classes: K.
    num_queries: Q.
    channels: Channels of both decoders.
    mask_channels: Channels of the mask features.
    num_heads: Heads of every attention in the decoders.
    num_encoder_layers: Layers of the pixel decoder.
    encoder_hidden: Hidden channels of its perceptrons.
    num_decoder_layers: Layers of the decoder.
    decoder_hidden: Hidden channels of its perceptrons.
    remat_encoder: Whether the layers of the pixel decoder are recomputed in the
      backward pass instead of kept.
    mean: Channel means, in `channel_order`.
    std: Channel standard deviations, in `channel_order`.
    channel_order: 'rgb' or 'bgr': the order that the backbone expects.
    dtype: Compute type.
  """

  backbone: nn.Module
  num_classes: int
  num_queries: int
  channels: int
  mask_channels: int
  num_heads: int
  num_encoder_layers: int
  encoder_hidden: int
  num_decoder_layers: int
  decoder_hidden: int
  remat_encoder: bool
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  channel_order: str
  dtype: jnp.dtype

  def setup(self):  # noqa: D102
    self.pixel_decoder = PixelDecoder(
      channels=self.channels,
      mask_channels=self.mask_channels,
      num_layers=self.num_encoder_layers,
      num_heads=self.num_heads,
      hidden=self.encoder_hidden,
      remat=self.remat_encoder,
      dtype=self.dtype,
    )
    self.decoder = MaskedDecoder(
      num_classes=self.num_classes,
      num_queries=self.num_queries,
      channels=self.channels,
      mask_channels=self.mask_channels,
      num_layers=self.num_decoder_layers,
      num_heads=self.num_heads,
      hidden=self.decoder_hidden,
      dtype=self.dtype,
    )

  def __call__(
    self,
    image: jax.Array,
    image_size: jax.Array,
    *,
    train: bool,
    row: jax.Array | None = None,
  ) -> Outputs:
    """Runs the network.

    Args:
      image: Padded RGB pixels. [B, H, W, 3] uint8.
      image_size: Valid (height, width). [B, 2] int32.
      train: Whether the backbone trains.
      row: Row of each image in the global batch, for a backbone that draws.
        [B] int32.

    Returns:
      The raw outputs.
    """
    x = normalize_image(
      image,
      image_size,
      mean=self.mean,
      std=self.std,
      channel_order=self.channel_order,
      dtype=self.dtype,
    )
    maps = self.backbone(x, train=train, row=row)
    return Outputs(*self.decoder(*self.pixel_decoder(maps)))
