"""Sections of a config as the settings of region-based networks.

Each difference between the code bases is a separate field; no field names a
code base.
"""

from collections.abc import Mapping
from typing import Any

from solo_jax.methods.regions.anchors import Anchors
from solo_jax.methods.regions.detections import DetectionSettings
from solo_jax.methods.regions.loss import ProposalLoss, StageLoss
from solo_jax.methods.regions.mask_targets import MaskTargets
from solo_jax.methods.regions.matching import Matching
from solo_jax.methods.regions.proposals import Selection
from solo_jax.methods.regions.pyramid import Pooling
from solo_jax.methods.regions.sampling import Sampling

# Fields of `network` that are passed to `RegionNetwork` unchanged.
SHARED = (
  "fpn_channels",
  "norm",
  "proposal_convs",
  "box_convs",
  "box_dense",
  "dense_channels",
  "dense_init",
  "pyramid_init",
  "box_classes",
  "stage_scores",
  "stage_gradient",
  "mean",
  "std",
  "channel_order",
  "dtype",
)


def read_network(
  network: Mapping[str, Any], decode: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the arguments that all region-based networks share.

  Args:
    network: Section of the config, with the values it needs from others.
    decode: Section of the config.

  Returns:
    Arguments of `RegionNetwork` but for backbone, classes and axis.
  """
  select_train, select_test = (
    Selection(
      before_nms=before,
      after_nms=after,
      nms_threshold=network["proposal_nms_threshold"],
      min_side=network["proposal_min_side"],
      log_clamp=network["log_clamp"],
    )
    for before, after in zip(
      network["proposals_before_nms"],
      network["proposals_after_nms"],
      strict=True,
    )
  )
  return dict(
    {name: network[name] for name in SHARED},
    anchors=Anchors(
      sizes=tuple(network["anchor_sizes"]),
      ratios=tuple(network["anchor_ratios"]),
      corners=network["anchor_corners"],
      spacing=network["anchor_spacing"],
    ),
    select_train=select_train,
    select_test=select_test,
    pooling=Pooling(
      base_size=network["pool_base_size"],
      base_level=network["pool_base_level"],
      ratio_epsilon=network["pool_ratio_epsilon"],
      log_epsilon=network["pool_log_epsilon"],
      is_aligned=network["pool_aligned"],
      num_samples=network["pool_samples"],
    ),
    stage_weights=tuple(map(tuple, network["stage_weights"])),
    detection=DetectionSettings(
      score_threshold=decode["score_threshold"],
      nms_threshold=decode["nms_threshold"],
      max_detections=decode["max_detections"],
      min_side=decode["min_side"],
    ),
  )


def read_loss(loss: Mapping[str, Any]) -> dict[str, Any]:
  """Returns how proposals, stages and masks are trained.

  Args:
    loss: Section of the config.

  Returns:
    `proposals`, `stages` and `masks`, as the losses take them.
  """
  return dict(
    proposals=ProposalLoss(
      trained=loss["anchors_trained"],
      matching=Matching(
        high=loss["anchor_high"],
        low=loss["anchor_low"],
        low_quality=loss["anchor_low_quality"],
        lower_bound=loss["anchor_low"],
      ),
      sampling=Sampling(
        number=loss["anchor_samples"],
        positive_share=loss["anchor_positive_share"],
      ),
      beta=loss["anchor_beta"],
      divisor=loss["anchor_divisor"],
    ),
    stages=StageLoss(
      matchings=tuple(
        Matching(
          high=iou,
          low=iou,
          low_quality=loss["region_low_quality"],
          lower_bound=iou,
        )
        for iou in loss["region_ious"]
      ),
      sampling=Sampling(
        number=loss["region_samples"],
        positive_share=loss["region_positive_share"],
      ),
      weights=tuple(loss["stage_loss_weights"]),
      beta=loss["region_beta"],
      next_regions=loss["next_regions"],
      mask_regions=loss["mask_regions"],
    ),
    masks=MaskTargets(
      is_aligned=loss["mask_aligned"],
      threshold=loss["mask_target_threshold"],
    ),
  )


def find_problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to region-based networks.

  Args:
    config: Nested mappings.

  Returns:
    One line per problem.
  """
  network, loss = config["network"], config["loss"]
  problems = []
  stages = len(network["stage_weights"])
  for name in ("region_ious", "stage_loss_weights"):
    if len(loss[name]) != stages:
      problems.append(
        f"loss.{name} has {len(loss[name])} entries, network.stage_weights "
        f"{stages}: one per stage"
      )
  if stages > 1 and network["box_classes"] != "all":
    problems.append(
      "network.box_classes must be 'all' with several stages, got "
      f"{network['box_classes']!r}: a stage refines one box of a region"
    )
  if len(network["anchor_sizes"]) != 5:
    problems.append(
      "network.anchor_sizes must have one size for each level P2 to P6, got "
      f"{len(network['anchor_sizes'])}"
    )
  if loss["anchor_low"] > loss["anchor_high"]:
    problems.append(
      f"loss.anchor_low {loss['anchor_low']} must not exceed loss.anchor_high "
      f"{loss['anchor_high']}"
    )
  return problems
