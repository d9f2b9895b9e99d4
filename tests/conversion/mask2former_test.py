"""Tests of solo_jax/conversion/mask2former.py.

That converted weights give the same outputs is tested with the networks.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mask2former_layouts import (
  RESNETS,
  SWINS,
  Checkpoint,
  make_state_dict,
)

from solo_jax.conversion.converter import suggest_config
from solo_jax.conversion.families import FAMILIES, find_family
from solo_jax.conversion.mapping import convert, dropped
from solo_jax.conversion.recognition import recognize
from solo_jax.errors import UserError
from solo_jax.methods.mask2former.decode import decode
from solo_jax.methods.mask2former.network import Mask2Former
from solo_jax.nn.backbones.resnet import DEPTHS, ResNet
from solo_jax.nn.backbones.swin import SIZES, Swin
from solo_jax.published import PUBLISHED
from solo_jax.weights import load_config
from tests.network_parts import without_backbone

FAMILY_OF = {
  "Mask2Former on the Hugging Face Hub": "transformers",
  "facebookresearch/Mask2Former": "mask2former",
  "mmdetection 3": "mmdet_mask2former",
}
ROWS = [row for row in PUBLISHED if row.name.startswith("mask2former_")]


def layout_of(row):
  """The layout of a published checkpoint."""
  config = load_config(row.config)
  backbone = row.config.partition("backbone=")[2].split(",")[0]
  return Checkpoint(
    FAMILY_OF[row.code_base],
    backbone,
    config.network.num_queries,
    config.dataset.num_classes,
  )


# Those of Cityscapes and ADE20K have no names to be downloaded by: their config
# is that of their folder.
CHECKPOINTS = [
  Checkpoint("transformers", "swin_b", 100, 150),
  Checkpoint("transformers", "swin_l", 100, 150),
  Checkpoint("transformers", "swin_t", 100, 19),
  Checkpoint("mask2former", "swin_t", 100, 19),
  Checkpoint("mask2former", "r50", 100, 150),
  Checkpoint("mask2former", "r50", 100, 80),
]


def make_network(checkpoint):
  if checkpoint.backbone in SWINS:
    backbone = Swin(**SIZES[checkpoint.backbone[-1]])
  else:
    backbone = ResNet(**DEPTHS[int(checkpoint.backbone[1:])])
  return Mask2Former(
    backbone=backbone,
    num_classes=checkpoint.classes,
    num_queries=checkpoint.queries,
    channels=256,
    mask_channels=256,
    num_heads=8,
    num_encoder_layers=6,
    encoder_hidden=1024,
    num_decoder_layers=9,
    decoder_hidden=2048,
    remat_encoder=False,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    channel_order="rgb",
    dtype=jnp.float32,
  )


def name_of(checkpoint):
  return "-".join(map(str, vars(checkpoint).values()))


def shapes_of(checkpoint):
  """Shapes of variables and detections."""
  network, backbone = without_backbone(make_network(checkpoint))
  variables, found = shapes_behind(network, checkpoint.classes)
  return backbone.add_to(variables), found


@functools.cache
def shapes_behind(network, num_classes):
  """Those of a network without its backbone, which many have in common."""
  image = jax.ShapeDtypeStruct((1, 800, 1344, 3), jnp.uint8)
  image_size = jax.ShapeDtypeStruct((1, 2), jnp.int32)

  def detect(key, image, image_size):
    outputs, variables = network.init_with_output(
      key, image, image_size, train=False
    )
    found = decode(
      outputs, image_size, things=range(num_classes), max_detections=100
    )
    return variables, found

  return jax.eval_shape(detect, jax.random.key(0), image, image_size)


def check(checkpoint):
  """Converts zeros of all names and shapes; (used, dropped, parameters)."""
  arrays = make_state_dict(checkpoint)
  family = find_family(None, arrays)
  assert family.name == checkpoint.family
  found = recognize(family, arrays)
  assert (found.method, found.backbone, found.num_classes) == (
    "mask2former",
    checkpoint.backbone,
    checkpoint.classes,
  )
  target, decoded = shapes_of(checkpoint)
  assert decoded.masks.probs.shape == (1, 100, 200, 336)
  rules = family.rules["mask2former"]
  # Values play no role: a target of bytes takes a quarter of the memory.
  small = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.int8), target
  )
  converted = convert(family.prepare(arrays), rules, small)
  assert jax.tree.structure(converted) == jax.tree.structure(target)
  left_out = dropped(family.prepare(arrays), rules)
  assert all(
    re.search("index$|empty_weight$|num_batches_tracked$", name)
    for name in left_out
  )
  parameters = sum(x.size for x in jax.tree.leaves(target["params"]))
  return len(arrays) - len(left_out), len(left_out), parameters


@pytest.mark.parametrize(
  "checkpoint",
  [
    # Those of ADE20K differ from those that have names in their classes only.
    pytest.param(x, marks=[pytest.mark.slow] if x.classes == 150 else ())
    for x in CHECKPOINTS
  ],
  ids=name_of,
)
def test_a_published_layout_converts_with_nothing_left_over(checkpoint):
  check(checkpoint)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_published_name_converts_with_nothing_left_over(row, record_property):
  checkpoint = layout_of(row)
  used, left_out, parameters = check(checkpoint)
  suggested = suggest_config(
    find_family(checkpoint.family, ()),
    recognize(find_family(checkpoint.family, ()), make_state_dict(checkpoint)),
  )
  network = load_config(suggested.removeprefix("configs/")).network
  assert network == load_config(row.config).network
  record_property(
    "published",
    {
      "family": checkpoint.family,
      "checkpoint": row.name,
      "config": row.config,
      "AP, published": row.ap,
      "tensors": used,
      "dropped": left_out,
      "parameters": f"{parameters:,}",
      "input": "800x1344",
      "masks": "100x200x336",
    },
  )


def test_old_names_of_the_original():
  # Before version 2 of its files the pixel decoder's names were shorter and
  # the queries called static.
  arrays = make_state_dict(CHECKPOINTS[-1])
  old = {
    name.replace(".pixel_decoder.", ".").replace(
      "query_feat", "static_query"
    ): x
    for name, x in arrays.items()
  }
  assert old.keys() != arrays.keys()
  family = find_family(None, old)
  target, _ = shapes_of(CHECKPOINTS[-1])
  convert(family.prepare(old), family.rules["mask2former"], target)
  # And strict: what is not known is not read over.
  del old["sem_seg_head.predictor.query_embed.weight"]
  old["sem_seg_head.predictor.extra.weight"] = np.zeros(3)
  with pytest.raises((ValueError, UserError), match="in 2 places"):
    convert(family.prepare(old), family.rules["mask2former"], target)


def test_no_two_families_claim_a_file():
  for checkpoint in CHECKPOINTS:
    names = list(make_state_dict(checkpoint))
    assert find_family(None, names).name == checkpoint.family
  assert len({family.name for family in FAMILIES}) == len(FAMILIES)
  assert RESNETS.keys() | SWINS.keys() == {
    "r50",
    "r101",
    "swin_t",
    "swin_s",
    "swin_b",
    "swin_l",
    "swin_l_window7",
  }
