r"""Names of Mask R-CNN and related methods in three code bases.

Background is the last class here, as in detectron2 and mmdetection; torchvision
has it first. Dense layers after pooled features read them channel by channel in
those code bases and row by row here.
"""

from collections.abc import Callable

import numpy as np

from solo_jax.conversion import detectron2, mmdet, torchvision
from solo_jax.conversion.mapping import (
  CONV,
  COPY,
  Rule,
  Transform,
  conv_rules,
  dense_rules,
  norm_rules,
)

POOLED_SIZE = 7  # side of the input of the first dense layer
UPSAMPLE = (0, 2, 3, 1)  # in, out, 2, 2 to in, 2, 2, out


def pooled_dense(array: np.ndarray) -> np.ndarray:
  """Returns [7 * 7 * C, out], given [out, C * 7 * 7]."""
  array = array.reshape(len(array), -1, POOLED_SIZE**2)
  return array.transpose(2, 1, 0).reshape(-1, len(array))


def coarse_mask(array: np.ndarray) -> np.ndarray:
  """Returns [..., 7 * 7 * K], given [K * 7 * 7, ...]."""
  array = array.reshape(-1, POOLED_SIZE**2, *array.shape[1:])
  array = np.swapaxes(array, 0, 1)
  return array.reshape(-1, *array.shape[2:]).T


def point_dense(array: np.ndarray) -> np.ndarray:
  """Returns the dense kernel [in, out] of a convolution [out, in, 1]."""
  return array.reshape(array.shape[:2]).T


def background_last(array: np.ndarray) -> np.ndarray:
  """Returns [..., K + 1], given [1 + K, ...] with the background first."""
  return np.concatenate([array[1:], array[:1]]).T


def without_background(array: np.ndarray) -> np.ndarray:
  """Returns [..., K * 4], given [(1 + K) * 4, ...]."""
  return array[4:].T


def masks_without_background(array: np.ndarray) -> np.ndarray:
  """Returns a 1x1 convolution of K classes, given that of 1 + K."""
  array = array[1:]
  return array.transpose(CONV) if array.ndim == 4 else array


def layer_rules(
  source: str, target: str, kernel: Transform, bias: Transform = COPY
) -> tuple[Rule, Rule]:
  r"""Returns the rules of a layer with bias.

  Args:
    source: Regular expression of the layer's name, before '.weight'.
    target: Path of the layer below 'params'.
    kernel: Transform of the weight.
    bias: Transform of the bias.

  Returns:
    Rules for kernel and bias.
  """
  return (
    Rule(rf"{source}\.weight", f"params/{target}/kernel", kernel),
    Rule(rf"{source}\.bias", f"params/{target}/bias", bias),
  )


def _levels(source: Callable[[int], str], target: str) -> tuple[Rule, ...]:
  """Returns the rules of the pyramid's convolutions of P2 to P5."""
  return tuple(
    rule
    for level in range(2, 6)
    for rule in conv_rules(source(level), f"fpn/{target}_{level}")
  )


def _level_norms(source: Callable[[int], str], target: str) -> tuple[Rule, ...]:
  return tuple(
    rule
    for level in range(2, 6)
    for rule in norm_rules(source(level), f"fpn/{target}_{level}_norm")
  )


# --- torchvision: v1 as in the file and as in memory, and v2 -----------------

_TV_BOX = r"roi_heads\.box_head"
_TV_MASK = r"roi_heads\.mask_head"

TORCHVISION_MASK_RCNN = (
  *torchvision.backbone_rules(r"backbone\.body\.", "backbone/"),
  *(
    rule
    for source, target in (("inner", "lateral"), ("layer", "output"))
    for rule in (
      *_levels(
        lambda level, source=source: (
          rf"backbone\.fpn\.{source}_blocks\.{level - 2}(?:\.0)?"
        ),
        target,
      ),
      *_level_norms(
        lambda level, source=source: (
          rf"backbone\.fpn\.{source}_blocks\.{level - 2}\.1"
        ),
        target,
      ),
    )
  ),
  *conv_rules(r"rpn\.head\.conv", "proposal_head/conv_0"),
  *conv_rules(r"rpn\.head\.conv\.(\d)\.0", r"proposal_head/conv_\1"),
  *conv_rules(r"rpn\.head\.cls_logits", "proposal_head/logits"),
  *conv_rules(r"rpn\.head\.bbox_pred", "proposal_head/codes"),
  *conv_rules(rf"{_TV_BOX}\.(\d)\.0", r"box_heads_0/conv_\1/conv"),
  *norm_rules(rf"{_TV_BOX}\.(\d)\.1", r"box_heads_0/conv_\1/norm"),
  *layer_rules(rf"{_TV_BOX}\.(?:fc6|\d)", "box_heads_0/dense_0", pooled_dense),
  *dense_rules(rf"{_TV_BOX}\.fc7", "box_heads_0/dense_1"),
  *layer_rules(
    r"roi_heads\.box_predictor\.cls_score",
    "box_heads_0/logits",
    background_last,
    background_last,
  ),
  *layer_rules(
    r"roi_heads\.box_predictor\.bbox_pred",
    "box_heads_0/codes",
    without_background,
    without_background,
  ),
  *(
    rule
    for i in range(4)
    for rule in (
      *conv_rules(
        rf"{_TV_MASK}\.(?:mask_fcn{i + 1}|{i}\.0)", f"masks_0/conv_{i}/conv"
      ),
      *norm_rules(rf"{_TV_MASK}\.{i}\.1", f"masks_0/conv_{i}/norm"),
    )
  ),
  *layer_rules(
    r"roi_heads\.mask_predictor\.conv5_mask", "masks_0/upsample", UPSAMPLE
  ),
  *layer_rules(
    r"roi_heads\.mask_predictor\.mask_fcn_logits",
    "masks_0/logits",
    masks_without_background,
    masks_without_background,
  ),
)

# --- detectron2 --------------------------------------------------------------

_D2_RPN = r"proposal_generator\.rpn_head"
_D2_MASK = r"roi_heads\.mask_head"

_D2_COMMON = (
  *detectron2.backbone_rules(r"backbone\.bottom_up\.", "backbone/"),
  *(
    rule
    for kind in ("lateral", "output")
    for rule in (
      *conv_rules(rf"backbone\.fpn_{kind}(\d)", rf"fpn/{kind}_\1"),
      *norm_rules(rf"backbone\.fpn_{kind}(\d)\.norm", rf"fpn/{kind}_\1_norm"),
    )
  ),
  *conv_rules(rf"{_D2_RPN}\.conv", "proposal_head/conv_0"),
  # Of two convolutions, as in the LSJ baselines.
  *conv_rules(rf"{_D2_RPN}\.conv\.conv0", "proposal_head/conv_0"),
  *conv_rules(rf"{_D2_RPN}\.conv\.conv1", "proposal_head/conv_1"),
  *conv_rules(rf"{_D2_RPN}\.objectness_logits", "proposal_head/logits"),
  *conv_rules(rf"{_D2_RPN}\.anchor_deltas", "proposal_head/codes"),
  # The config has them.
  Rule(r"pixel_(mean|std)", None),
  Rule(r"proposal_generator\.anchor_generator\.cell_anchors\.\d", None),
)


def _d2_boxes(stage: str, target: str) -> tuple[Rule, ...]:
  """Returns the rules of a box head; `stage` is '' or its number with a dot."""
  head = rf"roi_heads\.box_head\.{stage}"
  predictor = rf"roi_heads\.box_predictor\.{stage}"
  return (
    *(
      rule
      for i in range(4)
      for rule in (
        *conv_rules(rf"{head}conv{i + 1}", f"{target}/conv_{i}/conv"),
        *norm_rules(rf"{head}conv{i + 1}\.norm", f"{target}/conv_{i}/norm"),
      )
    ),
    *layer_rules(rf"{head}fc1", f"{target}/dense_0", pooled_dense),
    *dense_rules(rf"{head}fc2", f"{target}/dense_1"),
    *dense_rules(rf"{predictor}cls_score", f"{target}/logits"),
    *dense_rules(rf"{predictor}bbox_pred", f"{target}/codes"),
  )


_D2_MASKS = (
  *(
    rule
    for i in range(4)
    for rule in (
      *conv_rules(rf"{_D2_MASK}\.mask_fcn{i + 1}", f"masks_0/conv_{i}/conv"),
      *norm_rules(
        rf"{_D2_MASK}\.mask_fcn{i + 1}\.norm", f"masks_0/conv_{i}/norm"
      ),
    )
  ),
  *layer_rules(rf"{_D2_MASK}\.deconv", "masks_0/upsample", UPSAMPLE),
  *conv_rules(rf"{_D2_MASK}\.predictor", "masks_0/logits"),
)
# Mask R-CNN, and its cascade with heads by number.
DETECTRON2_MASK_RCNN = (
  *_D2_COMMON,
  *_d2_boxes("", "box_heads_0"),
  *(
    rule
    for stage in range(3)
    for rule in _d2_boxes(rf"{stage}\.", f"box_heads_{stage}")
  ),
  *_D2_MASKS,
)
# The second spelling of each was used in early 2020.
_D2_COARSE = r"roi_heads\.mask_(?:head\.coarse_head|coarse_head)"
_D2_POINT = r"roi_heads\.mask_(?:head\.point_head|point_head)"
DETECTRON2_POINT_REND = (
  *_D2_COMMON,
  *_d2_boxes("", "box_heads_0"),
  *conv_rules(rf"{_D2_COARSE}\.reduce_spatial_dim_conv", "coarse/reduce"),
  *layer_rules(
    rf"{_D2_COARSE}\.(?:coarse_mask_)?fc1", "coarse/dense_0", pooled_dense
  ),
  *dense_rules(rf"{_D2_COARSE}\.(?:coarse_mask_)?fc2", "coarse/dense_1"),
  *layer_rules(
    rf"{_D2_COARSE}\.prediction", "coarse/logits", coarse_mask, coarse_mask
  ),
  *(
    rule
    for i in range(3)
    for rule in layer_rules(
      rf"{_D2_POINT}\.fc{i + 1}", f"points/dense_{i}", point_dense
    )
  ),
  *layer_rules(rf"{_D2_POINT}\.predictor", "points/logits", point_dense),
)

# --- mmdetection -------------------------------------------------------------

_MM_COMMON = (
  *mmdet.BACKBONE_AND_NECK,
  *conv_rules(r"rpn_head\.rpn_conv", "proposal_head/conv_0"),
  *conv_rules(r"rpn_head\.rpn_cls", "proposal_head/logits"),
  *conv_rules(r"rpn_head\.rpn_reg", "proposal_head/codes"),
)


def _mm_boxes(stage: str, target: str) -> tuple[Rule, ...]:
  """Returns the rules of a box head; `stage` is '' or its number with a dot."""
  head = rf"roi_head\.bbox_head\.{stage}"
  return (
    *layer_rules(rf"{head}shared_fcs\.0", f"{target}/dense_0", pooled_dense),
    *dense_rules(rf"{head}shared_fcs\.1", f"{target}/dense_1"),
    *dense_rules(rf"{head}fc_cls", f"{target}/logits"),
    *dense_rules(rf"{head}fc_reg", f"{target}/codes"),
  )


def _mm_masks(stage: str, target: str) -> tuple[Rule, ...]:
  head = rf"roi_head\.mask_head\.{stage}"
  return (
    *conv_rules(rf"{head}convs\.(\d)\.conv", rf"{target}/conv_\1/conv"),
    *conv_rules(rf"{head}conv_res\.conv", f"{target}/fed"),
    *layer_rules(rf"{head}upsample", f"{target}/upsample", UPSAMPLE),
    *conv_rules(rf"{head}conv_logits", f"{target}/logits"),
  )


_MM_SEMANTIC = r"roi_head\.semantic_head"
# Mask R-CNN; Cascade Mask R-CNN and HTC, with heads by number; HTC's semantic
# branch.
MMDET_MASK_RCNN = (
  *_MM_COMMON,
  *_mm_boxes("", "box_heads_0"),
  *_mm_masks("", "masks_0"),
  *(
    rule
    for stage in range(3)
    for rule in (
      *_mm_boxes(rf"{stage}\.", f"box_heads_{stage}"),
      *_mm_masks(rf"{stage}\.", f"masks_{stage}"),
    )
  ),
  *conv_rules(
    rf"{_MM_SEMANTIC}\.lateral_convs\.(\d)\.conv", r"semantic/lateral_\1"
  ),
  *conv_rules(rf"{_MM_SEMANTIC}\.convs\.(\d)\.conv", r"semantic/conv_\1"),
  *conv_rules(rf"{_MM_SEMANTIC}\.conv_embedding\.conv", "semantic/embedding"),
  *conv_rules(rf"{_MM_SEMANTIC}\.conv_logits", "semantic/logits"),
)
MMDET_POINT_REND = (
  *_MM_COMMON,
  *_mm_boxes("", "box_heads_0"),
  *conv_rules(r"roi_head\.mask_head\.downsample_conv\.conv", "coarse/reduce"),
  *layer_rules(r"roi_head\.mask_head\.fcs\.0", "coarse/dense_0", pooled_dense),
  *dense_rules(r"roi_head\.mask_head\.fcs\.1", "coarse/dense_1"),
  *layer_rules(
    r"roi_head\.mask_head\.fc_logits", "coarse/logits", coarse_mask, coarse_mask
  ),
  *layer_rules(
    r"roi_head\.point_head\.fcs\.(\d)\.conv", r"points/dense_\1", point_dense
  ),
  *layer_rules(
    r"roi_head\.point_head\.fc_logits", "points/logits", point_dense
  ),
)
