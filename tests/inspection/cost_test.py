"""Tests of solo_jax/inspection/cost.py."""

import pytest

from solo_jax.inspection.cost import compare_costs, find_cost
from tests.inspection.conftest import sections


def test_training_cost_by_hand():
  config = sections("solov2_overfit")  # 8 images of 256 x 256, 200 steps
  cost = find_cost(config, 40, [(32, 64), (64, 64), (32, 32)], 2)
  assert cost.predicted_pixels == (32 * 64 + 64 * 64 + 32 * 32) / 2
  assert cost.step_pixels == 8 * 256 * 256
  assert cost.total_pixels == 200 * cost.step_pixels
  assert (cost.images_seen, cost.epochs) == (1600, 40)


@pytest.mark.parametrize(
  ("size", "steps", "told"),
  [
    (256, 200, "a training step sees as many pixels (8 x 256 x 256), the "),
    (512, 200, "40 epochs), prediction 4 x the pixels per image."),
    (512, 200, "a training step sees 4 x the pixels (8 x 512 x 512, was 8 x"),
    (512, 100, "training 2 x the pixels (100 steps x 8 images, 20 epochs, was"),
    (512, 50, "the whole training as many pixels (50 steps"),
  ],
)
def test_a_suggestion_has_its_price(size, steps, told):
  suggested = sections(
    "solov2_overfit",
    transforms__image_size=(size, size),
    training__num_steps=steps,
  )
  costs = (
    find_cost(config, 40, [config["transforms"]["image_size"]], 1)
    for config in (sections("solov2_overfit"), suggested)
  )
  assert told in compare_costs(*costs)
