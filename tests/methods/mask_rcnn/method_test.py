"""Tests of solo_jax/methods/mask_rcnn/method.py."""

import flax.linen as nn
import jax
import numpy as np

from solo_jax.methods.mask_rcnn.method import make, problems
from solo_jax.nn.backbones.resnet import ResNet
from tests.methods.region_sections import DECODE, LOSS, NETWORK
from tests.methods.small_regions import make_batch, make_variables

OWN = dict(
  mask_convs=1,
  mask_heads="one",
  mask_flow=False,
  mask_scores="mean",
  semantic_classes=0,
  mask_init="small",
)


def build():
  return make(
    ResNet(stage_sizes=(1, 1, 1, 1), widths=(4, 4, 4, 4), block="basic"),
    num_classes=2,
    network=NETWORK | OWN,
    loss=LOSS | dict(semantic_weight=0.2),
    decode=DECODE,
    axis_name=None,
  )


def test_trains_and_detects():
  method, batch = build(), make_batch()
  variables = make_variables(method.network, batch)

  def detect(variables):
    outputs = method.network.apply(
      variables, batch.image, batch.image_size, train=False
    )
    return method.decode(outputs, batch.image_size)

  decoded = jax.eval_shape(detect, variables)
  assert decoded.masks.paste == "torchvision"
  assert decoded.masks.probs.shape == (2, 5, 28, 28)
  loss = nn.apply(
    lambda network: method.loss(network, batch),
    method.network,
    mutable=["batch_stats"],
  )
  (value, terms), _ = jax.jit(
    lambda variables: loss(variables, rngs={"draws": jax.random.key(0)})
  )(variables)
  assert np.isfinite(value)
  assert set(terms) == {
    "proposal_category_loss",
    "proposal_box_loss",
    "category_loss",
    "box_loss",
    "mask_loss",
    "instances_dropped",
    "masks_dropped",
  }


def test_problems_of_mask_rcnn_configs_are_listed():
  sections = dict(network=NETWORK | OWN, loss=LOSS)
  assert not problems(sections)
  sections["network"] = NETWORK | OWN | dict(mask_flow=True)
  sections["loss"] = LOSS | dict(mask_regions="predicted")
  found = "\n".join(problems(sections))
  assert "network.mask_flow needs network.mask_heads='each'" in found
  assert "'predicted' is PointRend's alone" in found
