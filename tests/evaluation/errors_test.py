"""Tests of solo_jax/evaluation/errors.py."""

import numpy as np
import pytest

from solo_jax.evaluation import coco_metrics, errors


def compare(scenes):
  masks, _ = coco_metrics.compare(
    scenes.dataset, scenes.results, max_detections=100
  )
  return masks


def by_score(outcomes):
  """Kind of each detection by its score."""
  return {
    round(float(score), 2): errors.KINDS[kind]
    for score, kind in zip(outcomes.scores, outcomes.kinds, strict=True)
  }


def every_error(scenes):
  built = scenes().image(1).image(2)
  built.truth("cat", (0, 0, 20, 10))
  built.found("cat", (0, 0, 20, 9), 0.9)  # IoU 0.9
  built.found("cat", (0, 0, 18, 10), 0.8)  # IoU 0.9 with the same object
  built.truth("cat", (40, 0, 20, 10))
  built.found("cat", (52, 0, 20, 10), 0.7)  # IoU 80 / 320 = 0.25
  built.truth("dog", (0, 30, 10, 10))
  built.found("cat", (0, 30, 10, 10), 0.6)
  built.truth("dog", (30, 30, 20, 10), 1)
  built.found("cat", (42, 30, 20, 10), 0.5)  # IoU 0.25
  built.found("dog", (60, 50, 9, 9), 0.4)
  built.found("dog", (0, 0, 9, 9), 0.3, 2)  # an image without objects
  built.truth("cat", (60, 20, 20, 20), iscrowd=1)
  built.found("cat", (65, 25, 5, 5), 0.2)
  return built


def test_every_kind_of_error(scenes):
  outcomes = errors.find_outcomes(compare(every_error(scenes)))
  assert by_score(outcomes) == {
    0.9: "correct",
    0.8: "duplicate",
    0.7: "localisation",
    0.6: "class",
    0.5: "both",
    0.4: "background",
    0.3: "background",
    0.2: "ignored",
  }
  # By place in the dataset; the crowd is no object.
  assert outcomes.object_ids.tolist() == [0, 1, 2, 3]
  assert outcomes.is_found.tolist() == [True, False, False, False]
  # 2 and 3 are the aims of errors, 4 only of one that is both.
  assert outcomes.is_missed.tolist() == [False, False, False, True]
  rows = dict(zip(outcomes.scores.round(2), outcomes.objects, strict=True))
  assert rows[0.9] == 0 and rows[0.7] == 1 and rows[0.6] == 2
  assert rows[0.8] == rows[0.5] == rows[0.4] == rows[0.2] == -1


def test_hits_are_found_at_every_threshold(scenes):
  outcomes = errors.find_outcomes(compare(every_error(scenes)))
  # The detection of score 0.9 has IoU 0.9, a hit at 0.50 to 0.90.
  (best,) = np.flatnonzero(outcomes.scores == 0.9)
  assert outcomes.hits[:, best].tolist() == [True] * 9 + [False]
  assert outcomes.hits.sum() == 9


def test_gains_of_fixing_each_kind_of_error_by_hand(scenes):
  # Two cats: one found, one localised badly at a higher score.
  built = scenes("cat").image(1)
  built.truth("cat", (0, 0, 20, 10)).truth("cat", (40, 0, 20, 10))
  built.found("cat", (0, 0, 20, 10), 0.5).found("cat", (52, 0, 20, 10), 0.9)
  costs = errors.find_costs(errors.find_outcomes(compare(built)), 1)
  # Hits in order of score: no, yes. Precision 1 / 2 up to recall 1 / 2.
  base = 51 / 101 / 2
  assert costs["localisation"] == dict(number=1, gain=pytest.approx(1 - base))
  for kind in ("class", "duplicate", "background", "both", "missed"):
    assert costs[kind] == dict(number=0, gain=pytest.approx(0))


def test_a_wrong_class_becomes_a_hit_of_the_right_one(scenes):
  built = scenes().image(1)
  built.truth("cat", (0, 0, 10, 10)).truth("dog", (20, 0, 10, 10))
  built.found("cat", (0, 0, 10, 10), 0.5).found("cat", (20, 0, 10, 10), 0.9)
  # And another one at the same dog, which must not count twice.
  built.found("cat", (20, 0, 10, 9), 0.8)
  costs = errors.find_costs(errors.find_outcomes(compare(built)), 2)
  # Cats: hits no, no, yes: 1 / 3. Dogs: 0. Afterwards both are perfect.
  assert costs["class"]["number"] == 2
  assert costs["class"]["gain"] == pytest.approx(1 - 1 / 6)


def test_missed_objects_leave_the_recall(scenes):
  built = scenes().image(1)
  built.truth("cat", (0, 0, 10, 10)).truth("cat", (20, 0, 10, 10))
  built.truth("dog", (40, 0, 10, 10))
  built.found("cat", (0, 0, 10, 10), 0.5)
  costs = errors.find_costs(errors.find_outcomes(compare(built)), 2)
  # Cats: recall 1 / 2 at precision 1; dogs: 0. Then only the found cat is left.
  assert costs["missed"]["number"] == 2
  assert costs["missed"]["gain"] == pytest.approx(1 - 51 / 101 / 2)


def test_removing_duplicates_and_background(scenes):
  built = scenes("cat").image(1)
  built.truth("cat", (0, 0, 10, 10)).truth("cat", (20, 0, 10, 10))
  built.found("cat", (0, 0, 10, 10), 0.9).found("cat", (0, 0, 10, 9), 0.8)
  built.found("cat", (50, 40, 9, 9), 0.7).found("cat", (20, 0, 10, 10), 0.6)
  costs = errors.find_costs(errors.find_outcomes(compare(built)), 1)
  # Hits yes, no, no, yes: precision 1 for 51 recalls, 1 / 2 for 50.
  base = (51 + 50 / 2) / 101
  without_one = (51 + 50 * 2 / 3) / 101
  for kind in ("duplicate", "background"):
    assert costs[kind]["number"] == 1
    assert costs[kind]["gain"] == pytest.approx(without_one - base)


def test_what_is_explained_is_mask_ap50(scenes):
  rng = np.random.default_rng(0)
  built = scenes("cat", "dog", "cow")
  for image_id in range(1, 13):
    built.image(image_id)
    for _ in range(int(rng.integers(6))):
      x, y, w, h = (
        int(v) for v in rng.integers((0, 0, 5, 5), (50, 35, 25, 20))
      )
      names = ("cat", "dog", "cow")
      name = names[rng.integers(3)]
      built.truth(name, (x, y, w, h), image_id, int(rng.random() < 0.1))
      for _ in range(int(rng.integers(3))):
        name = names[rng.integers(3)] if rng.random() < 0.2 else name
        shift = int(rng.integers(5))
        score = float(rng.random())
        built.found(name, (x + shift, y, w, h), score, image_id)
  masks = compare(built)
  outcomes = errors.find_outcomes(masks)
  assert set(outcomes.kinds) >= {0, 1, 2, 3}
  values = []
  for k in range(3):
    kept = (outcomes.labels == k) & (outcomes.kinds != errors.IGNORED)
    values.append(
      errors.average_precision(
        outcomes.scores[kept],
        outcomes.kinds[kept] == errors.CORRECT,
        int((outcomes.object_labels == k).sum()),
      )
    )
  expected = coco_metrics.mean(masks.precision[0, ..., 0])
  assert 0.1 < expected < 0.9
  assert np.mean(values) == pytest.approx(expected, abs=1e-12)


def test_nothing_detected_and_nothing_to_find(scenes):
  built = scenes().image(1).truth("cat", (0, 0, 10, 10))
  costs = errors.find_costs(errors.find_outcomes(compare(built)), 2)
  assert costs["missed"] == dict(number=1, gain=1)
  built = scenes().image(1).found("cat", (0, 0, 10, 10), 0.5)
  outcomes = errors.find_outcomes(compare(built))
  assert by_score(outcomes) == {0.5: "background"}
  costs = errors.find_costs(outcomes, 2)
  assert costs["background"] == dict(number=1, gain=None)
  outcomes = errors.find_outcomes(compare(scenes().image(1)))
  assert errors.find_costs(outcomes, 2)["missed"]["number"] == 0
