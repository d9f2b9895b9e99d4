"""Tests of solo_jax/methods/regions/heads.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.regions.heads import BoxHead, ProposalHead


def box_head(**changed):
  given = dict(
    num_classes=3,
    box_classes="each",
    num_convs=0,
    conv_channels=4,
    num_dense=1,
    dense_channels=5,
    dense_init="fan_in",
    norm=None,
    axis_name=None,
    dtype=jnp.float32,
  )
  return BoxHead(**given | changed)


def test_proposals_are_ordered_by_position_and_anchor():
  head = ProposalHead(num_convs=0, channels=2, num_anchors=3, dtype=jnp.float32)
  level = np.arange(12.0, dtype=np.float32).reshape(1, 2, 3, 2)
  kernel = np.arange(24.0, dtype=np.float32).reshape(1, 1, 2, 12)
  params = {
    "logits": {"kernel": kernel[..., :3], "bias": np.zeros(3)},
    "codes": {"kernel": kernel, "bias": np.arange(12.0)},
  }
  logits, codes = head.apply({"params": params}, level)
  assert logits.shape == (1, 18)
  assert codes.shape == (1, 18, 4)
  # Row 1, column 2, anchor 1 is the 5 * 3 + 1st.
  pixel = level[0, 1, 2]
  np.testing.assert_allclose(logits[0, 16], pixel @ kernel[0, 0, :, 1])
  np.testing.assert_allclose(
    codes[0, 16], pixel @ kernel[0, 0, :, 4:8] + [4, 5, 6, 7]
  )


def test_boxes_of_each_class_and_of_all():
  x = jnp.ones((2, 3, 7, 7, 4))
  for box_classes, number in (("each", 3), ("all", 1)):
    head = box_head(box_classes=box_classes)
    init = functools.partial(head.init_with_output, train=False)
    (logits, codes), _ = jax.eval_shape(init, jax.random.key(0), x)
    assert logits.shape == (2, 3, 4)
    assert codes.shape == (2, 3, number, 4)
  with pytest.raises(ValueError, match="box_classes must be in .*'one'"):
    box_head(box_classes="one").init(jax.random.key(0), x, train=False)


def test_codes_are_class_by_class():
  head = box_head(num_dense=0)
  x = jnp.ones((1, 1, 1, 1, 1))
  params = {
    "logits": {"kernel": np.zeros((1, 4)), "bias": np.arange(4.0)},
    "codes": {"kernel": np.zeros((1, 12)), "bias": np.arange(12.0)},
  }
  _, codes = head.apply({"params": params}, x, train=False)
  np.testing.assert_array_equal(codes[0, 0, 1], [4, 5, 6, 7])


def test_norms_gather_statistics_in_training_only():
  head = box_head(num_convs=1, norm="batch")
  x = jax.random.normal(jax.random.key(1), (1, 2, 7, 7, 4))
  variables = jax.jit(functools.partial(head.init, train=False))(
    jax.random.key(0), x
  )
  assert "bias" not in variables["params"]["conv_0"]["conv"]
  _, updated = head.apply(variables, x, train=True, mutable=["batch_stats"])
  before = variables["batch_stats"]["conv_0"]["norm"]["mean"]
  assert np.abs(updated["batch_stats"]["conv_0"]["norm"]["mean"] - before).max()
  _, updated = head.apply(variables, x, train=False, mutable=["batch_stats"])
  np.testing.assert_array_equal(
    updated["batch_stats"]["conv_0"]["norm"]["mean"], before
  )
