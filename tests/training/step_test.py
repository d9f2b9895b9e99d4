"""Tests of solo_jax/training/step.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import parallel
from solo_jax.errors import UserError
from solo_jax.training.step import check_finite, is_count, update_average

BATCH_SIZE = 8


@pytest.fixture(scope="module")
def batch(toy):
  return toy.make_toy_batch(np.random.default_rng(0), BATCH_SIZE)


def take(toy, run, *batches):
  """Returns the host state and metrics after each batch."""
  state, step = run
  mapped_step = toy.map_toy_step(step)
  history = []
  for batch in batches:
    state, metrics = mapped_step(state, parallel.split_batch(batch))
    history.append((parallel.fetch(state), parallel.fetch(metrics)))
  return history


def assert_trees_close(found, expected, **tolerance):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, expected
  )


def test_loss_falls(toy, batch):
  history = take(toy, toy.make_toy_run(), *[batch] * 20)
  losses = [metrics["loss"] for _, metrics in history]
  assert losses[-1] < 0.1 * losses[0]
  assert history[-1][0].step == 20
  stats = [s.batch_stats["backbone"]["bn1"]["mean"] for s, _ in history]
  assert np.any(stats[0] != stats[1])


def test_one_step_of_plain_sgd_by_hand(toy, batch):
  """params - rate * gradient, the gradient taken without any of our code."""
  state, step = toy.make_toy_run(weight_decay=0.0)
  method = toy.make_toy_method()
  before = parallel.fetch(state)

  def loss(params):
    variables = {"params": params, "batch_stats": before.batch_stats}
    outputs, _ = method.network.apply(
      variables,
      batch.image,
      batch.image_size,
      train=True,
      mutable=["batch_stats"],
    )
    return toy.toy_error(outputs, batch, batch.centers[:, 0, 0], None)

  value, gradient = jax.jit(jax.value_and_grad(loss))(before.params)
  ((after, metrics),) = take(toy, (state, step), batch)
  expected = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, gradient)
  assert_trees_close(after.params, expected, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
  norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(gradient)))
  np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)


def test_counts_are_sums(toy, batch):
  ((_, metrics),) = take(toy, toy.make_toy_run(accumulate=2), batch)
  assert metrics["instances_dropped"] == sum(range(BATCH_SIZE))
  assert metrics["corrupt_images_dropped"] == 1
  assert metrics["learning_rate"] == np.float32(0.1)
  assert is_count("positives_dropped") and not is_count("loss")


def test_accumulated_gradient_is_the_mean_over_micro_batches(toy, batch):
  """Two equal micro-batches give what one of them gives."""
  rows = np.repeat(np.arange(0, BATCH_SIZE, 2), 2)  # each image twice, adjacent
  twice = jax.tree.map(lambda x: x[rows], batch)
  once = jax.tree.map(lambda x: x[::2], batch)
  ((found, found_metrics),) = take(toy, toy.make_toy_run(accumulate=2), twice)
  ((expected, expected_metrics),) = take(toy, toy.make_toy_run(), once)
  assert_trees_close(found.params, expected.params, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(
    found_metrics["loss"], expected_metrics["loss"], rtol=1e-5
  )


def drawn_sums(toy, batches, **changes):
  method = toy.make_drawing_method(parallel.AXIS_NAME)
  run = toy.make_toy_run(method=method, **changes)
  return [float(m["drawn_dropped"]) for _, m in take(toy, run, *batches)]


def test_draws_are_keyed_by_seed_step_and_row(toy, batch):
  found = drawn_sums(toy, [batch] * 3)
  assert len(set(found)) == 3  # each step has its own
  for accumulate in (2, 4):
    assert drawn_sums(toy, [batch] * 3, accumulate=accumulate) == found
  assert drawn_sums(toy, [batch], seed=1) != found[:1]
  # An image draws by its row, wherever in the batch it stands.
  order = np.random.default_rng(0).permutation(BATCH_SIZE)
  mixed = jax.tree.map(lambda x: x[order], batch)
  assert drawn_sums(toy, [mixed]) == found[:1]
  moved = dataclasses.replace(batch, row=batch.row + BATCH_SIZE)
  assert drawn_sums(toy, [moved]) != found[:1]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_nonfinite_step_is_skipped_and_counted(toy, batch, accumulate):
  centers = batch.centers.copy()
  centers[3] = np.nan
  bad = dataclasses.replace(batch, centers=centers)
  run = toy.make_toy_run(accumulate=accumulate, ema_decay=0.9)
  history = take(toy, run, batch, bad, bad, batch)
  first, _, skipped, last = (state for state, _ in history)
  for name in ("params", "batch_stats", "opt_state", "ema_params"):
    assert_trees_close(getattr(skipped, name), getattr(first, name), rtol=0)
  assert [state.step for state, _ in history] == [1, 2, 3, 4]
  assert [m["nonfinite_in_row"] for _, m in history] == [0, 1, 2, 0]
  assert [m["nonfinite_total"] for _, m in history] == [0, 1, 2, 2]
  assert np.isnan(history[1][1]["loss"])
  assert np.any(last.params["head"]["bias"] != first.params["head"]["bias"])


def test_nonfinite_gradient_alone_is_skipped(toy, batch):
  method = toy.make_toy_method(parallel.AXIS_NAME)

  def loss(network, batch):
    value, terms = method.loss(network, batch)
    return value + jnp.sqrt(0.0 * value), terms  # slope of 0 / 0

  bad_method = dataclasses.replace(method, loss=loss)
  ((state, metrics),) = take(toy, toy.make_toy_run(method=bad_method), batch)
  assert np.isfinite(metrics["loss"])
  assert not np.isfinite(metrics["gradient_norm"])
  assert state.nonfinite_in_row == 1


def test_average_follows_the_parameters(toy, batch):
  run = toy.make_toy_run(ema_decay=0.5)
  average = parallel.fetch(run[0]).params
  history = take(toy, run, batch, batch, batch)
  for t, (state, _) in enumerate(history):
    decay = min(0.5, (1 + t) / (10 + t))
    average = jax.tree.map(
      lambda a, p, d=decay: d * a + (1 - d) * p, average, state.params
    )
  assert_trees_close(history[-1][0].ema_params, average, rtol=1e-5, atol=1e-7)


def test_average_reaches_its_full_decay():
  (found,) = jax.tree.leaves(update_average([1.0], [0.0], 10**6, 0.999))
  np.testing.assert_allclose(found, 0.999, rtol=1e-6)


def test_frozen_parameters_stay(toy, batch):
  run = toy.make_toy_run(name="adamw", weight_decay=0.1, frozen_stages=1)
  before = parallel.fetch(run[0]).params
  ((after, _),) = take(toy, run, batch)
  assert_trees_close(after.params["backbone"], before["backbone"], rtol=0)
  assert np.all(after.params["head"]["kernel"] != before["head"]["kernel"])


def test_check_finite_names_the_first_steps_that_were_too_many():
  rows = [{"nonfinite_in_row": float(x)} for x in (0, 1, 2, 0)]
  check_finite(rows, 10, 3)
  with pytest.raises(UserError, match="steps 8 to 9 .*learning_rate"):
    check_finite(rows, 10, 2)
