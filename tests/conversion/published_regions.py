"""Layouts of published networks of regions, by the names in published.py."""

import functools
import re

import region_layouts

from solo_jax.published import PUBLISHED

NORMS = {"mask_rcnn_r50_gn_3x": "GN"} | {
  f"mask_rcnn_r50_{epochs}ep": "SyncBN" for epochs in (100, 200, 400)
}
KINDS = {"cascade_mask_rcnn": "cascade", "point_rend": "point_rend"}
KINDS |= {"htc": "htc", "mask_rcnn": "mask"}


def find_layout(name):
  """Returns a function that makes the state dict of a row."""
  if name == "mask_rcnn_r50_torchvision":
    return functools.partial(region_layouts.torchvision_v1, in_file=True)
  if name == "mask_rcnn_v2_r50_torchvision":
    return region_layouts.torchvision_v2
  short, _, code_base = name.rpartition("_")
  kind = next(kind for start, kind in KINDS.items() if short.startswith(start))
  depth = re.search(r"_[rx](\d+)", name)[1]
  options = dict(depth=int(depth))
  if found := re.search(r"_(\d+)x(\d+)d", name):
    options |= dict(groups=int(found[1]), group_width=int(found[2]))
  if code_base == "detectron2":
    options["norm"] = NORMS.get(short)
    return functools.partial(region_layouts.detectron2, kind, **options)
  if "_dcn_" in name:
    options["dcn"] = "v1"
  return functools.partial(region_layouts.mmdet, kind, **options)


LAYOUTS = {
  row.name: find_layout(row.name)
  for row in PUBLISHED
  if row.config and row.name.startswith(tuple(KINDS))
}
assert len(LAYOUTS) == 53
