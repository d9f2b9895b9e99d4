"""Names of Mask2Former in three code bases.

transformers (the Hub's files of any release), the original repository on
detectron2, and mmdet 3. `prepare` must run before each table is applied.
"""

from collections.abc import Mapping

import numpy as np

from solo_jax.conversion import detectron2, swin, torchvision
from solo_jax.conversion.mapping import (
  CONV,
  Rule,
  conv_rules,
  dense_rules,
  layer_norm_rules,
)

_NO_OBJECT_WEIGHT = Rule(r"criterion\.empty_weight", None)


def prepare(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns weights with joint arrays split, as in this package.

  Args:
    arrays: State dict of any of the three code bases.

  Returns:
    State dict that fits the tables.
  """
  arrays = swin.split_projections(arrays)
  if any(name.startswith("backbone.stages.") for name in arrays):  # mmdet
    arrays = swin.reorder_merging(arrays)
  return arrays


def _attention(source: str, target: str, parts: tuple[str, ...]):
  """Returns the rules for the query, key, value and result projections."""
  return tuple(
    rule
    for part, name in zip(parts, ("query", "key", "value", "out"), strict=True)
    for rule in dense_rules(rf"{source}\.{part}", f"{target}/{name}")
  )


def _mlp(source: str, target: str, layers: tuple[str, ...]):
  return tuple(
    rule
    for i, name in enumerate(layers)
    for rule in dense_rules(rf"{source}\.{name}", f"{target}/mlp/layer_{i}")
  )


def _deformable(source: str, target: str) -> tuple[Rule, ...]:
  """Returns the rules of deformable attention, the same in all code bases."""
  return tuple(
    rule
    for name, part in (
      ("sampling_offsets", "offsets"),
      ("attention_weights", "weights"),
      ("value_proj", "value"),
      ("output_proj", "out"),
    )
    for rule in dense_rules(rf"{source}\.{name}", f"{target}/{part}")
  )


def _levels(source: str, target: str, conv: str, norm: str):
  """Returns the rules of numbered convolutions with bias and group norm."""
  return (
    *conv_rules(rf"{source}\.(\d)\.{conv}", rf"{target}_\1_conv"),
    *layer_norm_rules(rf"{source}\.(\d)\.{norm}", rf"{target}_\1_norm"),
  )


def _conv_norm(conv: str, norm: str, target: str) -> tuple[Rule, ...]:
  """Returns the rules of a convolution without bias and its group norm."""
  return (
    Rule(rf"{conv}\.weight", f"params/{target}_conv/kernel", CONV),
    *layer_norm_rules(norm, f"{target}_norm"),
  )


_PIXEL = "pixel_decoder"
_PIXEL_LAYER = rf"{_PIXEL}/layer_\1"
_LAYER = r"decoder/layer_\1"
_QKV = ("query", "key", "value")  # after `prepare`


def _transformers() -> tuple[Rule, ...]:
  module = r"model\.pixel_level_module"
  pixel, decoder = rf"{module}\.decoder", r"model\.transformer_module"
  pixel_layer = rf"{pixel}\.encoder\.layers\.(\d+)"
  layer = rf"{decoder}\.decoder\.layers\.(\d+)"
  return (
    *swin.backbone_rules(
      swin.TRANSFORMERS, rf"{module}\.encoder\.", "backbone/"
    ),
    *_levels(rf"{pixel}\.input_projections", f"{_PIXEL}/input", "0", "1"),
    Rule(rf"{pixel}\.level_embed", f"params/{_PIXEL}/level_embed"),
    *_deformable(rf"{pixel_layer}\.self_attn", f"{_PIXEL_LAYER}/attention"),
    *layer_norm_rules(
      rf"{pixel_layer}\.self_attn_layer_norm", f"{_PIXEL_LAYER}/attention_norm"
    ),
    *layer_norm_rules(
      rf"{pixel_layer}\.final_layer_norm", f"{_PIXEL_LAYER}/mlp_norm"
    ),
    *_mlp(pixel_layer, _PIXEL_LAYER, ("fc1", "fc2")),
    *_conv_norm(
      rf"{pixel}\.adapter_1\.0", rf"{pixel}\.adapter_1\.1", f"{_PIXEL}/lateral"
    ),
    *_conv_norm(
      rf"{pixel}\.layer_1\.0", rf"{pixel}\.layer_1\.1", f"{_PIXEL}/output"
    ),
    *conv_rules(rf"{pixel}\.mask_projection", f"{_PIXEL}/mask_features"),
    Rule(
      rf"{decoder}\.queries_features\.weight", "params/decoder/query_embedding"
    ),
    Rule(
      rf"{decoder}\.queries_embedder\.weight",
      "params/decoder/query_position_embedding",
    ),
    Rule(rf"{decoder}\.level_embed\.weight", "params/decoder/level_embedding"),
    *conv_rules(rf"{decoder}\.input_projections\.(\d)", r"decoder/input_\1"),
    *_attention(
      rf"{layer}\.cross_attn", f"{_LAYER}/cross", (*_QKV, "out_proj")
    ),
    *_attention(
      rf"{layer}\.self_attn",
      f"{_LAYER}/self",
      ("q_proj", "k_proj", "v_proj", "out_proj"),
    ),
    *layer_norm_rules(
      rf"{layer}\.cross_attn_layer_norm", f"{_LAYER}/cross_norm"
    ),
    *layer_norm_rules(rf"{layer}\.self_attn_layer_norm", f"{_LAYER}/self_norm"),
    *layer_norm_rules(rf"{layer}\.final_layer_norm", f"{_LAYER}/mlp_norm"),
    *_mlp(layer, _LAYER, ("fc1", "fc2")),
    *layer_norm_rules(rf"{decoder}\.decoder\.layernorm", "decoder/norm"),
    *dense_rules(
      rf"{decoder}\.decoder\.mask_predictor\.mask_embedder\.(\d)\.0",
      r"decoder/mask/layer_\1",
    ),
    *dense_rules(r"class_predictor", "decoder/category"),
    _NO_OBJECT_WEIGHT,
  )


def _original() -> tuple[Rule, ...]:
  # Files of the first version lack 'pixel_decoder.'.
  pixel = r"sem_seg_head\.(?:pixel_decoder\.)?"
  decoder = r"sem_seg_head\.predictor\."
  pixel_layer = rf"{pixel}transformer\.encoder\.layers\.(\d+)"
  cross, self_, ffn = (
    rf"{decoder}transformer_{kind}_layers\.(\d+)"
    for kind in ("cross_attention", "self_attention", "ffn")
  )
  return (
    *detectron2.backbone_rules(r"backbone\.", "backbone/"),
    *swin.backbone_rules(swin.ORIGINAL, r"backbone\.", "backbone/"),
    *_levels(rf"{pixel}input_proj", f"{_PIXEL}/input", "0", "1"),
    Rule(rf"{pixel}transformer\.level_embed", f"params/{_PIXEL}/level_embed"),
    *_deformable(rf"{pixel_layer}\.self_attn", f"{_PIXEL_LAYER}/attention"),
    *layer_norm_rules(
      rf"{pixel_layer}\.norm1", f"{_PIXEL_LAYER}/attention_norm"
    ),
    *layer_norm_rules(rf"{pixel_layer}\.norm2", f"{_PIXEL_LAYER}/mlp_norm"),
    *_mlp(pixel_layer, _PIXEL_LAYER, ("linear1", "linear2")),
    *_conv_norm(
      rf"{pixel}adapter_1", rf"{pixel}adapter_1\.norm", f"{_PIXEL}/lateral"
    ),
    *_conv_norm(
      rf"{pixel}layer_1", rf"{pixel}layer_1\.norm", f"{_PIXEL}/output"
    ),
    *conv_rules(rf"{pixel}mask_features", f"{_PIXEL}/mask_features"),
    Rule(
      rf"{decoder}(?:static_query|query_feat)\.weight",
      "params/decoder/query_embedding",
    ),
    Rule(
      rf"{decoder}query_embed\.weight",
      "params/decoder/query_position_embedding",
    ),
    Rule(rf"{decoder}level_embed\.weight", "params/decoder/level_embedding"),
    *conv_rules(rf"{decoder}input_proj\.(\d)", r"decoder/input_\1"),
    *_attention(
      rf"{cross}\.multihead_attn", f"{_LAYER}/cross", (*_QKV, "out_proj")
    ),
    *layer_norm_rules(rf"{cross}\.norm", f"{_LAYER}/cross_norm"),
    *_attention(rf"{self_}\.self_attn", f"{_LAYER}/self", (*_QKV, "out_proj")),
    *layer_norm_rules(rf"{self_}\.norm", f"{_LAYER}/self_norm"),
    *_mlp(ffn, _LAYER, ("linear1", "linear2")),
    *layer_norm_rules(rf"{ffn}\.norm", f"{_LAYER}/mlp_norm"),
    *layer_norm_rules(rf"{decoder}decoder_norm", "decoder/norm"),
    *dense_rules(
      rf"{decoder}mask_embed\.layers\.(\d)", r"decoder/mask/layer_\1"
    ),
    *dense_rules(rf"{decoder}class_embed", "decoder/category"),
    _NO_OBJECT_WEIGHT,
  )


def _mmdet() -> tuple[Rule, ...]:
  head = r"panoptic_head\."
  pixel = rf"{head}pixel_decoder\."
  pixel_layer = rf"{pixel}encoder\.layers\.(\d+)"
  layer = rf"{head}transformer_decoder\.layers\.(\d+)"
  ffn = (r"ffn\.layers\.0\.0", r"ffn\.layers\.1")
  return (
    *torchvision.backbone_rules(r"backbone\.", "backbone/"),
    *swin.backbone_rules(swin.MMDET, r"backbone\.", "backbone/"),
    *_levels(rf"{pixel}input_convs", f"{_PIXEL}/input", "conv", "gn"),
    Rule(rf"{pixel}level_encoding\.weight", f"params/{_PIXEL}/level_embed"),
    *_deformable(rf"{pixel_layer}\.self_attn", f"{_PIXEL_LAYER}/attention"),
    *layer_norm_rules(
      rf"{pixel_layer}\.norms\.0", f"{_PIXEL_LAYER}/attention_norm"
    ),
    *layer_norm_rules(rf"{pixel_layer}\.norms\.1", f"{_PIXEL_LAYER}/mlp_norm"),
    *_mlp(pixel_layer, _PIXEL_LAYER, ffn),
    *_conv_norm(
      rf"{pixel}lateral_convs\.0\.conv",
      rf"{pixel}lateral_convs\.0\.gn",
      f"{_PIXEL}/lateral",
    ),
    *_conv_norm(
      rf"{pixel}output_convs\.0\.conv",
      rf"{pixel}output_convs\.0\.gn",
      f"{_PIXEL}/output",
    ),
    *conv_rules(rf"{pixel}mask_feature", f"{_PIXEL}/mask_features"),
    Rule(rf"{head}query_feat\.weight", "params/decoder/query_embedding"),
    Rule(
      rf"{head}query_embed\.weight", "params/decoder/query_position_embedding"
    ),
    Rule(rf"{head}level_embed\.weight", "params/decoder/level_embedding"),
    *conv_rules(rf"{head}decoder_input_projs\.(\d)", r"decoder/input_\1"),
    *_attention(
      rf"{layer}\.cross_attn\.attn", f"{_LAYER}/cross", (*_QKV, "out_proj")
    ),
    *_attention(
      rf"{layer}\.self_attn\.attn", f"{_LAYER}/self", (*_QKV, "out_proj")
    ),
    *layer_norm_rules(rf"{layer}\.norms\.0", f"{_LAYER}/cross_norm"),
    *layer_norm_rules(rf"{layer}\.norms\.1", f"{_LAYER}/self_norm"),
    *layer_norm_rules(rf"{layer}\.norms\.2", f"{_LAYER}/mlp_norm"),
    *_mlp(layer, _LAYER, ffn),
    *layer_norm_rules(rf"{head}transformer_decoder\.post_norm", "decoder/norm"),
    *(  # numbered with the ReLUs between them
      rule
      for i in range(3)
      for rule in dense_rules(
        rf"{head}mask_embed\.{2 * i}", f"decoder/mask/layer_{i}"
      )
    ),
    *dense_rules(rf"{head}cls_embed", "decoder/category"),
  )


TRANSFORMERS, ORIGINAL, MMDET = _transformers(), _original(), _mmdet()
