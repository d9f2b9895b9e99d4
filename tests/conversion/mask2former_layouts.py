"""Names and shapes of published Mask2Former files, without their weights.

Written from the tables of the three code bases; channels C = 256 everywhere.
"""

import dataclasses

import numpy as np

C, FFN, DECODER_FFN, LAYERS, DECODER_LAYERS = 256, 1024, 2048, 6, 9
POINTS = 8 * 3 * 4  # heads, levels, points
SWINS = {
  "swin_t": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
  "swin_s": (96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
  "swin_b": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
  "swin_l": (192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
  "swin_l_window7": (192, (2, 2, 18, 2), (6, 12, 24, 48), 7),
}
RESNETS = {"r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3)}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A published file.

  Attributes:
    family: 'transformers', 'mask2former' or 'mmdet_mask2former'.
    backbone: Of SWINS or RESNETS.
    queries: Q.
    classes: K.
  """

  family: str
  backbone: str
  queries: int
  classes: int


def layer(name, *weight):
  """Weight and bias of a dense layer or convolution with bias."""
  return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def norm(name, width):
  return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def batch_norm(name, width, counts=False):
  names = ("weight", "bias", "running_mean", "running_var")
  shapes = {f"{name}.{part}": (width,) for part in names}
  return shapes | ({f"{name}.num_batches_tracked": ()} if counts else {})


def joint(name, width):
  return {f"{name}_weight": (3 * width, width), f"{name}_bias": (3 * width,)}


def swin(family, size):
  """Names below the backbone."""
  embed, depths, heads, window = SWINS[size]
  is_hub, is_mmdet = family == "transformers", family == "mmdet_mask2former"
  if is_hub:
    embedding = "embeddings.patch_embeddings.projection"
    shapes = layer(embedding, embed, 3, 4, 4) | norm("embeddings.norm", embed)
    stages = "encoder.layers"
  else:
    projection = "projection" if is_mmdet else "proj"
    shapes = layer(f"patch_embed.{projection}", embed, 3, 4, 4)
    shapes |= norm("patch_embed.norm", embed)
    stages = "stages" if is_mmdet else "layers"
  for n, (depth, num_heads) in enumerate(zip(depths, heads, strict=True)):
    width, stage = embed * 2**n, f"{stages}.{n}"
    for j in range(depth):
      block = f"{stage}.blocks.{j}"
      if is_hub:
        attention = f"{block}.attention.self"
        for part in ("query", "key", "value"):
          shapes |= layer(f"{attention}.{part}", width, width)
        shapes |= layer(f"{block}.attention.output.dense", width, width)
        shapes |= norm(f"{block}.layernorm_before", width)
        shapes |= norm(f"{block}.layernorm_after", width)
        mlp = f"{block}.intermediate.dense", f"{block}.output.dense"
      else:
        attention = f"{block}.attn" + (".w_msa" if is_mmdet else "")
        shapes |= layer(f"{attention}.qkv", 3 * width, width)
        shapes |= layer(f"{attention}.proj", width, width)
        shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        mlp = f"{block}.mlp.fc1", f"{block}.mlp.fc2"
        if is_mmdet:
          mlp = f"{block}.ffn.layers.0.0", f"{block}.ffn.layers.1"
      table = f"{attention}.relative_position"
      shapes[f"{table}_bias_table"] = ((2 * window - 1) ** 2, num_heads)
      shapes[f"{table}_index"] = (window**2, window**2)
      shapes |= layer(mlp[0], 4 * width, width) | layer(
        mlp[1], width, 4 * width
      )
    if n < 3:
      shapes |= norm(f"{stage}.downsample.norm", 4 * width)
      shapes[f"{stage}.downsample.reduction.weight"] = (2 * width, 4 * width)
    output = f"hidden_states_norms.stage{n + 1}" if is_hub else f"norm{n}"
    shapes |= norm(output, width)
  return shapes, tuple(embed * 2**n for n in range(4))


def resnet(family, size):
  """Names below the backbone."""
  is_mmdet = family == "mmdet_mask2former"
  if is_mmdet:
    shapes = {"conv1.weight": (64, 3, 7, 7)} | batch_norm("bn1", 64, True)
  else:
    shapes = {"stem.conv1.weight": (64, 3, 7, 7)}
    shapes |= batch_norm("stem.conv1.norm", 64)
  width = 64
  for n, depth in enumerate(RESNETS[size]):
    inner, outer = 64 * 2**n, 256 * 2**n
    for j in range(depth):
      block = f"layer{n + 1}.{j}" if is_mmdet else f"res{n + 2}.{j}"
      convs = (inner, width, 1), (inner, inner, 3), (outer, inner, 1)
      for i, (out, into, side) in enumerate(convs, start=1):
        name = f"{block}.conv{i}"
        shapes[f"{name}.weight"] = (out, into, side, side)
        bn = f"{block}.bn{i}" if is_mmdet else f"{name}.norm"
        shapes |= batch_norm(bn, out, is_mmdet)
      if j == 0:
        down = f"{block}.downsample.0" if is_mmdet else f"{block}.shortcut"
        bn = f"{block}.downsample.1" if is_mmdet else f"{down}.norm"
        shapes[f"{down}.weight"] = (outer, width, 1, 1)
        shapes |= batch_norm(bn, outer, is_mmdet)
      width = outer
  return shapes, tuple(256 * 2**n for n in range(4))


# What each code base calls the parts of the two decoders.
HUB = dict(
  backbone="model.pixel_level_module.encoder",
  pixel="model.pixel_level_module.decoder",
  input=("input_projections.{}.0", "input_projections.{}.1"),
  pixel_level="level_embed",
  pixel_layer="encoder.layers.{}",
  pixel_norms=("self_attn_layer_norm", "final_layer_norm"),
  pixel_mlp=("fc1", "fc2"),
  lateral=("adapter_1.0", "adapter_1.1"),
  output=("layer_1.0", "layer_1.1"),
  mask_features="mask_projection",
  decoder="model.transformer_module",
  query=("queries_features", "queries_embedder"),
  cross="decoder.layers.{}.cross_attn",
  self="decoder.layers.{}.self_attn",
  norms=(
    "decoder.layers.{}.cross_attn_layer_norm",
    "decoder.layers.{}.self_attn_layer_norm",
    "decoder.layers.{}.final_layer_norm",
  ),
  mlp=("decoder.layers.{}.fc1", "decoder.layers.{}.fc2"),
  norm="decoder.layernorm",
  mask=[f"decoder.mask_predictor.mask_embedder.{i}.0" for i in range(3)],
)
ORIGINAL = HUB | dict(
  backbone="backbone",
  pixel="sem_seg_head.pixel_decoder",
  input=("input_proj.{}.0", "input_proj.{}.1"),
  pixel_level="transformer.level_embed",
  pixel_layer="transformer.encoder.layers.{}",
  pixel_norms=("norm1", "norm2"),
  pixel_mlp=("linear1", "linear2"),
  lateral=("adapter_1", "adapter_1.norm"),
  output=("layer_1", "layer_1.norm"),
  mask_features="mask_features",
  decoder="sem_seg_head.predictor",
  query=("query_feat", "query_embed"),
  cross="transformer_cross_attention_layers.{}.multihead_attn",
  self="transformer_self_attention_layers.{}.self_attn",
  norms=(
    "transformer_cross_attention_layers.{}.norm",
    "transformer_self_attention_layers.{}.norm",
    "transformer_ffn_layers.{}.norm",
  ),
  mlp=(
    "transformer_ffn_layers.{}.linear1",
    "transformer_ffn_layers.{}.linear2",
  ),
  norm="decoder_norm",
  mask=[f"mask_embed.layers.{i}" for i in range(3)],
)
MMDET = HUB | dict(
  backbone="backbone",
  pixel="panoptic_head.pixel_decoder",
  input=("input_convs.{}.conv", "input_convs.{}.gn"),
  pixel_level="level_encoding.weight",
  pixel_norms=("norms.0", "norms.1"),
  pixel_mlp=("ffn.layers.0.0", "ffn.layers.1"),
  lateral=("lateral_convs.0.conv", "lateral_convs.0.gn"),
  output=("output_convs.0.conv", "output_convs.0.gn"),
  mask_features="mask_feature",
  decoder="panoptic_head",
  query=("query_feat", "query_embed"),
  cross="transformer_decoder.layers.{}.cross_attn.attn",
  self="transformer_decoder.layers.{}.self_attn.attn",
  norms=[f"transformer_decoder.layers.{{}}.norms.{i}" for i in range(3)],
  mlp=(
    "transformer_decoder.layers.{}.ffn.layers.0.0",
    "transformer_decoder.layers.{}.ffn.layers.1",
  ),
  norm="transformer_decoder.post_norm",
  mask=[f"mask_embed.{2 * i}" for i in range(3)],
)
NAMES = {
  "transformers": HUB,
  "mask2former": ORIGINAL,
  "mmdet_mask2former": MMDET,
}


def pixel_decoder(names, widths):
  prefix = names["pixel"]

  def name(key, i=None):
    text = names[key] if i is None else names[key][i]
    return f"{prefix}.{text}"

  shapes = {name("pixel_level"): (3, C)}
  for i, width in enumerate(widths[:0:-1]):
    shapes |= layer(name("input", 0).format(i), C, width, 1, 1)
    shapes |= norm(name("input", 1).format(i), C)
  for i in range(LAYERS):
    part = name("pixel_layer").format(i)
    attention = f"{part}.self_attn"
    shapes |= layer(f"{attention}.sampling_offsets", 2 * POINTS, C)
    shapes |= layer(f"{attention}.attention_weights", POINTS, C)
    shapes |= layer(f"{attention}.value_proj", C, C)
    shapes |= layer(f"{attention}.output_proj", C, C)
    first, second = names["pixel_mlp"]
    shapes |= layer(f"{part}.{first}", FFN, C)
    shapes |= layer(f"{part}.{second}", C, FFN)
    for after in names["pixel_norms"]:
      shapes |= norm(f"{part}.{after}", C)
  shapes[name("lateral", 0) + ".weight"] = (C, widths[0], 1, 1)
  shapes[name("output", 0) + ".weight"] = (C, C, 3, 3)
  shapes |= norm(name("lateral", 1), C) | norm(name("output", 1), C)
  return shapes | layer(name("mask_features"), C, C, 1, 1)


def decoder(names, checkpoint):
  prefix, shapes = names["decoder"], {}
  for query in names["query"]:
    shapes[f"{prefix}.{query}.weight"] = (checkpoint.queries, C)
  shapes[f"{prefix}.level_embed.weight"] = (3, C)
  for i in range(DECODER_LAYERS):
    for kind in ("cross", "self"):
      part = f"{prefix}.{names[kind]}".format(i)
      if kind == "self" and checkpoint.family == "transformers":
        for which in "qkv":
          shapes |= layer(f"{part}.{which}_proj", C, C)
      else:
        shapes |= joint(f"{part}.in_proj", C)
      shapes |= layer(f"{part}.out_proj", C, C)
    for after in names["norms"]:
      shapes |= norm(f"{prefix}.{after}".format(i), C)
    first, second = (f"{prefix}.{name}".format(i) for name in names["mlp"])
    shapes |= layer(first, DECODER_FFN, C) | layer(second, C, DECODER_FFN)
  shapes |= norm(f"{prefix}.{names['norm']}", C)
  for name in names["mask"]:
    shapes |= layer(f"{prefix}.{name}", C, C)
  head = {
    "transformers": "class_predictor",
    "mask2former": f"{prefix}.class_embed",
    "mmdet_mask2former": f"{prefix}.cls_embed",
  }[checkpoint.family]
  shapes |= layer(head, checkpoint.classes + 1, C)
  if checkpoint.family != "mmdet_mask2former":
    shapes["criterion.empty_weight"] = (checkpoint.classes + 1,)
  return shapes


def make_state_dict(checkpoint):
  """Zeros of all names and shapes, which share their memory."""
  names = NAMES[checkpoint.family]
  make = swin if checkpoint.backbone in SWINS else resnet
  backbone, widths = make(checkpoint.family, checkpoint.backbone)
  shapes = {f"{names['backbone']}.{name}": x for name, x in backbone.items()}
  shapes |= pixel_decoder(names, widths) | decoder(names, checkpoint)
  return {
    name: np.broadcast_to(np.float32(0), shape)
    for name, shape in shapes.items()
  }
