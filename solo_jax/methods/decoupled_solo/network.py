"""The Decoupled SOLO network: masks are products of a column and a row map.

Follows https://arxiv.org/abs/1912.04488, section 5, and its light variant.
Outputs, loss and decoding are those of SOLO, with two factors per mask.

Shape letters: B images, S cells per side, G cells per level (S^2), C channels.
"""

import jax
import jax.numpy as jnp

from solo_jax.methods.grid.network import PRIOR, GridNetwork
from solo_jax.methods.solo.network import UPSCALE, LevelFactor, Outputs
from solo_jax.nn.layers import append_coordinates
from solo_jax.nn.resize import resize_bilinear


class DecoupledSOLO(GridNetwork, kw_only=True):
  """Decoupled SOLO on a given backbone.

  Attributes:
    shared_tower: One tower that sees both coordinates makes the column and the
      row maps, as in the light variant; False: each has its own tower and sees
      its own coordinate.
  """

  shared_tower: bool

  def setup(self):  # noqa: D102
    super().setup()
    if self.shared_tower:
      self.mask_convs = self.make_tower()
    else:
      self.mask_x_convs = self.make_tower()
      self.mask_y_convs = self.make_tower()
    self.mask_x = [self.make_conv(s, 3, prior=PRIOR) for s in self.num_grids]
    self.mask_y = [self.make_conv(s, 3, prior=PRIOR) for s in self.num_grids]

  def head(
    self, pyramid: tuple[jax.Array, ...], padded_size: tuple[int, int]
  ) -> Outputs:
    """Runs the towers on (P2, ..., P6) of a [H, W] input."""
    category_logits, factors, mask_sizes = [], [], []
    maps = self.level_maps(pyramid, padded_size)
    for level, (x, num_grid) in enumerate(
      zip(maps, self.num_grids, strict=True)
    ):
      category_logits.append(
        self.category_logits(resize_bilinear(x, (num_grid, num_grid)))
      )
      size = UPSCALE * x.shape[1], UPSCALE * x.shape[2]
      mask_x, mask_y = (
        predict[level](resize_bilinear(tower, size)).astype(jnp.float32)
        for tower, predict in zip(
          self._towers(x), (self.mask_x, self.mask_y), strict=True
        )
      )
      # The mask of the cell in row i, column j has factors x[j] and y[i].
      row, column = (
        jax.nn.one_hot(index.ravel(), num_grid)
        for index in jnp.mgrid[:num_grid, :num_grid]
      )  # [G, S]
      bias = jnp.zeros(num_grid**2)
      factors.append(
        (LevelFactor(mask_x, column, bias), LevelFactor(mask_y, row, bias))
      )
      mask_sizes.append(size)
    return Outputs(tuple(category_logits), tuple(factors), tuple(mask_sizes))

  def _towers(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what the column and the row maps are predicted from."""
    x = append_coordinates(x)
    if self.shared_tower:
      for conv in self.mask_convs:
        x = conv(x)
      return x, x
    column, row = x[..., :-1], jnp.delete(x, -2, axis=-1)
    for column_conv, row_conv in zip(
      self.mask_x_convs, self.mask_y_convs, strict=True
    ):
      column, row = column_conv(column), row_conv(row)
    return column, row
