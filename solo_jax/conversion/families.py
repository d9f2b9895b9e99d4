"""The code bases whose checkpoints are supported, and their detection.

A family consists of the tables of its names and the input that its weights
need.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from solo_jax.conversion import (
  adelaidet,
  detectron2,
  efficientnet_lite,
  mask2former,
  mmdet,
  queryinst,
  regions,
  solo_official,
  torchvision,
  yolact,
)
from solo_jax.conversion.mapping import Rule
from solo_jax.errors import UserError

# Fields of a config that the weights of a family were trained with.
_TORCHVISION_INPUT = {
  "preprocessing.channel_order": "rgb",
  "preprocessing.mean": (123.675, 116.28, 103.53),
  "preprocessing.std": (58.395, 57.12, 57.375),
}
_CAFFE_INPUT = {
  "preprocessing.channel_order": "bgr",
  "preprocessing.mean": (103.53, 116.28, 123.675),
  "preprocessing.std": (1.0, 1.0, 1.0),
}
_LITE_INPUT = {
  "preprocessing.channel_order": "rgb",
  "preprocessing.mean": (127.0, 127.0, 127.0),
  "preprocessing.std": (128.0, 128.0, 128.0),
}
_TORCHVISION_RESNET = {
  "backbone.name": "resnet",
  "backbone.stem": "conv7",
  "backbone.stride_in_1x1": False,
}
_STRETCHED = {
  "preprocessing.channel_order": "rgb",
  "preprocessing.keep_aspect": False,
  "preprocessing.interpolation": "bilinear",
}
_ZOO = "CC BY-NC 4.0, of the authors' model zoo: no commercial use"
_CAFFE_RESNET = _TORCHVISION_RESNET | {"backbone.stride_in_1x1": True}
_ROUNDED_DOWN = (
  _TORCHVISION_INPUT
  | _TORCHVISION_RESNET
  | {
    "preprocessing.interpolation": "bilinear",
    "preprocessing.size_rounding": "down",
  }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
  """One code base.

  Attributes:
    name: Value of --family.
    marks: Regular expressions; a state dict belongs to this family if each of
      them matches the start of some name.
    rules: Table of each method of the family; that of a single backbone has the
      key None.
    fields: Config fields that must have these values for its weights.
    prepare: Splits or reorders arrays of a state dict before `rules`.
    label_of_first_class: Label that training there gave to the class of the
      head's first output: 1 where 0 is the background. Outputs and our labels
      count from 0 in every family.
    recipe: Value of `recipe` in the configs for these weights, '' for none;
      None: the family's name without 'solo_'.
    licence: Licence of the authors' weights, if that of their code differs.
    find_file: Finds the weights if a Python package contains them.
  """

  name: str
  marks: tuple[str, ...]
  rules: Mapping[str | None, tuple[Rule, ...]]
  fields: Mapping[str, Any]
  prepare: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] = dict
  label_of_first_class: int = 0
  recipe: str | None = None
  licence: str | None = None
  find_file: Callable[[], pathlib.Path] | None = None

  @property
  def is_backbone(self) -> bool:
    """Returns whether checkpoints are classifiers that only give a backbone."""
    return None in self.rules


FAMILIES = (
  Family(
    name="solo_official",
    marks=(r"bbox_head\.d?solo_",),
    rules={
      "solov2": solo_official.SOLOV2,
      "solo": solo_official.SOLO,
      "decoupled_solo": solo_official.DECOUPLED_SOLO,
    },
    fields=_TORCHVISION_INPUT
    | _TORCHVISION_RESNET
    | {"preprocessing.interpolation": "bilinear"},
    label_of_first_class=1,
  ),
  Family(
    name="adelaidet",
    marks=(r"ins_head\.cate_pred\.", r"backbone\.bottom_up\."),
    rules={"solov2": adelaidet.SOLOV2},
    fields=_CAFFE_INPUT
    | _CAFFE_RESNET
    | {"preprocessing.interpolation": "antialias"},
  ),
  Family(
    name="mmdet",
    marks=(r"mask_head\.conv_cls\.", r"backbone\."),
    rules={
      "solov2": mmdet.SOLOV2,
      "solo": mmdet.SOLO,
      "decoupled_solo": mmdet.DECOUPLED_SOLO,
    },
    fields=_TORCHVISION_INPUT
    | _TORCHVISION_RESNET
    | {"preprocessing.interpolation": "bilinear"},
  ),
  Family(
    name="transformers",
    marks=(r"model\.pixel_level_module\.",),
    rules={"mask2former": mask2former.TRANSFORMERS},
    fields=_TORCHVISION_INPUT | {"preprocessing.interpolation": "antialias"},
    prepare=mask2former.prepare,
    recipe="",
    licence=_ZOO,
  ),
  Family(
    name="mask2former",
    marks=(r"sem_seg_head\.predictor\.", r"backbone\."),
    rules={"mask2former": mask2former.ORIGINAL},
    fields=_TORCHVISION_INPUT | {"preprocessing.interpolation": "antialias"},
    prepare=mask2former.prepare,
    recipe="",
    licence=_ZOO,
  ),
  Family(
    name="mmdet_mask2former",
    marks=(r"panoptic_head\.transformer_decoder\.", r"backbone\."),
    rules={"mask2former": mask2former.MMDET},
    fields=_TORCHVISION_INPUT | {"preprocessing.interpolation": "bilinear"},
    prepare=mask2former.prepare,
    recipe="mmdet",
  ),
  Family(
    name="torchvision_mask_rcnn",
    marks=(r"roi_heads\.box_head\.fc6\.", r"backbone\.body\."),
    rules={"mask_rcnn": regions.TORCHVISION_MASK_RCNN},
    # Its code sets this after loading these weights.
    fields=_ROUNDED_DOWN | {"backbone.norm_epsilon": 0.0},
    label_of_first_class=1,
  ),
  Family(
    name="torchvision_mask_rcnn_v2",
    marks=(r"roi_heads\.box_head\.5\.", r"backbone\.body\."),
    rules={"mask_rcnn": regions.TORCHVISION_MASK_RCNN},
    fields=_ROUNDED_DOWN | {"backbone.norm_epsilon": 1e-5},
    label_of_first_class=1,
  ),
  Family(
    name="detectron2_mask_rcnn",
    marks=(r"roi_heads\.box_predictor\.", r"backbone\.bottom_up\."),
    rules={
      "mask_rcnn": regions.DETECTRON2_MASK_RCNN,
      "point_rend": regions.DETECTRON2_POINT_REND,
    },
    # Standard deviations and strides differ with the backbone.
    fields={
      "backbone.name": "resnet",
      "preprocessing.channel_order": "bgr",
      "preprocessing.mean": (103.53, 116.28, 123.675),
      "preprocessing.interpolation": "antialias",
    },
  ),
  Family(
    name="queryinst",
    marks=(r"rpn_head\.init_proposal_features\.", r"backbone\."),
    rules={"queryinst": queryinst.MMDET},
    fields=_TORCHVISION_INPUT | {"preprocessing.interpolation": "bilinear"},
    prepare=queryinst.prepare,
    recipe="",
  ),
  Family(
    name="mmdet_mask_rcnn",
    marks=(r"rpn_head\.rpn_conv\.", r"roi_head\.bbox_head\.", r"backbone\."),
    rules={
      "mask_rcnn": regions.MMDET_MASK_RCNN,
      "point_rend": regions.MMDET_POINT_REND,
    },
    fields={
      "backbone.name": "resnet",
      "preprocessing.interpolation": "bilinear",
      "preprocessing.size_rounding": "nearest",
    },
  ),
  Family(
    name="yolact",
    marks=(r"prediction_layers\.0\.", r"fpn\.lat_layers\.", r"backbone\."),
    rules={"yolact": yolact.ORIGINAL},
    fields=_STRETCHED
    | {"network.rectified_pyramid": True, "network.p6_source": "p5"},
    prepare=yolact.prepare_original,
    label_of_first_class=1,
    recipe="",
  ),
  Family(
    name="mmdet_yolact",
    marks=(
      r"bbox_head\.conv_coeff\.",
      r"bbox_head\.conv_reg\.bias",
      r"backbone\.",
    ),
    rules={"yolact": yolact.MMDET},
    fields=_STRETCHED
    | {"network.rectified_pyramid": False, "network.p6_source": "c5"},
    prepare=yolact.prepare_mmdet,
    recipe="mmdet",
  ),
  Family(
    name="torchvision",
    marks=(r"conv1\.weight", r"layer4\."),
    rules={None: torchvision.BACKBONE},
    fields=_TORCHVISION_INPUT | _TORCHVISION_RESNET,
  ),
  Family(
    name="detectron2",
    marks=(r"stem\.conv1\.", r"res5\."),
    rules={None: detectron2.BACKBONE},
    fields=_CAFFE_INPUT | _CAFFE_RESNET,
  ),
  Family(
    name="lite0",
    marks=(r"_conv_stem\.", r"_blocks\."),
    rules={None: efficientnet_lite.BACKBONE},
    fields=_LITE_INPUT | {"backbone.name": "efficientnet_lite0"},
    find_file=efficientnet_lite.find_weights,
  ),
)
NAMES = tuple(family.name for family in FAMILIES)


def find_family(name: str | None, arrays: Iterable[str]) -> Family:
  """Returns a family, given its name or the names of the weights.

  Args:
    name: One of NAMES, or None.
    arrays: Names of the source arrays.

  Returns:
    The family.

  Raises:
    UserError: If the name is unknown, or the weights match none or several
      families.
  """
  if name is not None:
    for family in FAMILIES:
      if family.name == name:
        return family
    raise UserError(f"unknown family {name!r}; choose one of {NAMES}")
  arrays = list(arrays)
  found = [family for family in FAMILIES if _is_marked(family, arrays)]
  if len(found) == 1:
    return found[0]
  raise UserError(
    f"cannot detect the family of this checkpoint from its {len(arrays)} names "
    f"({', '.join(x[:60] for x in arrays[:5])}, ...): it looks like "
    f"{[family.name for family in found] or 'no known family'}; pass "
    f"--family, one of {NAMES}"
  )


def _is_marked(family: Family, arrays: list[str]) -> bool:
  return all(
    any(re.match(mark, name) for name in arrays) for mark in family.marks
  )
