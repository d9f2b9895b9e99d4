"""Tests of solo_jax/methods/point_rend/method.py."""

import flax.linen as nn
import jax
import numpy as np

from solo_jax.methods.point_rend.method import make, problems
from solo_jax.nn.backbones.resnet import ResNet
from tests.methods.region_sections import DECODE, LOSS, NETWORK
from tests.methods.small_regions import make_batch, make_variables

OWN = dict(subdivision_steps=2, subdivision_points=20)
OWN_LOSS = dict(points=8, point_candidates=3, uncertain_share=0.75)


def test_trains_and_detects(pool_by_products):
  method, batch = (
    make(
      ResNet(stage_sizes=(1, 1, 1, 1), widths=(4, 4, 4, 4), block="basic"),
      num_classes=2,
      network=NETWORK | OWN,
      loss=LOSS | OWN_LOSS | dict(mask_regions="predicted"),
      decode=DECODE,
      axis_name=None,
    ),
    make_batch(),
  )
  variables = make_variables(method.network, batch)

  def detect(variables):
    outputs = method.network.apply(
      variables, batch.image, batch.image_size, train=False
    )
    return method.decode(outputs, batch.image_size)

  decoded = jax.eval_shape(detect, variables)
  assert decoded.masks.probs.shape == (2, 5, 28, 28)

  @jax.jit
  def gradient(params):
    def loss(params):
      (value, terms), _ = nn.apply(
        lambda network: method.loss(network, batch),
        method.network,
        mutable=["batch_stats"],
      )(
        variables | {"params": params},
        rngs={"draws": jax.random.key(0)},
      )
      return value, terms

    return jax.grad(loss, has_aux=True)(params)

  gradients, terms = gradient(variables["params"])
  assert float(terms["point_loss"]) > 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    assert np.isfinite(leaf).all(), path
    if path[0].key in ("coarse", "points", "box_heads_0"):
      assert np.any(leaf != 0), path


def test_problems_of_point_rend_configs_are_listed():
  sections = dict(network=NETWORK | OWN, loss=LOSS)
  assert not problems(sections)
  sections["network"] = NETWORK | dict(
    stage_weights=NETWORK["stage_weights"] * 2
  )
  assert "PointRend has one" in "\n".join(problems(sections))
