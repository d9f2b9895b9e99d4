"""Suggests a configuration, given the images and objects of a dataset.

Each step examines the data as the previous steps would feed it to the network,
and changes only unsuitable fields. Every change has a reason.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from solo_jax.building import build_method
from solo_jax.errors import UserError
from solo_jax.inspection.frames import (
  inference_frames,
  make_example,
  training_frame,
)
from solo_jax.inspection.input_rule import choose_input, input_scale
from solo_jax.inspection.lost_instances import training_fates
from solo_jax.inspection.oracle import measure_masks
from solo_jax.inspection.selection import Selection
from solo_jax.inspection.statistics import Statistics
from solo_jax.inspection.suggested_config import Suggestion
from solo_jax.methods.interface import Examined, Objects

# Mean recall of perfect masks that a cheaper resolution may lose.
WORTH = 0.03
MAX_EPOCHS, MIN_STEPS = 300, 1000


def suggest(
  config: Mapping[str, Any],
  train: Selection,
  statistics: Statistics,
  *,
  on_image: Callable[[], None],
) -> Suggestion:
  """Returns a suggested configuration for a dataset.

  Args:
    config: The configuration to start from: sections of plain dicts.
    train: Training images to try things on.
    statistics: Statistics of the training split.
    on_image: Called after each image that was tried.

  Returns:
    The suggestion; equal to `config` if nothing needs to change.

  Raises:
    UserError: If there are no instances.
  """
  if not len(statistics.object_sizes):
    raise UserError(
      f"none of the {statistics.num_examined} examined images of split "
      f"{statistics.split!r} has an instance, so nothing can be suggested"
    )
  made = Suggestion(copy.deepcopy(dict(config)))
  made.set(
    "dataset.num_classes",
    len(statistics.instances_of_class),
    "as in the prepared dataset",
  )
  choose_input(made, statistics)
  choose_masks(made, train, on_image)
  choose_fields(made, train, statistics, on_image)
  choose_capacities(made, train, statistics, on_image)
  choose_schedule(made, statistics)
  return made


def choose_masks(
  made: Suggestion, train: Selection, on_image: Callable[[], None]
) -> None:
  """Chooses mask stride and target rule by the score of perfect masks.

  Args:
    made: The suggestion; changes `transforms`, `network`.
    train: Images to score.
    on_image: Called after each image.
  """
  settings = made.config["transforms"]
  if settings["mask_frame"] == "box":
    return  # their resolution follows the box
  own = settings["mask_stride"], settings["mask_rule"]
  mask_strides = build_method(made.config).mask_strides
  strides = sorted({own[0], *mask_strides}, reverse=True)
  # In order of cost, the first that is good enough is taken: soft targets cost
  # less than twice the resolution.
  options = [own]
  options += [(s, "coverage") for s in strides if s <= own[0]]
  options = list(dict.fromkeys(options))
  recalls = []
  for stride, rule in options:
    metrics = measure_masks(
      train,
      transforms=settings | dict(mask_stride=stride, mask_rule=rule),
      preprocessing=made.config["preprocessing"],
      on_image=on_image,
    )
    recalls.append(metrics.mask_AR)
  chosen = next(
    i for i, recall in enumerate(recalls) if recall >= max(recalls) - WORTH
  )
  stride, rule = options[chosen]
  reason = (
    f"perfect masks have a recall of {recalls[chosen]:.3f}, with stride "
    f"{own[0]} and {own[1]!r} {recalls[0]:.3f}"
  )
  made.set("transforms.mask_stride", stride, reason)
  made.set("transforms.mask_rule", rule, reason)
  if mask_strides:
    made.set("network.mask_stride", stride, reason)


def choose_fields(
  made: Suggestion,
  train: Selection,
  statistics: Statistics,
  on_image: Callable[[], None],
) -> None:
  """Lets the method choose its own fields.

  Args:
    made: The suggestion; changes fields of the method.
    train: Images to examine.
    statistics: Statistics of the training split.
    on_image: Called after each image.
  """
  suggest_changes = build_method(made.config).suggest
  if suggest_changes is None:
    return
  scale = input_scale(made.config["preprocessing"], statistics)
  of_input = {"preprocessing.short_side", "preprocessing.tile_size"}
  examined = Examined(
    object_sizes=scale * statistics.object_sizes,
    num_shown=len(train),
    is_changed=not of_input.isdisjoint(made.reasons),
    shown=lambda: list_shown(made.config, train, on_image),
  )
  for change in suggest_changes(made.config, examined):
    made.set(change.field, change.value, change.reason)


def list_shown(
  config: Mapping[str, Any], train: Selection, on_image: Callable[[], None]
) -> list[Objects]:
  """Returns what the network sees in training and in prediction.

  Args:
    config: Sections as plain dicts.
    train: Images to examine.
    on_image: Called after each image.

  Returns:
    The objects of each input.
  """
  settings = dict(config["transforms"])
  settings["max_instances"] = int(train.records.num_objects.max())
  rng = np.random.default_rng(config["seed"])
  shown = []
  for sample in train.samples():
    frames = [
      training_frame(
        sample,
        rng,
        settings,
        group_by_orientation=config["dataset"]["group_by_orientation"],
      ),
      *inference_frames(sample, config["preprocessing"]),
    ]
    for frame in frames:
      example = make_example(frame, settings)
      boxes = example["boxes_xyxy"][example["valid"]]
      extent = np.array(frame.padded_size[::-1])
      shown.append(
        Objects(
          centers=example["centers"][example["valid"]] / extent,
          sizes=(boxes[:, 2:] - boxes[:, :2]).clip(0),
          padded_size=frame.padded_size,
        )
      )
    on_image()
  return shown


def choose_capacities(
  made: Suggestion,
  train: Selection,
  statistics: Statistics,
  on_image: Callable[[], None],
) -> None:
  """Raises capacities that are too small for what is seen.

  Args:
    made: The suggestion; changes `transforms`, `loss`, `decode`, `evaluation`.
    train: Images to examine.
    statistics: Statistics of the training split.
    on_image: Called after each image.
  """
  config = made.config
  most = int(statistics.instances_per_image.max())
  everything = config["transforms"] | dict(max_instances=max(most, 1))
  fates = training_fates(
    train,
    build_method(config),
    transforms=everything,
    group_by_orientation=config["dataset"]["group_by_orientation"],
    seed=config["seed"],
    on_image=on_image,
  )
  seen = max(len(f.rows) for f in fates)
  if config["preprocessing"]["tile_size"] is None:
    seen = most  # over all images, not only those tried
  made.at_least("transforms.max_instances", seen, 8, "instances in an input")
  made.at_least("decode.max_detections", seen, 10, "instances in an input")
  made.at_least("evaluation.max_detections", most, 100, "instances in an image")
  made.set(
    "evaluation.max_detections",
    max(
      config["evaluation"]["max_detections"], config["decode"]["max_detections"]
    ),
    "as many as in an input",
  )
  for capacity in fates[0].taken:
    most_taken = max(f.taken[capacity] for f in fates)
    what = f"{capacity} of instances in an input"
    for field in capacity.fields:
      made.at_least(field, most_taken, 64, what)


def choose_schedule(made: Suggestion, statistics: Statistics) -> None:
  """Fits batch size and length to the number of images.

  The learning rate follows the batch size by the linear rule.

  Args:
    made: The suggestion; changes `training`, `optimizer`, `backbone`.
    statistics: Statistics of the training split.
  """
  training, optimizer = made.config["training"], made.config["optimizer"]
  num_images = statistics.num_trained(made.config["dataset"]["keep_empty"])
  size = training["batch_size"]
  while size > 1 and num_images < 4 * size:
    size //= 2
  size = max(size, optimizer["accumulate"])
  if size % optimizer["accumulate"]:
    size = optimizer["accumulate"]
  made.set("training.batch_size", size, f"{num_images} training images")
  steps = training["num_steps"]
  longest = max(MAX_EPOCHS * num_images // size, MIN_STEPS)
  if steps > longest:
    reason = f"{longest * size / num_images:.0f} epochs of {num_images} images"
    share = longest / steps
    made.set("training.num_steps", longest, reason)
    made.set(
      "optimizer.decay_steps",
      tuple(int(step * share) for step in optimizer["decay_steps"]),
      "the same shares of the run",
    )
    made.set(
      "optimizer.warmup_steps",
      min(optimizer["warmup_steps"], longest // 10),
      "at most a tenth of the run",
    )
    for field, part in (("checkpoint_every_steps", 5), ("log_every_steps", 50)):
      made.set(
        f"training.{field}",
        min(training[field], longest // part),
        f"{part} times a run or more",
      )
    if training["picture_every_steps"]:
      made.set(
        "training.picture_every_steps",
        min(training["picture_every_steps"], longest // 5),
        "5 times a run or more",
      )
  backbone = made.config["backbone"]
  is_random = backbone["weights"] is None and training["init_from"] is None
  if is_random and (backbone["norm"] == "frozen" or backbone["frozen_stages"]):
    reason = "no weights are given: nothing worth freezing"
    made.set("backbone.norm", "sync", reason)
    made.set("backbone.frozen_stages", 0, reason)
