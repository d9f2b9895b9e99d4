"""What is known about each method's weights, by their converted names."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

Paths = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
  """What is known about a method's weights, by their converted names.

  Attributes:
    mark: Regular expression of paths that only this method has; each of its
      variants has at least one.
    category_bias: Path of the class head's bias.
    box_bias: Path of the bias of a box head with 4 outputs per prior, to count
      the priors of the class head; None: it has the outputs of one prior.
    num_no_class: Outputs of the class head per prior that are not classes.
    is_light: Returns whether weights are of the light variant.
    tasks: Argument of the configs by the number of classes.
    queries: Path of one row per query, where the number is an argument of the
      configs.
  """

  mark: str
  category_bias: str = "params/category/bias"
  box_bias: str | None = None
  num_no_class: int = 0
  is_light: Callable[[Paths], bool] = lambda paths: False
  tasks: Mapping[int, str] = dataclasses.field(default_factory=dict)
  queries: str | None = None

  def count_classes(self, paths: Paths) -> int | None:
    """Returns the number of classes, None where there is no such head."""
    bias = paths.get(self.category_bias)
    if bias is None:
      return None
    box = paths.get(self.box_bias)
    priors = 1 if box is None else box.size // 4
    return bias.size // priors - self.num_no_class


def _region_head(mark: str) -> Head:
  bias = "params/box_heads_0/logits/bias"
  return Head(mark=mark, category_bias=bias, num_no_class=1)


HEADS = {
  "solov2": Head(
    mark=r"params/kernel/",
    is_light=lambda paths: np.size(paths.get("params/kernel/bias", ())) == 128,
  ),
  "solo": Head(mark=r"params/mask_\d/"),
  "decoupled_solo": Head(
    mark=r"params/mask_x_\d/",
    is_light=lambda paths: "params/mask_convs_0/conv/kernel" in paths,
  ),
  "mask2former": Head(
    mark=r"params/decoder/query_position_embedding",
    category_bias="params/decoder/category/bias",
    num_no_class=1,
    tasks={133: "panoptic"},
  ),
  "queryinst": Head(
    mark=r"params/proposal_queries",
    category_bias="params/boxes_0/category/bias",
    queries="params/proposal_queries",
  ),
  "mask_rcnn": _region_head(r"params/masks_0/logits/"),
  "point_rend": _region_head(r"params/points/logits/"),
  "yolact": Head(
    mark=r"params/prior_head/",
    category_bias="params/prior_head/category/bias",
    box_bias="params/prior_head/box/bias",
    num_no_class=1,
  ),
}
