"""Traces backbones once, however many networks of a table have them.

A trace costs seconds, and the networks of the published checkpoints differ in
one of two parts: in the backbone, or in what is behind it.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

SIDE = 64  # of a backbone's input; shapes of variables do not depend on it
_FOUND = {}


class Maps(nn.Module):
  """Zeros in place of a backbone.

  Attributes:
    maps: (stride, channels, name of the dtype) of each.
  """

  maps: tuple[tuple[int, int, str], ...]

  def __call__(self, x, *, train, row=None):
    batch, height, width, _ = x.shape
    return tuple(
      jnp.zeros(
        (batch, -(-height // stride), -(-width // stride), channels), dtype
      )
      for stride, channels, dtype in self.maps
    )


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A traced backbone.

  Attributes:
    variables: Their shapes.
    jaxpr: Program that draws them and runs on one image.
  """

  variables: dict
  jaxpr: object

  def add_to(self, variables):
    """The variables of a network without its backbone, with this one's."""
    return {
      name: variables.get(name, {})
      | ({"backbone": self.variables[name]} if name in self.variables else {})
      for name in variables.keys() | self.variables.keys()
    }


def without_backbone(network):
  """Returns the network on maps of zeros, and the backbone that it had."""
  key = repr(network.backbone)
  if key not in _FOUND:
    _FOUND[key] = _trace(network.backbone)
  maps, backbone = _FOUND[key]
  return network.clone(backbone=maps), backbone


def _trace(backbone):
  def run(key, x):
    return backbone.init_with_output(key, x, train=False)

  jaxpr, (outputs, variables) = jax.make_jaxpr(run, return_shape=True)(
    jax.random.key(0), jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
  )
  maps = tuple((SIDE // x.shape[1], x.shape[3], x.dtype.name) for x in outputs)
  return Maps(maps), Backbone(variables, jaxpr.jaxpr)
