"""Tests of solo_jax/methods/mask2former/loss.py."""

import dataclasses
import functools
import types as python_types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.methods.mask2former.loss import (
  LossSettings,
  Points,
  draw_points,
  mask2former_loss,
  outputs_loss,
  pair_costs,
)
from solo_jax.methods.mask2former.network import Outputs
from solo_jax.methods.mask2former.targets import Targets, make_targets
from solo_jax.methods.queries.matching import match
from solo_jax.methods.queries.points import uncertain_points


def assert_close(actual, expected, tolerance):
  atol = tolerance * np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


class Case(python_types.SimpleNamespace):
  """A fixture in our layout: instances padded to one more than any has."""

  def __init__(self, golden):
    config = golden.config
    self.num_instances = config["num_instances"]
    batch, capacity = len(self.num_instances), max(self.num_instances) + 1
    height, width = config["mask_hw"]
    masks = np.zeros((batch, capacity, height, width), bool)
    labels = np.zeros((batch, capacity), np.int32)
    for b, n in enumerate(self.num_instances):
      masks[b, :n] = golden.masks(f"gt_masks_{b}_packed", (height, width))
      labels[b, :n] = golden[f"gt_labels_{b}"]
    super().__init__(
      golden=golden,
      num_instances=self.num_instances,
      capacity=capacity,
      outputs=Outputs(
        *(
          tuple(
            jnp.asarray(golden[f"{kind}_{n}"], jnp.float32)
            for n in range(config["layers"])
          )
          for kind in ("class_logits", "mask_logits")
        )
      ),
      targets=Targets(
        masks=types.PackedMasks(
          data=jnp.asarray(np.packbits(masks, axis=-1)),
          encoding="bits",
          stride=1,
        ),
        labels=jnp.asarray(labels),
        valid=np.arange(capacity) < np.asarray(self.num_instances)[:, None],
        num_dropped=jnp.zeros(batch, int),
      ),
      settings=dataclasses.replace(
        SETTINGS,
        category_weight=config["class_weight"],
        category_cost=config["class_weight"],
        mask_weight=config["mask_weight"],
        dice_weight=config["dice_weight"],
        no_object_weight=config["no_object_weight"],
      ),
    )

  def match_points(self, n):
    return np.stack(
      [
        self.golden[f"match_points_{n}_{b}"].astype("f")
        for b in range(len(self.num_instances))
      ]
    )

  def by_instance(self, name, n):
    """Points of pairs, there in the order of images and queries."""
    pairs = self.golden[f"{name}_{n}"].astype("f")
    shape = (len(self.num_instances), self.capacity, *pairs.shape[1:])
    result, start = np.full(shape, 0.5, np.float32), 0
    for b, count in enumerate(self.num_instances):
      target = self.golden[f"match_target_{n}_{b}"]
      result[b, target] = pairs[start : start + count]
      start += count
    return result

  def draw(self, n):
    names = "over_points", "random_points"
    points = [jnp.asarray(self.by_instance(name, n)) for name in names]
    return Points(
      match=self.match_points(n),
      of_pairs=lambda *pair: tuple(x[pair] for x in points),
    )


@pytest.mark.golden("m2f_loss*.npz")
def test_fixture_costs_and_matching(golden):
  case = Case(golden)
  find = jax.jit(functools.partial(pair_costs, settings=case.settings))
  for n in range(golden.config["layers"]):
    costs = find(
      case.outputs.class_logits[n],
      case.outputs.mask_logits[n],
      case.targets,
      case.match_points(n),
    )
    queries = np.asarray(match(costs, case.targets.valid))
    for b, count in enumerate(case.num_instances):
      expected = golden[f"cost_{n}_{b}"]
      if not count:
        continue
      assert_close(costs[b, :count].T, expected, 1e-5)
      target = golden[f"match_target_{n}_{b}"]
      np.testing.assert_array_equal(
        queries[b, target], golden[f"match_query_{n}_{b}"]
      )


def ordered(points):
  """Points in a different order: theirs means nothing."""
  points = np.asarray(points)
  return points[np.lexsort(points.T)]


@pytest.mark.golden("m2f_loss*.npz")
def test_fixture_points(golden):
  case = Case(golden)
  choose = jax.jit(
    functools.partial(uncertain_points, num_points=golden.config["num_points"])
  )
  for n in range(golden.config["layers"]):
    logits, points = case.outputs.mask_logits[n], case.draw(n)
    maps = logits.reshape(-1, *logits.shape[2:])
    expected = case.by_instance("points", n)
    instances = jnp.arange(case.capacity)
    assert expected.shape[2] == golden.config["num_points"]
    for b, count in enumerate(case.num_instances):
      query = np.zeros(case.capacity, int)
      query[golden[f"match_target_{n}_{b}"]] = golden[f"match_query_{n}_{b}"]
      chosen = choose(
        maps,
        jnp.asarray(query + b * logits.shape[1]),
        *points.of_pairs(jnp.full_like(instances, b), instances),
      )[:count]
      for found, given in zip(chosen, expected[b], strict=False):
        np.testing.assert_array_equal(ordered(found), ordered(given))


@pytest.mark.golden("m2f_loss*.npz")
def test_fixture_losses_and_gradients(golden):
  case, config = Case(golden), golden.config
  image_valid = jnp.ones(len(case.num_instances), bool)

  @jax.jit
  def run(outputs):
    return jax.value_and_grad(
      lambda outputs: outputs_loss(
        outputs, case.targets, image_valid, case.draw, case.settings, None
      ),
      has_aux=True,
    )(outputs)

  (total, terms), gradient = run(case.outputs)
  np.testing.assert_allclose(total, golden["total"], rtol=1e-5)
  last = config["layers"] - 1
  for ours, theirs in (
    ("category", "class"),
    ("mask", "mask"),
    ("dice", "dice"),
  ):
    each = [golden[f"loss_{theirs}_{n}"] for n in range(last + 1)]
    weight = config[f"{theirs}_weight"]
    np.testing.assert_allclose(
      terms[f"{ours}_loss"], weight * sum(each), rtol=1e-5
    )
    np.testing.assert_allclose(
      terms[f"last_{ours}_loss"], weight * each[-1], rtol=1e-5
    )
  for n in range(last + 1):
    for kind in ("class_logits", "mask_logits"):
      assert_close(getattr(gradient, kind)[n], golden[f"grad_{kind}_{n}"], 2e-5)


class Fixed(nn.Module):
  """A network of two outputs that do not depend on the image."""

  def setup(self):
    self.logits = self.param(
      "logits", nn.initializers.normal(2.0), (2, 4, 8, 8)
    )
    self.classes = self.param("classes", nn.initializers.normal(1.0), (2, 4, 4))

  def __call__(self, image, image_size, *, train, row):
    del image_size, train, row
    shape = (len(image), 4)
    return Outputs(
      class_logits=tuple(
        jnp.broadcast_to(x, (*shape, 4)) for x in self.classes
      ),
      mask_logits=tuple(
        jnp.broadcast_to(x, (*shape, 8, 8)) for x in self.logits
      ),
    )


def make_batch(num_images, num_instances, capacity=7):
  rng = np.random.default_rng(0)
  masks = rng.random((num_images, capacity, 32, 32)) < 0.5
  return types.Batch(
    image=jnp.zeros((num_images, 32, 32, 3), jnp.uint8),
    image_size=jnp.full((num_images, 2), 32),
    image_valid=jnp.ones(num_images, bool),
    masks=types.PackedMasks(
      data=jnp.asarray(np.packbits(masks, axis=-1)), encoding="bits", stride=1
    ),
    centers=jnp.zeros((num_images, capacity, 2)),
    boxes_xyxy=jnp.zeros((num_images, capacity, 4)),
    labels=jnp.asarray(rng.integers(0, 3, (num_images, capacity))),
    valid=np.arange(capacity) < np.asarray(num_instances)[:, None],
    num_dropped=jnp.zeros(num_images, jnp.int32),
    row=jnp.arange(num_images),
  )


SETTINGS = LossSettings(
  category_weight=2.0,
  category_cost=2.0,
  mask_weight=5.0,
  dice_weight=5.0,
  no_object_weight=0.1,
  num_points=16,
  oversample_ratio=3.0,
  importance_sample_ratio=0.75,
)


def loss_and_gradient(variables, batch, axis_name=None):
  def run(variables):
    return nn.apply(
      functools.partial(
        mask2former_loss,
        settings=SETTINGS,
        axis_name=axis_name,
      ),
      Fixed(),
    )(variables, batch, rngs={"draws": jax.random.key(1)})

  return jax.value_and_grad(run, has_aux=True)(variables)


compiled = jax.jit(loss_and_gradient)  # once for batches of equal shapes


def gradient_of(batch, axis_name=None):
  rng = np.random.default_rng(1)
  params = dict(
    logits=rng.normal(0, 2, (2, 4, 8, 8)).astype(np.float32),
    classes=rng.normal(0, 1, (2, 4, 4)).astype(np.float32),
  )
  variables = dict(params=params)
  if axis_name is None:
    return compiled(variables, batch)
  parts = jax.tree.map(lambda x: x.reshape(2, -1, *x.shape[1:]), batch)
  split = functools.partial(loss_and_gradient, axis_name=axis_name)
  split = jax.vmap(split, (None, 0), axis_name=axis_name)
  return jax.jit(split)(variables, parts)


@pytest.mark.slow
def test_split_over_devices_it_is_the_same():
  batch = make_batch(4, [2, 0, 0, 3])
  (loss, terms), gradient = gradient_of(batch)
  (losses, split_terms), gradients = gradient_of(batch, "devices")
  np.testing.assert_allclose(losses.mean(), loss, rtol=1e-5)
  for name in ("category_loss", "mask_loss", "dice_loss", "num_instances"):
    np.testing.assert_allclose(split_terms[name].mean(), terms[name], rtol=1e-5)
  jax.tree.map(
    lambda many, one: assert_close(many.mean(0), one, 1e-5),
    gradients,
    gradient,
  )


def test_a_batch_without_instances_trains_the_classes_only():
  (loss, terms), gradient = gradient_of(make_batch(2, [0, 0]))
  assert np.isfinite(loss)
  assert terms["mask_loss"] == terms["dice_loss"] == 0
  gradient = gradient["params"]
  np.testing.assert_array_equal(gradient["logits"], 0)
  assert np.abs(gradient["classes"]).max() > 0


def test_an_image_that_does_not_count_changes_nothing():
  batch = make_batch(3, [2, 1, 3])
  cut = dataclasses.replace(batch, image_valid=jnp.asarray([1, 1, 0], bool))
  whole = jax.tree.map(lambda x: x[:2], batch)
  np.testing.assert_allclose(
    gradient_of(cut)[0][0], gradient_of(whole)[0][0], rtol=1e-6
  )


def test_instances_beyond_the_queries_are_dropped_and_counted():
  (loss, terms), _ = gradient_of(make_batch(2, [6, 3]))
  assert np.isfinite(loss)
  assert terms["instances_dropped"] == 2  # of 4 queries


def test_the_class_weighs_apart_in_the_costs():
  batch = make_batch(1, [1])
  rng = np.random.default_rng(0)
  classes = jnp.asarray(rng.standard_normal((1, 4, 4)), jnp.float32)
  logits = jnp.zeros((1, 4, 8, 8))
  points = jnp.full((1, 5, 2), 0.5)

  @jax.jit
  def find_both():
    settings = dataclasses.replace(SETTINGS, mask_weight=1.0, dice_weight=1.0)
    return [
      pair_costs(
        classes,
        logits,
        make_targets(batch, 4),
        points,
        dataclasses.replace(settings, category_cost=x),
      )[0, 0]
      for x in (0.0, 3.0)
    ]

  costs = find_both()
  probs = jax.nn.softmax(classes[0])[:, batch.labels[0, 0]]
  np.testing.assert_allclose(costs[0] - costs[1], 3 * probs, rtol=1e-5)


def test_points_of_an_image_belong_to_its_row():
  @jax.jit
  def draw(keys, layer, image, instance):
    points = draw_points(
      keys,
      layer,
      num_points=8,
      oversample_ratio=3.0,
      importance_sample_ratio=0.75,
    )
    return points.match, *points.of_pairs(image, instance)

  keys = jax.random.split(jax.random.key(0), 2)
  image, instance = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
  matched, candidates, others = draw(keys, 1, image, instance)
  one = draw(keys[1:], 1, np.zeros(2, int), instance[:2])
  assert candidates.shape == (4, 24, 2)
  assert others.shape == (4, 2, 2)
  np.testing.assert_array_equal(matched[1:], one[0])
  np.testing.assert_array_equal(candidates[2:], one[1])
  np.testing.assert_array_equal(others[2:], one[2])
  other_output = draw(keys, 0, image, instance)
  drawn = [*matched, other_output[0][0], *candidates[:, :8], others[0]]
  assert len({np.asarray(x).tobytes() for x in drawn}) == len(drawn)
