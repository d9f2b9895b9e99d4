"""Decoupled SOLO as a row of the table of methods: two factors per mask."""

import functools

from solo_jax.methods.decoupled_solo.network import DecoupledSOLO
from solo_jax.methods.decoupled_solo.perfect_outputs import column_and_row
from solo_jax.methods.grid.method import Parts, make_grid_method
from solo_jax.methods.solo.decode import make_grids
from solo_jax.methods.solo.loss import solo_loss
from solo_jax.methods.solo.method import problems
from solo_jax.methods.solo.perfect_outputs import perfect_outputs

__all__ = ["make", "problems"]

make = functools.partial(
  make_grid_method,
  Parts(
    network=DecoupledSOLO,
    loss=solo_loss,
    make_grids=make_grids,
    perfect_outputs=functools.partial(
      perfect_outputs, make_factors=column_and_row
    ),
    shared_cells="last",
  ),
)
