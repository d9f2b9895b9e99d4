"""Tests of solo_jax/methods/associative_embedding/loss.py."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.associative_embedding.loss import (
  DISTANCE_MARGIN,
  VARIANCE_MARGIN,
  LossSettings,
  associative_embedding_loss,
)
from tests.methods.associative_embedding.conftest import (
  SIZE,
  make_batch,
  make_outputs,
  make_perfect,
  repeat,
)

WEIGHTS = dict(
  foreground_weight=1.5,
  category_weight=2.0,
  pull_weight=0.7,
  push_weight=0.9,
  norm_weight=0.1,
  mask_weight=3.0,
  spread_weight=0.4,
  seed_weight=1.1,
  quality_weight=0.6,
)
LOSSES = ("spatial", "discriminative", "pull_push")


def run(outputs, batch, embedding_loss="spatial", mask_loss="dice"):
  """Loss, terms and the gradient with respect to the outputs."""
  return compiled(embedding_loss, mask_loss)(outputs, batch)


@functools.cache
def compiled(embedding_loss, mask_loss):
  settings = LossSettings(
    embedding_loss=embedding_loss, mask_loss=mask_loss, **WEIGHTS
  )
  total = functools.partial(associative_embedding_loss, settings=settings)
  return jax.jit(jax.value_and_grad(total, has_aux=True))


def sigmoid(x):
  return 1 / (1 + np.exp(-np.float64(x)))


def by_numpy(outputs, batch, embedding_loss):
  """The terms of one image, instance by instance and pixel by pixel."""
  maps = {
    field.name: np.float64(getattr(outputs, field.name)[0])
    for field in dataclasses.fields(outputs)
  }
  masks = batch.masks.data[0][batch.valid[0]] / 255
  labels = batch.labels[0][batch.valid[0]]
  owner, covered = masks.argmax(0), masks.max(0) > 0
  logits = maps["category_logits"]
  fg_logit = np.log(np.exp(logits).sum(-1))
  foreground = sigmoid(fg_logit)

  def entropy(logit, target):
    p = sigmoid(logit)
    return -target * np.log(p) - (1 - target) * np.log(1 - p)

  log_class = logits - fg_logit[..., None]
  categories, instances, ious = [], [], []
  means = []
  seed, quality = np.zeros(covered.shape), np.zeros(covered.shape)
  for i, (mask, label) in enumerate(zip(masks > 0, labels, strict=True)):
    categories.append(-log_class[mask][:, label].mean())
    tags = maps["embedding"]
    mean = tags[mask].mean(0)
    means.append(mean)
    precision = maps["log_precision"][mask].mean()
    squares = ((tags - mean) ** 2).sum(-1)
    member = sigmoid(4 * (1 - np.exp(precision) * squares))
    probs = foreground * member
    found = probs > 0.5
    ious.append((found & mask).sum() / max((found | mask).sum(), 1))
    if embedding_loss == "spatial":
      overlap, size = (probs * mask).sum(), (probs**2).sum() + mask.sum()
      spread = ((maps["log_precision"][mask] - precision) ** 2).mean()
      instances.append(
        WEIGHTS["mask_weight"] * (1 - 2 * overlap / (size + 2e-3))
        + WEIGHTS["spread_weight"] * spread
      )
    elif embedding_loss == "pull_push":
      pull = squares[mask].mean() / tags.shape[-1]
      instances.append(WEIGHTS["pull_weight"] * pull)
    else:
      far = np.maximum(np.sqrt(squares[mask]) - VARIANCE_MARGIN, 0)
      instances.append(WEIGHTS["pull_weight"] * (far**2).mean())
    mine = covered & (owner == i)
    seed[mine], quality[mine] = member[mine], ious[-1]
  gaps = [np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]]
  push = {
    "spatial": 0.0,
    "pull_push": WEIGHTS["push_weight"]
    * 0.5
    * np.mean(np.exp(-np.square(gaps))),
    "discriminative": WEIGHTS["push_weight"]
    * np.mean(np.maximum(2 * DISTANCE_MARGIN - np.array(gaps), 0) ** 2)
    + WEIGHTS["norm_weight"] * np.mean(np.linalg.norm(means, axis=1)),
  }[embedding_loss]
  scored = entropy(maps["quality_logits"], quality) * covered
  return dict(
    foreground_loss=1.5 * entropy(fg_logit, np.float64(covered)).mean(),
    category_loss=2.0 * np.mean(categories),
    embedding_loss=np.mean(instances) + push,
    seed_loss=1.1 * entropy(maps["seed_logits"], seed).mean(),
    quality_loss=0.6 * scored.mean(),
    mask_iou=np.mean(ious),
    instances_dropped=0,
  )


@pytest.mark.parametrize("embedding_loss", LOSSES)
def test_terms_equal_numpy(batch, embedding_loss):
  outputs = make_outputs()
  (loss, terms), _ = run(outputs, batch, embedding_loss)
  expected = by_numpy(outputs, batch, embedding_loss)
  assert terms.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(terms[name], value, rtol=1e-4, err_msg=name)
  parts = [value for name, value in terms.items() if name.endswith("_loss")]
  np.testing.assert_allclose(loss, sum(parts), rtol=1e-6)


@pytest.mark.parametrize("embedding_loss", LOSSES)
def test_a_batch_without_objects_has_finite_gradients(embedding_loss):
  batch = make_batch(())
  (loss, terms), gradients = run(make_outputs(), batch, embedding_loss)
  for leaf in jax.tree.leaves((loss, terms, gradients)):
    assert np.isfinite(leaf).all()
  assert terms["embedding_loss"] == terms["category_loss"] == 0
  np.testing.assert_array_equal(gradients.embedding, 0)
  assert terms["foreground_loss"] > 0  # background is learned from it


@pytest.mark.parametrize("embedding_loss", LOSSES)
def test_one_pixel_objects_and_equal_tags_have_finite_gradients(embedding_loss):
  batch = make_batch(((3, 3, 1, 0), (4, 3, 1, 1), (9, 9, 1, 2)))
  outputs = jax.tree.map(jnp.zeros_like, make_outputs())
  (loss, terms), gradients = run(outputs, batch, embedding_loss)
  for leaf in jax.tree.leaves((loss, terms, gradients)):
    assert np.isfinite(leaf).all()


def test_images_that_do_not_count_change_nothing(batch):
  outputs = make_outputs(num_images=2)
  two = repeat(batch, 2)
  two = dataclasses.replace(two, image_valid=np.array([True, False]))
  (_, terms), gradients = run(outputs, two)
  (_, alone), _ = run(jax.tree.map(lambda x: x[:1], outputs), batch)
  for name, value in alone.items():
    np.testing.assert_allclose(terms[name], value, rtol=1e-5, err_msg=name)
  for leaf in jax.tree.leaves(gradients):
    np.testing.assert_array_equal(leaf[1], 0)


def test_order_and_padding_of_instances_do_not_matter(batch):
  outputs = make_outputs()
  (loss, _), gradients = run(outputs, batch)
  order = np.array([4, 2, 0, 3, 1])
  shuffled = dataclasses.replace(
    batch,
    masks=jax.tree.map(lambda x: x[:, order], batch.masks),
    labels=batch.labels[:, order],
    valid=batch.valid[:, order],
  )
  (other, _), others = run(outputs, shuffled)
  np.testing.assert_allclose(other, loss, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
    gradients,
    others,
  )


def test_what_did_not_fit_is_counted(batch):
  batch = dataclasses.replace(batch, num_dropped=np.int32([7]))
  assert run(make_outputs(), batch)[0][1]["instances_dropped"] == 7


@pytest.mark.parametrize("mask_loss", ["dice", "lovasz"])
def test_right_outputs_lose_little(batch, mask_loss):
  (_, terms), _ = run(
    make_perfect(batch, quality=12.0), batch, "spatial", mask_loss
  )
  np.testing.assert_allclose(terms["mask_iou"], 1)
  for name in ("foreground_loss", "category_loss", "quality_loss"):
    np.testing.assert_allclose(terms[name], 0, atol=1e-3, err_msg=name)
  assert terms["embedding_loss"] < 0.15  # membership is 0.98 in the middle
  assert terms["seed_loss"] < 0.1


def test_devices_together_equal_one():
  """Four images on two devices, with objects on one of them only."""
  first = make_batch(num_images=2)
  second = make_batch((), num_images=2)
  outputs = make_outputs(num_images=4)
  batches = [
    jax.tree.map(lambda *x: np.concatenate(x), first, second),
    jax.tree.map(lambda *x: np.stack(x), first, second),
  ]
  (loss, terms), _ = run(outputs, batches[0])

  def device_loss(outputs, batch):
    loss, terms = associative_embedding_loss(
      outputs,
      batch,
      LossSettings(embedding_loss="spatial", mask_loss="dice", **WEIGHTS),
      axis_name="device",
    )
    return jax.lax.pmean(loss, "device"), terms

  split = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), outputs)
  mapped, parts = jax.jit(jax.vmap(device_loss, axis_name="device"))(
    split, batches[1]
  )
  np.testing.assert_allclose(mapped, [loss] * 2, rtol=1e-5)
  for name in ("category_loss", "embedding_loss", "seed_loss", "mask_iou"):
    np.testing.assert_allclose(
      np.mean(parts[name]), terms[name], rtol=1e-5, err_msg=name
    )


def test_losses_are_named(batch):
  outputs = make_outputs()
  with pytest.raises(ValueError, match="must be one of .*not 'triplet'"):
    run(outputs, batch, "triplet")
  with pytest.raises(ValueError, match="'dice' or 'lovasz', not 'iou'"):
    run(outputs, batch, "spatial", "iou")
  assert outputs.seed_logits.shape == (1, SIZE, SIZE)
