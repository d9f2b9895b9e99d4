"""Tests of solo_jax/methods/associative_embedding/method.py."""

import jax
import numpy as np
import pytest

from solo_jax.methods.associative_embedding.method import problems
from tests.inspection.conftest import sections
from tests.methods.scene import BOXES, make_setting

CONFIG = "associative_embedding_shapes"


def test_free_tags_are_not_merged():
  assert make_setting(CONFIG)[0].merge is not None
  assert make_setting(CONFIG, "loss=pull_push")[0].merge is None


def test_targets_are_drawn_as_groups():
  method, batch, _ = make_setting(CONFIG)
  (name,) = views = jax.jit(method.target_views)(batch, None)
  assert name == "groups of perfect tags"
  (picture,) = np.asarray(views[name])
  stride = batch.image.shape[1] // picture.shape[0]
  colors = {
    tuple(picture[(top + bottom) // 2 // stride, (left + right) // 2 // stride])
    for left, top, right, bottom in BOXES
  }
  assert len(colors) == len(BOXES)


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    (dict(network__embedding="tag"), "'spatial' goes with 'spatial'"),
    (dict(network__tag_channels=3), "a spatial embedding has 2"),
    (dict(network__mask_stride=4), "they must be equal"),
    (dict(network__num_groups=7), "network.head_channels is"),
  ],
)
def test_problems_of_its_own_fields(changed, message):
  assert problems(sections(CONFIG)) == []
  found = problems(sections(CONFIG, **changed))
  assert any(message in line for line in found), found


def test_a_histogram_bins_two_dimensions():
  tags = "loss=pull_push,grouping=histogram"
  config = sections(CONFIG, tags, network__tag_channels=3)
  assert "bins at most 2" in problems(config)[0]
