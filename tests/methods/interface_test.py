"""Tests of solo_jax/methods/interface.py."""

import dataclasses
import types as python_types

import flax.linen as nn
import jax.numpy as jnp
import pytest

from solo_jax.errors import UserError
from solo_jax.methods.interface import ABILITIES, Method, one_pass


class Sum(nn.Module):
  @nn.compact
  def __call__(self, image, image_size, *, train, row=None):
    assert train
    scale = self.param("scale", nn.initializers.constant(2.0), ())
    return scale * image.sum() + image_size.sum() + row.sum()


def test_a_lacking_ability_is_named():
  method = Method(network=Sum(), loss=None, decode=None, name="toy")
  for ability in ABILITIES:
    message = f"the method 'toy', .*has no .*`Method.{ability}`"
    with pytest.raises(UserError, match=message):
      method.require(ability)
  able = dataclasses.replace(method, merge=sum)
  assert able.require("merge") is sum


def test_every_ability_that_may_lack_has_words():
  optional = {
    field.name for field in dataclasses.fields(Method) if field.default is None
  }
  assert optional == set(ABILITIES)


def test_one_pass_runs_the_bound_network_on_the_batch():
  batch = python_types.SimpleNamespace(
    image=jnp.ones((1, 2, 2, 3)),
    image_size=jnp.array([[2, 2]]),
    row=jnp.array([7]),
    labels=jnp.array([100.0]),
  )
  loss = one_pass(lambda outputs, batch: outputs + batch.labels[0])
  variables = {"params": {"scale": jnp.float32(3.0)}}
  # 3 x 12 + 4 + 7 + 100.
  assert nn.apply(loss, Sum())(variables, batch) == 147.0
