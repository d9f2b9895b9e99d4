"""Tests of solo_jax/inspection/diagnosis.py; inspect_data_test.py has more."""

import dataclasses
from types import SimpleNamespace

import pytest

from solo_jax.building import build_method
from solo_jax.inspection.diagnosis import (
  compare_ceilings,
  diagnose,
  list_lacks,
  warn_of_problems,
)
from solo_jax.inspection.suggested_config import Suggestion
from tests.inspection.conftest import sections


def ceilings(*scores):
  return {
    str(i): SimpleNamespace(oracle=SimpleNamespace(mask_AP=score))
    for i, score in enumerate(scores)
  }


@pytest.mark.parametrize(
  "scores", [(0.5,), (0.5, 0.6), (0.5, 0.49), (None, None)]
)
def test_a_suggestion_without_objection(scores):
  assert compare_ceilings(ceilings(*scores)) == ""


def test_a_suggestion_that_allows_less():
  assert compare_ceilings(ceilings(0.8, 0.789)).startswith(
    "warning: the suggestion allows less, oracle AP 0.789; this config "
    "allows 0.800."
  )


def test_every_stage_reports_its_images(scenes):
  config = sections(
    "solov2_shapes",
    dataset__data_dir=scenes.data_dir,
    dataset__num_classes=80,
    dataset__keep_empty=True,
  )
  stages = {}

  def add_stage(name, total):
    stages[name] = [total, 0]

    def advance():
      stages[name][1] += 1

    return advance

  found = diagnose(
    config, num_images=4, num_oracle_images=2, add_stage=add_stage
  )
  assert found.given["dataset"]["num_classes"] == 5
  assert config["dataset"]["num_classes"] == 80
  assert (len(found.train), len(found.scored)) == (4, 2)
  assert any("dataset.num_classes is 80" in line for line in found.findings)
  assert stages.pop("Trying changes on 10 images")[1] > 0
  assert stages == {
    "Reading train": [4, 4],
    "Reading validation": [4, 4],
    "Making training targets: this config": [4, 4],
    "Making training targets: suggestion": [4, 4],
    "Scoring perfect masks: this config": [2, 2],
    "Scoring perfect masks: suggestion": [2, 2],
  }


def test_what_a_method_lacks_is_named():
  method = build_method(sections("solov2_shapes"))
  assert list_lacks(method) == []
  (line,) = list_lacks(dataclasses.replace(method, perfect_outputs=None))
  assert "'solov2', as it is configured, has no perfect outputs" in line


def test_a_suggestion_that_the_method_refuses():
  made = Suggestion(sections("solov2_shapes"))
  assert warn_of_problems(made) == ""
  made.set("network.mask_stride", 4, "for a test")
  assert warn_of_problems(made).startswith(
    "warning: the suggestion needs more changes: network.mask_stride is 4"
  )
