"""Names of YOLACT, in the authors' code and in mmdetection 3.

https://github.com/dbolya/yolact; the published files are plain state dicts.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from solo_jax.conversion import checkpoint_file
from solo_jax.conversion.mapping import (
  CONV,
  Rule,
  conv_rules,
  convert,
  norm_rules,
)
from solo_jax.conversion.torchvision import backbone_rules

MASK_SCORES = 5  # strided convolutions before the predicted scores


def darknet_rules(source: str = "", target: str = "") -> tuple[Rule, ...]:
  r"""Returns the rules of DarkNet, for names of `prepare_original`.

  Args:
    source: Regular expression before every name, such as r'backbone\.'.
    target: Path before every target, such as 'backbone/'.

  Returns:
    The rules.
  """
  layers = (
    (r"_preconv", "stem"),
    (r"layer(\d)\.0", r"stage\1_0"),
    (r"layer(\d)\.(\d+)\.conv(\d)", r"stage\1_\2/conv\3"),
  )
  return tuple(
    rule
    for name, path in layers
    for rule in (
      Rule(
        rf"{source}{name}\.0\.weight",
        f"params/{target}{path}/conv/kernel",
        CONV,
      ),
      *norm_rules(rf"{source}{name}\.1", f"{target}{path}/bn"),
    )
  )


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
  *darknet_rules(r"backbone\.", "backbone/"),
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
  *(
    rule
    for i in range(MASK_SCORES)
    for rule in conv_rules(rf"maskiou_net\.{i}", f"mask_score_head/conv_{i}")
  ),
  *conv_rules(rf"maskiou_net\.{MASK_SCORES}", "mask_score_head/predict"),
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
  # The second name is of mmdetection 2, which wrote the published files.
  *conv_rules(r"(?:mask_head\.segm_branch|segm_head)\.segm_conv", "semantic"),
)


def prepare_original(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the authors' arrays with torchvision's names of the backbone.

  Layers count from 0 there. Old files repeat them as `backbone.layer1...`,
  which are dropped. Their deformable convolutions have a bias, which is merged
  into the mean of the following norm. Layers of the mask scores, which are
  numbered with their activations, get the numbers 0, 1, ..., and `MASK_SCORES`
  for the last.

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
  numbers = {number: i for i, number in enumerate(scores[:-1])}
  numbers |= {number: MASK_SCORES for number in scores[-1:]}

  def renamed(name):
    name = re.sub(
      r"^(backbone\.)?layers\.(\d+)\.",
      lambda found: f"{found[1] or ''}layer{int(found[2]) + 1}.",
      name,
    )
    name = name.replace(".conv_offset_mask.", ".conv_offset.")
    return re.sub(
      r"^maskiou_net\.maskiou_net\.(\d+)\.",
      lambda found: f"maskiou_net.{numbers[int(found[1])]}.",
      name,
    )

  renamed_arrays = {
    renamed(name): array
    for name, array in arrays.items()
    if not (is_layers and re.match(r"backbone\.layer\d", name))
  }
  return _without_biases(renamed_arrays)


def _without_biases(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns arrays without the biases of deformable convolutions."""
  kept = dict(arrays)
  for name in arrays:
    if re.fullmatch(r"backbone\.layer\d\.\d+\.conv2\.bias", name):
      mean = name.replace("conv2.bias", "bn2.running_mean")
      if mean in kept:
        kept[mean] = kept[mean] - kept.pop(name)
  return kept


def load_darknet(
  path: str | os.PathLike, target: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the DarkNet-53 of ImageNet that YOLACT's authors start from.

  Args:
    path: `darknet53.pth`.
    target: {'params', 'batch_stats'} of `DarkNet`, or their shapes.

  Returns:
    The backbone's variables, {'params', 'batch_stats'} of NumPy arrays.

  Raises:
    FileNotFoundError: If there is no such file.
    UserError: If the file is damaged, or does not fit the backbone.
  """
  arrays = prepare_original(checkpoint_file.read(path).arrays)
  return convert(arrays, darknet_rules(), target)


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
