"""Names of QueryInst in mmdetection 3 and in hustvl/QueryInst.

The authors' repository has mmdetection's heads with the same names.
"""

from collections.abc import Mapping

import numpy as np

from solo_jax.conversion import swin
from solo_jax.conversion.mapping import (
  DENSE,
  Rule,
  conv_rules,
  dense_rules,
  layer_norm_rules,
  norm_rules,
)
from solo_jax.conversion.mmdet import BACKBONE_AND_NECK
from solo_jax.conversion.regions import UPSAMPLE, layer_rules

_BOX = r"roi_head\.bbox_head\.(\d)"
_MASK = r"roi_head\.mask_head\.(\d)"
_DYNAMIC = "instance_interactive_conv"


def _dynamic_rules(head: str, target: str) -> tuple[Rule, ...]:
  return (
    *dense_rules(rf"{head}\.{_DYNAMIC}\.dynamic_layer", f"{target}/dynamic"),
    *layer_norm_rules(rf"{head}\.{_DYNAMIC}\.norm_in", f"{target}/norm_in"),
    *layer_norm_rules(rf"{head}\.{_DYNAMIC}\.norm_out", f"{target}/norm_out"),
  )


def _tower_rules(source: str, target: str) -> tuple[Rule, ...]:
  """Returns the rules of up to 3 layers of dense, norm and activation."""
  return tuple(
    rule
    for i in range(3)
    for rule in (
      Rule(
        rf"{_BOX}\.{source}\.{3 * i}\.weight",
        rf"params/boxes_\1/{target}_dense_{i}/kernel",
        DENSE,
      ),
      *layer_norm_rules(
        rf"{_BOX}\.{source}\.{3 * i + 1}", rf"boxes_\1/{target}_norm_{i}"
      ),
    )
  )


MMDET = (
  *BACKBONE_AND_NECK,
  *swin.backbone_rules(swin.ORIGINAL, r"backbone\.", "backbone/"),
  Rule(r"rpn_head\.init_proposal_bboxes\.weight", "params/proposal_boxes"),
  Rule(r"rpn_head\.init_proposal_features\.weight", "params/proposal_queries"),
  *(
    rule
    for source, target in (
      ("query", "query"),
      ("key", "key"),
      ("value", "value"),
      ("out_proj", "out"),
    )
    for rule in dense_rules(
      rf"{_BOX}\.attention\.attn\.{source}", rf"boxes_\1/attention/{target}"
    )
  ),
  *layer_norm_rules(rf"{_BOX}\.attention_norm", r"boxes_\1/attention_norm"),
  *_dynamic_rules(_BOX, r"boxes_\1/dynamic_conv"),
  *dense_rules(
    rf"{_BOX}\.{_DYNAMIC}\.fc_layer", r"boxes_\1/dynamic_conv/dense"
  ),
  *layer_norm_rules(
    rf"{_BOX}\.{_DYNAMIC}\.fc_norm", r"boxes_\1/dynamic_conv/dense_norm"
  ),
  *layer_norm_rules(rf"{_BOX}\.{_DYNAMIC}_norm", r"boxes_\1/dynamic_conv_norm"),
  *dense_rules(rf"{_BOX}\.ffn\.layers\.0\.0", r"boxes_\1/perceptron/layer_0"),
  *dense_rules(rf"{_BOX}\.ffn\.layers\.1", r"boxes_\1/perceptron/layer_1"),
  *layer_norm_rules(rf"{_BOX}\.ffn_norm", r"boxes_\1/perceptron_norm"),
  *_tower_rules("cls_fcs", "category"),
  *_tower_rules("reg_fcs", "box"),
  *dense_rules(rf"{_BOX}\.fc_cls", r"boxes_\1/category"),
  *dense_rules(rf"{_BOX}\.fc_reg", r"boxes_\1/box"),
  *_dynamic_rules(_MASK, r"masks_\1/dynamic_conv"),
  *conv_rules(rf"{_MASK}\.convs\.(\d)\.conv", r"masks_\1/conv_\2")[:1],
  *norm_rules(rf"{_MASK}\.convs\.(\d)\.bn", r"masks_\1/norm_\2"),
  *layer_rules(rf"{_MASK}\.upsample", r"masks_\1/upsample", UPSAMPLE),
  *conv_rules(rf"{_MASK}\.conv_logits", r"masks_\1/logits"),
)


def prepare(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns arrays with the joint projections of attention split.

  Args:
    arrays: The arrays of a file.

  Returns:
    All of them.
  """
  return swin.split_projections(arrays)
