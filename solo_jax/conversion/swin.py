"""Names of Swin Transformers in three code bases.

If the projections of query, key and value are one array, it must first be split
by `split_projections`.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from solo_jax.conversion import checkpoint_file
from solo_jax.conversion.mapping import (
  CONV,
  DENSE,
  Rule,
  convert,
  dense_rules,
  layer_norm_rules,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """A code base's names of the parts: regular expressions without groups.

  Attributes:
    patch_embed: Convolution of the patches.
    patch_norm: Norm after it.
    stage: A stage's name before its number.
    norms: Norms of a block, before attention and before perceptron.
    attention: Names of the attention of a block, before the names that follow.
    projections: Projections of query, key, value and the result.
    table: Table of relative position biases and their indices, before
      '_bias_table' and '_index'.
    mlp: Both layers of a block's perceptron.
    output_norm: Norm of a stage's map, before its number.
    first_norm: Number of the first stage there.
    dropped: Names that no backbone needs.
  """

  patch_embed: str
  patch_norm: str
  stage: str
  norms: tuple[str, str]
  attention: str
  projections: tuple[str, str, str, str]
  table: str
  mlp: tuple[str, str]
  output_norm: str
  first_norm: int
  dropped: str


# Names in files, and in parentheses those of the modules of transformers 5,
# which saves the others.
TRANSFORMERS = Layout(
  patch_embed=r"(?:swin\.)?embeddings\.patch_embeddings\.projection",
  patch_norm=r"(?:swin\.)?embeddings\.norm",
  stage=r"(?:swin\.)?encoder\.layers\.",
  norms=("layernorm_before", "layernorm_after"),
  attention=r"attention\.",
  projections=(
    r"(?:self\.query|q_proj)",
    r"(?:self\.key|k_proj)",
    r"(?:self\.value|v_proj)",
    r"(?:output\.dense|o_proj)",
  ),
  table=r"(?:self|relative_position_bias)\.relative_position",
  mlp=(r"(?:intermediate\.dense|mlp\.fc1)", r"(?:output\.dense|mlp\.fc2)"),
  output_norm=r"hidden_states_norms\.stage",
  first_norm=1,
  dropped=r"(?:swin\.)?layernorm\.(?:weight|bias)",  # the classifier's
)
ORIGINAL = Layout(
  patch_embed=r"patch_embed\.proj",
  patch_norm=r"patch_embed\.norm",
  stage=r"layers\.",
  norms=("norm1", "norm2"),
  attention=r"attn\.",
  projections=("query", "key", "value", "proj"),
  table="relative_position",
  mlp=(r"mlp\.fc1", r"mlp\.fc2"),
  output_norm="norm",
  first_norm=0,
  # The classifier and the masks for its fixed input size.
  dropped=r"(?:(?:norm|head)\.(?:weight|bias)|layers\.\d\.blocks\.\d+\.attn_mask)",
)
MMDET = dataclasses.replace(
  ORIGINAL,
  patch_embed=r"patch_embed\.projection",
  stage=r"stages\.",
  attention=r"attn\.w_msa\.",
  mlp=(r"ffn\.layers\.0\.0", r"ffn\.layers\.1"),
)


def backbone_rules(
  layout: Layout, source: str = "", target: str = ""
) -> tuple[Rule, ...]:
  r"""Returns the rules of a Swin Transformer.

  Args:
    layout: Layout of the code base.
    source: Regular expression before every name, such as r'backbone\.'.
    target: Path before every target, such as 'backbone/'.

  Returns:
    The rules; they drop the indices of position biases, which are constants.
  """
  rules = [
    Rule(
      rf"{source}{layout.patch_embed}\.weight",
      f"params/{target}patch_embed/kernel",
      CONV,
    ),
    Rule(
      rf"{source}{layout.patch_embed}\.bias", f"params/{target}patch_embed/bias"
    ),
    *layer_norm_rules(f"{source}{layout.patch_norm}", f"{target}patch_norm"),
    Rule(f"{source}{layout.dropped}", None),
  ]
  for n in range(4):
    stage = f"{source}{layout.stage}{n}"
    block, path = rf"{stage}\.blocks\.(\d+)\.", rf"{target}stage{n + 1}_\1"
    attention = f"{block}{layout.attention}"
    for i, name in enumerate(layout.norms, start=1):
      rules += layer_norm_rules(f"{block}{name}", f"{path}/norm{i}")
    for name, part in zip(
      layout.projections, ("query", "key", "value", "out"), strict=True
    ):
      rules += dense_rules(f"{attention}{name}", f"{path}/attention/{part}")
    for name, part in zip(layout.mlp, ("mlp_in", "mlp_out"), strict=True):
      rules += dense_rules(f"{block}{name}", f"{path}/{part}")
    rules += [
      Rule(
        f"{attention}{layout.table}_bias_table",
        f"params/{path}/attention/bias_table",
      ),
      Rule(f"{attention}{layout.table}_index", None),
      *layer_norm_rules(
        rf"{stage}\.downsample\.norm", f"{target}merge{n + 1}/norm"
      ),
      Rule(
        rf"{stage}\.downsample\.reduction\.weight",
        f"params/{target}merge{n + 1}/reduction/kernel",
        DENSE,
      ),
      *layer_norm_rules(
        f"{source}{layout.output_norm}{n + layout.first_norm}",
        f"{target}norm{n + 1}",
      ),
    ]
  return tuple(rules)


_JOINT = re.compile(r"(.*\.)(?:qkv\.|in_proj_)(weight|bias)")


def split_projections(
  arrays: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """Returns weights with joint query, key and value projections split.

  Args:
    arrays: State dict; 'qkv.weight' and 'in_proj_weight' hold three times as
      many rows, in this order, and their biases likewise.

  Returns:
    The same with 'query.weight', 'key.weight' and 'value.weight' instead.
    Arrays that cannot be divided by three are kept.
  """
  result = {}
  for name, array in arrays.items():
    match = _JOINT.fullmatch(name)
    if match is None or array.ndim == 0 or len(array) % 3:
      result[name] = array
      continue
    parts = zip(("query", "key", "value"), np.split(array, 3), strict=True)
    result |= {f"{match[1]}{part}.{match[2]}": rows for part, rows in parts}
  return result


_MERGING = re.compile(
  r".*\.downsample\.(?:norm\.(?:weight|bias)|reduction\.weight)"
)


def reorder_merging(
  arrays: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """Returns mmdet's patch merging with its inputs in the original order.

  mmdet unfolds 2 x 2 neighbours: input c * 4 + 2 * row + column. In the
  original it is (2 * column + row) * C + c.

  Args:
    arrays: State dict of mmdet.

  Returns:
    The same in the original order. Arrays that cannot be divided by four are
    kept.
  """
  return {
    name: _to_original_order(array)
    if _MERGING.fullmatch(name) and array.ndim and array.shape[-1] % 4 == 0
    else array
    for name, array in arrays.items()
  }


def _to_original_order(array: np.ndarray) -> np.ndarray:
  *rows, inputs = array.shape
  array = array.reshape(*rows, inputs // 4, 4)[..., [0, 2, 1, 3]]
  return np.swapaxes(array, -1, -2).reshape(*rows, inputs)


BACKBONE = backbone_rules(ORIGINAL)
OUTPUT_NORMS = tuple(f"norm{stage}" for stage in range(1, 5))


def load_backbone(
  path: str | os.PathLike, variables: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the backbone of a classifier from the original repository.

  A classifier has no norms for the four maps, so these keep their values.

  Args:
    path: For example `swin_tiny_patch4_window7_224.pth`.
    variables: {'params'} of `Swin`, as initialised.

  Returns:
    The backbone's variables.

  Raises:
    FileNotFoundError: If there is no such file.
    errors.UserError: If the file is damaged, or does not fit the backbone.
  """
  arrays = split_projections(checkpoint_file.read(path).arrays)
  params = variables["params"]
  kept = {name: params[name] for name in OUTPUT_NORMS}
  body = {name: tree for name, tree in params.items() if name not in kept}
  loaded = convert(arrays, BACKBONE, {"params": body})["params"]
  return {**variables, "params": loaded | kept}
