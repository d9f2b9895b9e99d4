"""Which config a converted region-based network needs."""

import re
from collections.abc import Mapping

import numpy as np

# Paths that identify a kind of network, by the word for it.
_TRAITS = {
  "cascade": "params/box_heads_1/codes/kernel",
  "fed": "params/masks_1/fed/kernel",
  "points": "params/points/logits/kernel",
  "semantic": "params/semantic/logits/kernel",
  "normed": "params/masks_0/conv_0/norm/scale",
  "batch": "batch_stats/masks_0/conv_0/norm/mean",
}


def find_traits(paths: Mapping[str, np.ndarray]) -> frozenset[str] | None:
  """Returns what kind of region-based network it is.

  Args:
    paths: Source arrays by target path.

  Returns:
    Words of `_TRAITS`, and for grouped convolutions their number and width,
    such as '32x8d'. None for networks of other kinds.
  """
  if "params/box_heads_0/logits/bias" not in paths:
    return None
  found = {word for word, path in _TRAITS.items() if path in paths}
  kernel = paths.get("params/backbone/layer1_0/conv2/kernel")  # still OIHW
  if kernel is not None and kernel.ndim == 4:
    outputs, width = kernel.shape[:2]
    if width < outputs:
      found.add(f"{outputs // width}x{width}d")
  return frozenset(found)


def suggest(
  family: str,
  backbone: str,
  *,
  is_deformable: bool,
  num_classes: int,
  traits: frozenset[str],
) -> str:
  """Returns the config of a region-based network.

  What names and shapes do not show is left to the defaults of the config: the
  schedule, and whether mmdetection's ResNet is of caffe's kind.

  Args:
    family: Name of the code base: 'torchvision', 'detectron2' or 'mmdet' with
      an ending.
    backbone: 'r50', 'x101' and so on.
    is_deformable: Whether it has deformable convolutions.
    num_classes: K.
    traits: See `find_traits`.

  Returns:
    File, colon and argument.
  """
  base = family.partition("_")[0]
  groups = [x for x in traits if re.fullmatch(r"\d+x\d+d", x)]
  backbone = "_".join([backbone, *groups, *(["dcn"] if is_deformable else [])])
  if "points" in traits:
    caffe = "" if groups else "_caffe"
    return f"point_rend_coco.py:recipe={base},backbone={backbone}{caffe}"
  if "fed" in traits:
    semantic = "" if "semantic" in traits else ",semantic=false"
    return f"htc_coco.py:backbone={backbone}{semantic}"
  if "cascade" in traits:
    return f"cascade_mask_rcnn_coco.py:recipe={base},backbone={backbone}"
  outputs = ",outputs=90" if num_classes == 90 else ""
  if "normed" in traits:
    kind = "detectron2" if "batch" in traits else "detectron2_gn,schedule=3x"
    recipe = "torchvision_v2" if base == "torchvision" else kind
    return f"mask_rcnn_lsj_coco.py:recipe={recipe}{outputs}"
  schedule = ",schedule=26ep" if base == "torchvision" else ""
  return (
    f"mask_rcnn_coco.py:recipe={base},backbone={backbone}{schedule}{outputs}"
  )
