"""Tests of solo_jax/config_augmentations.py."""

import dataclasses
import json

import ml_collections
import pytest

from solo_jax.config import from_json, make_config, to_json
from solo_jax.config_augmentations import AUGMENTATIONS, from_former_fields
from solo_jax.config_checks import REQUIRED
from solo_jax.data import augmentations
from solo_jax.errors import UserError
from tests.config_test import MINIMAL, load


def make(*stages):
  transforms = MINIMAL["transforms"] | dict(augment=stages)
  return make_config(method="solov2", **MINIMAL | dict(transforms=transforms))


def test_the_config_knows_the_settings_of_every_augmentation():
  there_are = {
    name: {
      field.name: REQUIRED
      if field.default is dataclasses.MISSING
      else field.default
      for field in dataclasses.fields(kind)
      if field.name != "image_size"
    }
    for name, kind in (augmentations.LAZY | augmentations.EAGER).items()
  }
  assert there_are == {
    name: {field.name: field.neutral for field in fields}
    for name, fields in AUGMENTATIONS.items()
  }


@pytest.mark.parametrize(
  ("stages", "message"),
  [
    ([("mix", {})], "augment has 'mix'; it may have 'orient', .*'mosaic"),
    (
      [("orient", dict(flop=0.5))],
      "augment: 'orient' has 'flop'; it may have flip, vertical_flip, transp",
    ),
    ([("copy_paste", {})], "probability of 'copy_paste' is missing"),
    (
      [("orient", dict(flip="yes"))],
      "flip of 'orient' is 'yes'; it must be a number from 0 to 1",
    ),
    (
      [("scale_jitter", dict(factor=(1, 2), reference="own"))],
      "reference of 'scale_jitter' is 'own'; it must be one of 'fit', 'short",
    ),
    (["orient"], r"augment is \('orient',\); it must be a tuple of pairs"),
    ([("orient", 0.5)], "it must be a tuple of pairs"),
  ],
)
def test_make_config_refuses(stages, message):
  with pytest.raises(UserError, match=message):
    make(*stages)


def test_every_wrong_setting_is_listed():
  with pytest.raises(UserError) as error:
    make(("orient", dict(flip=2.0)), ("resize_short_side", dict(side=3)))
  assert str(error.value).count("\n  - ") == 4


def test_a_list_survives_json_whatever_it_was_made_from():
  settings = ml_collections.ConfigDict(dict(short_sides=(32, 64), max_side=64))
  config = make(["orient", {}], ["resize_short_side", settings])
  expected = (
    ("orient", {}),
    ("resize_short_side", dict(short_sides=(32, 64), max_side=64)),
  )
  for found in (config, from_json(to_json(config))):
    assert found.transforms.augment == expected
    assert found.to_dict()["transforms"]["augment"] == expected
    augmentations.build(found.transforms.augment, (64, 64))


@pytest.mark.parametrize(
  ("name", "former"),
  [
    (
      "solov2_nuclei",
      dict(
        short_sides=[256],
        max_side=256,
        scale_jitter=[0.7, 1.4],
        jitter_reference="original",
        flip=0.5,
        vertical_flip=0.5,
        transpose=0.5,
        color_jitter=0.2,
      ),
    ),
    (
      "solov2_own_data",
      dict(
        short_sides=[320, 352, 384, 416, 448, 480],
        max_side=640,
        scale_jitter=None,
        jitter_reference="fit",
        flip=0.5,
        vertical_flip=0.0,
        transpose=0.0,
        color_jitter=0.0,
      ),
    ),
  ],
)
def test_a_checkpoint_of_before_the_list_is_read_as_the_config_of_today(
  name, former
):
  config = load(name)
  saved = json.loads(to_json(config))
  for field in ("augment", "mask_frame", "box_mask_size"):
    del saved["transforms"][field]
  saved["transforms"] |= former
  assert from_json(json.dumps(saved)).to_dict() == config.to_dict()


def test_mirroring_nothing_still_draws():
  """As it did: the draws of what follows depend on it."""
  values = {
    "seed": 3,
    "transforms.image_size": (8, 8),
    "transforms.scale_jitter": (0.5, 2.0),
  }
  assert from_former_fields(values) == {
    "seed": 3,
    "transforms.image_size": (8, 8),
    "transforms.augment": (
      ("orient", {}),
      ("scale_jitter", dict(factor=(0.5, 2.0), reference="fit")),
    ),
  }
