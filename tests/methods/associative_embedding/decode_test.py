"""Tests of solo_jax/methods/associative_embedding/decode.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.grouping.groups import Groups
from solo_jax.methods.associative_embedding.decode import (
  DecodeSettings,
  decode,
  describe_groups,
)
from solo_jax.methods.associative_embedding.network import Outputs
from tests.methods.associative_embedding.conftest import (
  SIZE,
  SQUARES,
  make_batch,
  make_outputs,
  make_perfect,
)

DECODE = dict(
  mask_stride=2,
  grouping="seed",
  foreground_threshold=0.5,
  seed_threshold=0.5,
  radii=(1.0,),
  min_pixels=3,
  min_unclaimed=0.5,
  competing=False,
  score_terms=("category", "membership", "quality"),
  score_threshold=0.05,
  mask_threshold=0.5,
  nms_kernel="gaussian",
  nms_sigma=2.0,
  update_threshold=0.05,
  max_detections=6,
)


@functools.cache
def compiled(settings):
  return jax.jit(functools.partial(decode, settings=settings))


def run(outputs, size=2 * SIZE, **overrides):
  sizes = jnp.full((outputs.seed_logits.shape[0], 2), size)
  return compiled(DecodeSettings(**DECODE | overrides))(outputs, sizes)


def found_masks(decoded, image=0):
  """Binary masks of the valid detections, by their first pixel."""
  valid = np.asarray(decoded.valid[image])
  masks = np.asarray(decoded.masks.probs[image])[valid] > 0.5
  order = np.argsort([mask.argmax() for mask in masks])
  return masks[order], np.asarray(decoded.labels[image])[valid][order]


@pytest.mark.parametrize("grouping", ["seed", "histogram", "mean_shift"])
def test_perfect_outputs_decode_to_the_instances(batch, grouping):
  decoded = run(make_perfect(batch), grouping=grouping)
  masks, labels = found_masks(decoded)
  np.testing.assert_array_equal(labels, [s[-1] for s in SQUARES])
  np.testing.assert_array_equal(masks, batch.masks.data[0, :3] > 0)
  # Sure of the class, at the centre, of quality sigmoid(4).
  expected = 1 / (1 + np.exp(-4.0)) ** 2
  np.testing.assert_allclose(decoded.scores[0, :3], expected, rtol=1e-3)
  np.testing.assert_array_equal(decoded.scores[0, 3:], 0)


@pytest.mark.parametrize(
  ("terms", "expected"),
  [
    ((), 1.0),
    (("quality",), 0.5),
    (("seed", "quality"), 0.5 / (1 + np.exp(-12.0))),
    (("membership",), 1 / (1 + np.exp(-4.0))),
  ],
)
def test_scores_are_products_of_their_terms(batch, terms, expected):
  outputs = make_perfect(batch, quality=0.0)
  decoded = run(outputs, score_terms=terms)
  np.testing.assert_allclose(decoded.scores[0, :3], expected, rtol=1e-3)
  assert np.sum(decoded.valid) == 3  # one class each, though none is scored


def test_a_group_of_two_classes_is_two_detections():
  batch = make_batch(((2, 2, 6, 1),))
  outputs = make_perfect(batch)
  # Softmax over three classes, of which two share: 0.7 and 0.3.
  logits = np.array(outputs.category_logits)
  inside = logits[..., 1] > 0
  logits[inside] = np.log([0.3, 0.7, 1e-9]) + 12
  outputs = outputs.__class__(
    **{**vars(outputs), "category_logits": jnp.asarray(logits)}
  )
  decoded = run(outputs, score_terms=("category",))
  np.testing.assert_array_equal(decoded.valid[0, :3], [True, True, False])
  np.testing.assert_array_equal(decoded.labels[0, :2], [1, 0])
  np.testing.assert_allclose(decoded.scores[0, :2], [0.7, 0.3], rtol=1e-3)
  np.testing.assert_allclose(
    decoded.masks.probs[0, 0], decoded.masks.probs[0, 1], rtol=1e-6
  )


@pytest.mark.parametrize("competing", [False, True])
def test_groups_may_compete_for_pixels(competing):
  """Pixels on a line at 0, 1.2, 1.5 and 2; groups of radius 1 at 0 and 3."""
  places = np.array([0, 1.2, 1.5, 2, 6.0])
  zeros = jnp.zeros(len(places))
  maps = Outputs(
    category_logits=jnp.full((len(places), 1), 20.0),  # all foreground
    embedding=jnp.stack([jnp.asarray(places), zeros], axis=-1),
    log_precision=zeros,
    seed_logits=zeros,
    quality_logits=zeros,
  )
  groups = Groups(
    assignment=zeros.astype(int),
    centers=jnp.array([[0.0, 0.0], [3.0, 0.0], [1.2, 0.0]]),
    log_precision=jnp.zeros(3),
    valid=jnp.array([True, True, False]),  # the third does not compete
    num_dropped=0,
  )
  probs, scores = describe_groups(
    groups,
    maps,
    jnp.ones(len(places), bool),
    competing=competing,
    score_terms=(),
  )
  member = 1 / (1 + np.exp(-4 * (1 - (places - [[0], [3]]) ** 2)))
  expected = member / (member.sum(axis=0) + 0.05) if competing else member
  np.testing.assert_allclose(probs[:2], expected, rtol=1e-4, atol=1e-6)
  # 1.2 is beyond the radius, but nearer to the first than to anything else.
  np.testing.assert_array_equal(probs[0] > 0.5, [1, competing, 0, 0, 0])
  # 2 is at the radius of the second, which gets it if groups compete.
  np.testing.assert_array_equal(scores[:, 0] > 0, [True, competing, False])


def test_nothing_found_is_a_result(batch):
  outputs = make_perfect(make_batch(()))
  decoded = run(outputs)
  assert not decoded.valid.any() and not decoded.scores.any()
  assert np.isfinite(decoded.masks.probs).all()


def test_padding_is_not_grouped(batch):
  """The lower square is beyond an image of 18 px, 9 pixels of the map."""
  masks, _ = found_masks(run(make_perfect(batch), size=18))
  expected = batch.masks.data[0, :2] > 0
  expected[:, :, 9:] = False  # the second square is cut
  np.testing.assert_array_equal(masks, expected)


def test_groups_beyond_the_capacity_are_counted(batch):
  decoded = run(make_perfect(batch), max_detections=2)
  assert decoded.num_dropped[0] == 1
  assert decoded.valid[0].all()


def test_groups_of_two_radii_do_not_both_survive(batch):
  once = run(make_perfect(batch))
  # Of the same mask twice the second's score decays by exp(-2).
  twice = run(make_perfect(batch), radii=(1.0, 1.3), update_threshold=0.3)
  both, _ = found_masks(twice)
  masks, _ = found_masks(once)
  np.testing.assert_array_equal(both, masks)


def test_a_batch_equals_its_images():
  outputs = make_outputs(num_images=3)
  together = run(outputs)
  assert together.valid.any()
  for i in range(3):
    alone = run(jax.tree.map(lambda x, i=i: x[i : i + 1], outputs))
    jax.tree.map(
      lambda a, b, i=i: np.testing.assert_allclose(a[i], b[0], rtol=1e-5),
      together,
      alone,
    )


def test_choices_are_named(batch):
  outputs = make_perfect(batch)
  with pytest.raises(ValueError, match="'mean_shift', not 'kmeans'"):
    run(outputs, grouping="kmeans")
  with pytest.raises(ValueError, match=r"score_terms has \['luck'\]; known"):
    run(outputs, score_terms=("luck",))
