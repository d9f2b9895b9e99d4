"""Names of YOLACT, in the authors' code and in mmdetection 3.

https://github.com/dbolya/yolact; the published files are plain state dicts.
"""

import re
from collections.abc import Mapping

import numpy as np

from solo_jax.conversion.mapping import Rule, conv_rules
from solo_jax.conversion.torchvision import backbone_rules

_BACKBONE = backbone_rules(r"backbone\.", "backbone/")
_PROTOTYPES = {
  0: "conv_0",
  2: "conv_1",
  4: "conv_2",
  8: "conv_3",
  10: "predict",
}

ORIGINAL = (
  *_BACKBONE,
  # Stored from the top of the pyramid down.
  *(
    rule
    for i in range(3)
    for source, target in (("lat", "lateral"), ("pred", "output"))
    for rule in conv_rules(
      rf"fpn\.{source}_layers\.{i}", f"pyramid/{target}_{5 - i}"
    )
  ),
  *conv_rules(r"fpn\.downsample_layers\.0", "pyramid/output_6"),
  *conv_rules(r"fpn\.downsample_layers\.1", "pyramid/output_7"),
  # A level that version 1.0 computed but never used.
  Rule(r"fpn\.downsample_layers\.2\..*", None),
  *(
    rule
    for i, name in _PROTOTYPES.items()
    for rule in conv_rules(rf"proto_net\.{i}", f"prototype_head/{name}")
  ),
  *conv_rules(r"prediction_layers\.0\.upfeature\.0", "prior_head/shared"),
  *conv_rules(r"prediction_layers\.0\.conf_layer", "prior_head/category"),
  *conv_rules(r"prediction_layers\.0\.bbox_layer", "prior_head/box"),
  *conv_rules(r"prediction_layers\.0\.mask_layer", "prior_head/coefficient"),
  *conv_rules(r"semantic_seg_conv", "semantic"),
)

MMDET = (
  *_BACKBONE,
  *(
    rule
    for i in range(3)
    for rule in conv_rules(
      rf"neck\.lateral_convs\.{i}\.conv", f"pyramid/lateral_{3 + i}"
    )
  ),
  *(
    rule
    for i in range(5)
    for rule in conv_rules(
      rf"neck\.fpn_convs\.{i}\.conv", f"pyramid/output_{3 + i}"
    )
  ),
  *(
    rule
    for i, name in _PROTOTYPES.items()
    for rule in conv_rules(
      rf"mask_head\.protonet\.{i}", f"prototype_head/{name}"
    )
  ),
  *conv_rules(r"bbox_head\.head_convs\.0\.conv", "prior_head/shared"),
  *conv_rules(r"bbox_head\.conv_cls", "prior_head/category"),
  *conv_rules(r"bbox_head\.conv_reg", "prior_head/box"),
  *conv_rules(r"bbox_head\.conv_coeff", "prior_head/coefficient"),
  *conv_rules(r"mask_head\.segm_branch\.segm_conv", "semantic"),
)


def prepare_original(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the authors' arrays with torchvision's names of the backbone.

  Layers count from 0 there. Old files repeat them as `backbone.layer1...`,
  which are dropped; the layers of the mask scores, which are numbered with
  their activations, are numbered from 0.

  Args:
    arrays: The arrays of a file.

  Returns:
    The remaining arrays, by their new names.
  """
  is_layers = any(name.startswith("backbone.layers.") for name in arrays)
  scores = sorted(
    int(found[1])
    for name in arrays
    if (found := re.fullmatch(r"maskiou_net\.maskiou_net\.(\d+)\.weight", name))
  )

  def renamed(name):
    name = re.sub(
      r"^backbone\.layers\.(\d+)\.",
      lambda found: f"backbone.layer{int(found[1]) + 1}.",
      name,
    )
    return re.sub(
      r"^maskiou_net\.maskiou_net\.(\d+)\.",
      lambda found: f"maskiou_net.{scores.index(int(found[1]))}.",
      name,
    )

  return {
    renamed(name): array
    for name, array in arrays.items()
    if not (is_layers and re.match(r"backbone\.layer\d", name))
  }


def mask_score_rules(num_convs: int) -> tuple[Rule, ...]:
  """Returns the rules of YOLACT++'s mask scores.

  Args:
    num_convs: Strided convolutions before the prediction.

  Returns:
    Rules for arrays of `prepare_original`.
  """
  return (
    *(
      rule
      for i in range(num_convs)
      for rule in conv_rules(rf"maskiou_net\.{i}", f"mask_score_head/conv_{i}")
    ),
    *conv_rules(rf"maskiou_net\.{num_convs}", "mask_score_head/predict"),
  )


def prepare_mmdet(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns mmdetection's arrays with the background as the first class.

  Args:
    arrays: The arrays of a file.

  Returns:
    All of them.
  """
  prefix = "bbox_head.conv_"
  priors = len(arrays[f"{prefix}reg.bias"]) // 4

  def rolled(array):
    of_priors = array.reshape(priors, -1, *array.shape[1:])
    return np.roll(of_priors, 1, axis=1).reshape(array.shape)

  return {
    name: rolled(array) if name.startswith(f"{prefix}cls.") else array
    for name, array in arrays.items()
  }
