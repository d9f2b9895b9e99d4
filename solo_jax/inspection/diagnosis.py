"""Runs all checks of the dataset doctor, one after another."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from solo_jax.building import build_method, list_problems
from solo_jax.data.records import open_records
from solo_jax.data.stuff_maps import find_stuff_problem
from solo_jax.inspection import lost_instances, statistics
from solo_jax.inspection.oracle import Ceiling, measure_ceiling
from solo_jax.inspection.selection import Selection
from solo_jax.inspection.suggested_config import Suggestion
from solo_jax.inspection.suggestion import suggest
from solo_jax.methods.interface import Method

GIVEN, SUGGESTION = "this config", "suggestion"
# Training images to try a suggestion on: evenly spread and most crowded ones.
NUM_TRIED, NUM_CROWDED = 32, 8
# A few objects more or less: smaller differences of oracle AP are ignored.
NOISE = 0.01

AddStage = Callable[[str, int | None], Callable[[], None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
  """The findings.

  Attributes:
    given: Sections of the configuration as plain dicts, with the dataset's
      `dataset.num_classes`.
    made: The suggestion.
    train: Training images that were decoded.
    scored: Evaluation images that were scored.
    splits: Statistics of the training and of the evaluation split; a single one
      if they are the same.
    findings: Lines about what looks wrong.
    warning: A reason against the suggestion; empty if there is none.
    training: Fates of the training images, by the names of `ceilings`.
    ceilings: Ceilings of the configuration and, where it differs, of the
      suggestion.
  """

  given: dict[str, Any]
  made: Suggestion
  train: Selection
  scored: Selection
  splits: list[statistics.Statistics]
  findings: list[str]
  warning: str
  training: dict[str, list[lost_instances.Fates]]
  ceilings: dict[str, Ceiling]


# Long, as it lists all checks.
def diagnose(
  config: Mapping[str, Any],
  *,
  num_images: int,
  num_oracle_images: int,
  add_stage: AddStage,
) -> Diagnosis:
  """Returns the complete diagnosis.

  Args:
    config: Sections of a valid configuration as plain dicts.
    num_images: Images of each split to decode; 0: all.
    num_oracle_images: Images of the evaluation split to score; 0: all.
    add_stage: Called at the start of each stage with its title and number of
      images, None if unknown; returns the function to call after each image.

  Returns:
    The findings.

  Raises:
    errors.UserError: If the dataset is not prepared or has no instances.
  """
  dataset = config["dataset"]
  train, evaluated = (
    Selection(
      open_records(dataset["data_dir"], dataset["name"], dataset[split]),
      num_images,
    )
    for split in ("train_split", "eval_split")
  )
  scored = Selection(evaluated.records, num_oracle_images)
  is_same = train.records.split == evaluated.records.split
  splits = [
    statistics.examine(s, add_stage(f"Reading {s.records.split}", len(s)))
    for s in ([train] if is_same else [train, evaluated])
  ]
  num_classes = len(train.class_names)
  given = {**config, "dataset": dataset | dict(num_classes=num_classes)}
  training = {GIVEN: _judge_training(given, train, add_stage, GIVEN)}
  ceilings = {GIVEN: _measure(given, scored, add_stage, GIVEN)}
  tried = Selection(train.records, NUM_TRIED, num_crowded=NUM_CROWDED)
  made = suggest(
    config,
    tried,
    splits[0],
    on_image=add_stage(f"Trying changes on {len(tried)} images", None),
  )
  if made.reasons:
    training[SUGGESTION] = _judge_training(
      made.config, train, add_stage, SUGGESTION
    )
    ceilings[SUGGESTION] = _measure(made.config, scored, add_stage, SUGGESTION)
  findings = statistics.list_findings(
    train.records,
    evaluated.records,
    splits,
    num_classes=dataset["num_classes"],
    keep_empty=dataset["keep_empty"],
  )
  method = build_method(config)
  findings += list_lacks(method)
  stuff = find_stuff_problem(train.records, method.num_stuff_classes)
  findings += [stuff] if stuff else []
  warning = compare_ceilings(ceilings) or warn_of_problems(made)
  return Diagnosis(
    given=given,
    made=made,
    train=train,
    scored=scored,
    splits=splits,
    findings=[*findings, warning] if warning else findings,
    warning=warning,
    training=training,
    ceilings=ceilings,
  )


def warn_of_problems(made: Suggestion) -> str:
  """Returns a warning of a suggestion that the method refuses, or ''.

  Only a method's own `suggest` knows which other fields must change with a
  suggested one.
  """
  problems = list_problems(made.config)
  if not problems:
    return ""
  return "warning: the suggestion needs more changes: " + "; ".join(problems)


def list_lacks(method: Method) -> list[str]:
  """Returns a line for each part of the inspection that a method lacks."""
  parts = ("perfect_outputs", "lost_instances", "target_views", "suggest")
  return [method.lack(x) for x in parts if getattr(method, x) is None]


def compare_ceilings(ceilings: Mapping[str, Ceiling]) -> str:
  """Returns a warning if the suggestion allows less than the configuration.

  Each step of a suggestion optimises its own measure on few training images.

  Args:
    ceilings: Ceilings of the configuration, and of a suggestion if there is
      one.

  Returns:
    A line; empty if there is no reason for a warning.
  """
  scores = [
    ceiling.oracle.mask_AP
    for ceiling in ceilings.values()
    if ceiling.oracle is not None
  ]
  if len(scores) < 2 or None in scores:
    return ""
  given, suggested = scores
  if round(given - suggested, 3) <= NOISE:
    return ""
  return (
    f"warning: the suggestion allows less, oracle AP {suggested:.3f}; this "
    f"config allows {given:.3f}. Adopt single changes instead of the file"
  )


def _judge_training(
  config: Mapping[str, Any],
  train: Selection,
  add_stage: AddStage,
  name: str,
) -> list[lost_instances.Fates]:
  """Returns what training loses, for a config of plain dicts."""
  return lost_instances.training_fates(
    train,
    build_method(config),
    transforms=config["transforms"],
    group_by_orientation=config["dataset"]["group_by_orientation"],
    seed=config["seed"],
    on_image=add_stage(f"Making training targets: {name}", len(train)),
  )


def _measure(
  config: Mapping[str, Any],
  scored: Selection,
  add_stage: AddStage,
  name: str,
) -> Ceiling:
  """Returns the ceiling of a configuration given as plain dicts."""
  return measure_ceiling(
    scored,
    build_method(config),
    transforms=config["transforms"],
    preprocessing=config["preprocessing"],
    decode=config["decode"],
    max_detections=config["evaluation"]["max_detections"],
    on_image=add_stage(f"Scoring perfect masks: {name}", len(scored)),
  )
