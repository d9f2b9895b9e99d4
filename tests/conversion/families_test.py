"""Tests of solo_jax/conversion/families.py."""

import layouts
import numpy as np
import pytest

from solo_jax.conversion import families
from solo_jax.conversion.families import find_family
from solo_jax.errors import UserError


def resnet(out, depth, **groups):
  layouts.torchvision_resnet(out, "", depth, **groups)
  out.affine("fc", 1000)


def test_a_named_family_is_not_guessed():
  assert find_family("mmdet", {"anything": 1}).name == "mmdet"
  with pytest.raises(UserError, match=r"unknown family 'x'; choose one of"):
    find_family("x", {})


def test_unknown_names():
  source = {"encoder.weight": np.zeros(1), "encoder.bias": np.zeros(1)}
  with pytest.raises(UserError, match=r"encoder\.weight.*no known family"):
    find_family(None, source)


def test_two_families_in_one_file():
  source = layouts.Layout()
  resnet(source, 18)
  layouts.detectron2_resnet(source, "", 50)
  with pytest.raises(UserError, match=r"\['torchvision', 'detectron2'\]"):
    find_family(None, source)


def test_authors_of_solo_and_yolact_and_torchvision_have_background_first():
  """Its 80 outputs are labels 1 to 80 in training, 0 to 79 here."""
  offsets = {f.name: f.label_of_first_class for f in families.FAMILIES}
  for name in ("", "_v2"):
    assert offsets.pop(f"torchvision_mask_rcnn{name}") == 1
  assert offsets.pop("solo_official") == offsets.pop("yolact") == 1
  assert not any(offsets.values())
