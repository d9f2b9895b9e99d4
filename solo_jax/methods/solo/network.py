"""The SOLO network: a mask channel for every cell of every grid.

Follows https://arxiv.org/abs/1912.04488, figure 3. Shape letters: B images,
K classes, S cells per side, G cells per level (S^2), C channels, h and w mask
size of a level, E channels that its masks are made from.
"""

import dataclasses

import flax.linen as nn
import jax

from solo_jax.methods.grid.network import PRIOR, GridNetwork, prior_bias
from solo_jax.nn.layers import append_coordinates
from solo_jax.nn.resize import resize_bilinear

# The masks of a level have twice the resolution of its map.
UPSCALE = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LevelFactor:
  """One factor of the masks of all cells of a level.

  The mask of a cell is the product over the factors of
  sigmoid(resize(feature . kernel[cell] + bias[cell])).

  Attributes:
    feature: [B, h', w', E] float.
    kernel: [G, E] float32.
    bias: [G] float32.
  """

  feature: jax.Array
  kernel: jax.Array
  bias: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
  """Raw outputs of the network.

  Attributes:
    category_logits: One [B, S, S, K] float32 per level.
    factors: The factors of the masks of each level.
    mask_sizes: Static (h, w) that the logits of each level are resized to.
  """

  category_logits: tuple[jax.Array, ...]
  factors: tuple[tuple[LevelFactor, ...], ...]
  mask_sizes: tuple[tuple[int, int], ...] = dataclasses.field(
    metadata=dict(static=True)
  )


class SOLO(GridNetwork):
  """SOLO on a given backbone.

  The last 1x1 convolution, from C to S^2 channels, is not applied here: its
  rows are returned as the kernels of the cells, so that training and decoding
  compute only the masks they need instead of all 3,872, and at half the
  resolution (a 1x1 convolution commutes with the bilinear enlargement).
  """

  def setup(self):  # noqa: D102
    super().setup()
    self.mask_convs = self.make_tower()
    self.mask = [CellKernels(num_grid**2) for num_grid in self.num_grids]

  def head(
    self, pyramid: tuple[jax.Array, ...], padded_size: tuple[int, int]
  ) -> Outputs:
    """Runs the towers on (P2, ..., P6) of a [H, W] input."""
    category_logits, factors, mask_sizes = [], [], []
    maps = self.level_maps(pyramid, padded_size)
    for x, num_grid, mask in zip(maps, self.num_grids, self.mask, strict=True):
      category_logits.append(
        self.category_logits(resize_bilinear(x, (num_grid, num_grid)))
      )
      x = append_coordinates(x)
      for conv in self.mask_convs:
        x = conv(x)
      factors.append((LevelFactor(x, *mask(x.shape[-1])),))
      mask_sizes.append((UPSCALE * x.shape[1], UPSCALE * x.shape[2]))
    return Outputs(tuple(category_logits), tuple(factors), tuple(mask_sizes))


class CellKernels(nn.Module):
  """The parameters of a 1x1 convolution to one channel per cell.

  Attributes:
    num_cells: G.
  """

  num_cells: int

  @nn.compact
  def __call__(self, channels: int) -> tuple[jax.Array, jax.Array]:
    """Returns kernel [G, C] and bias [G] for an input of C channels."""
    kernel = self.param(
      "kernel", nn.initializers.normal(0.01), (1, 1, channels, self.num_cells)
    )
    bias = self.param("bias", prior_bias(PRIOR), (self.num_cells,))
    return kernel[0, 0].T, bias
