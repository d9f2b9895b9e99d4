"""Names and shapes of published networks of regions, by code base.

Independent of the conversion tables, as layouts.py, whose backbones these are.
"""

from layouts import (
  FPN,
  Layout,
  detectron2_resnet,
  mm_neck,
  pyramid_inputs,
  torchvision_resnet,
)

FC = 1024
POOLED = FPN * 49


def linear(out, name, outputs, inputs):
  out.put(f"{name}.weight", outputs, inputs)
  out.put(f"{name}.bias", outputs)


def torchvision_v1(*, in_file):
  """`maskrcnn_resnet50_fpn`; `in_file`: the older names of the file."""
  out = Layout()
  torchvision_resnet(out, "backbone.body.", 50)
  for name in [x for x in out if x.endswith("num_batches_tracked")]:
    del out[name]  # frozen batch norm has none
  inner = "" if in_file else ".0"
  for i, inputs in enumerate(pyramid_inputs(50)):
    for blocks, of, size in (("inner", inputs, 1), ("layer", FPN, 3)):
      name = f"backbone.fpn.{blocks}_blocks.{i}{inner}"
      out.conv(name, FPN, of, size, bias=True)
  rpn = "rpn.head.conv" if in_file else "rpn.head.conv.0.0"
  out.conv(rpn, FPN, FPN, 3, bias=True)
  linear(out, "roi_heads.box_head.fc6", FC, POOLED)
  linear(out, "roi_heads.box_head.fc7", FC, FC)
  for i in range(4):
    name = f"mask_fcn{i + 1}" if in_file else f"{i}.0"
    out.conv(f"roi_heads.mask_head.{name}", FPN, FPN, 3, bias=True)
  return torchvision_outputs(out)


def torchvision_v2():
  """`maskrcnn_resnet50_fpn_v2`: batch norm everywhere."""
  out = Layout()
  torchvision_resnet(out, "backbone.body.", 50)
  for i, inputs in enumerate(pyramid_inputs(50)):
    for blocks, of, size in (("inner", inputs, 1), ("layer", FPN, 3)):
      name = f"backbone.fpn.{blocks}_blocks.{i}"
      out.conv(f"{name}.0", FPN, of, size)
      out.batch_norm(f"{name}.1", FPN)
  for i in range(2):
    out.conv(f"rpn.head.conv.{i}.0", FPN, FPN, 3, bias=True)
  for head in ("box_head", "mask_head"):
    for i in range(4):
      out.conv(f"roi_heads.{head}.{i}.0", FPN, FPN, 3)
      out.batch_norm(f"roi_heads.{head}.{i}.1", FPN)
  linear(out, "roi_heads.box_head.5", FC, POOLED)
  return torchvision_outputs(out)


def torchvision_outputs(out):
  out.conv("rpn.head.cls_logits", 3, FPN, 1, bias=True)
  out.conv("rpn.head.bbox_pred", 12, FPN, 1, bias=True)
  linear(out, "roi_heads.box_predictor.cls_score", 91, FC)
  linear(out, "roi_heads.box_predictor.bbox_pred", 364, FC)
  out.conv("roi_heads.mask_predictor.conv5_mask", FPN, FPN, 2, bias=True)
  out.conv("roi_heads.mask_predictor.mask_fcn_logits", 91, FPN, 1, bias=True)
  return out


def detectron2_norm(out, name, kind):
  if kind == "GN":
    out.affine(name, FPN)
  else:
    out.batch_norm(name, FPN, counts=kind == "SyncBN")


def detectron2(
  kind, *, depth=50, groups=1, group_width=64, norm=None, old=False
):
  """A file of the model zoo.

  Args:
    kind: 'mask', 'cascade' or 'point_rend'.
    depth: Of the backbone.
    groups: Of the backbone.
    group_width: Of the backbone.
    norm: None, 'GN' or 'SyncBN' in pyramid and heads.
    old: Names of early 2020.
  """
  out = Layout()
  prefix = "backbone.bottom_up."
  detectron2_resnet(out, prefix, depth, groups=groups, group_width=group_width)
  if norm == "GN":
    for name in [x for x in out if ".running_" in x]:
      del out[name]
  for level, inputs in enumerate(pyramid_inputs(depth), start=2):
    for part, of, size in (("lateral", inputs, 1), ("output", FPN, 3)):
      name = f"backbone.fpn_{part}{level}"
      out.conv(name, FPN, of, size, bias=norm is None)
      if norm:
        detectron2_norm(out, f"{name}.norm", norm)
  rpn = "proposal_generator.rpn_head"
  if norm == "SyncBN":
    for i in range(2):
      out.conv(f"{rpn}.conv.conv{i}", FPN, FPN, 3, bias=True)
  else:
    out.conv(f"{rpn}.conv", FPN, FPN, 3, bias=True)
  out.conv(f"{rpn}.objectness_logits", 3, FPN, 1, bias=True)
  out.conv(f"{rpn}.anchor_deltas", 12, FPN, 1, bias=True)
  for i in range(5):
    out.put(f"proposal_generator.anchor_generator.cell_anchors.{i}", 3, 4)
  out.put("pixel_mean", 3, 1, 1)
  out.put("pixel_std", 3, 1, 1)
  for stage in ("0.", "1.", "2.") if kind == "cascade" else ("",):
    head = f"roi_heads.box_head.{stage}"
    if norm:
      for i in range(4):
        out.conv(f"{head}conv{i + 1}", FPN, FPN, 3)
        detectron2_norm(out, f"{head}conv{i + 1}.norm", norm)
    linear(out, f"{head}fc1", FC, POOLED)
    if not norm:
      linear(out, f"{head}fc2", FC, FC)
    predictor = f"roi_heads.box_predictor.{stage}"
    linear(out, f"{predictor}cls_score", 81, FC)
    linear(out, f"{predictor}bbox_pred", 4 if stage else 320, FC)
  if kind == "point_rend":
    return detectron2_points(out, old)
  for i in range(4):
    name = f"roi_heads.mask_head.mask_fcn{i + 1}"
    out.conv(name, FPN, FPN, 3, bias=norm is None)
    if norm:
      detectron2_norm(out, f"{name}.norm", norm)
  out.conv("roi_heads.mask_head.deconv", FPN, FPN, 2, bias=True)
  out.conv("roi_heads.mask_head.predictor", 80, FPN, 1, bias=True)
  return out


def detectron2_points(out, old):
  coarse = "roi_heads.mask_" + ("coarse_head" if old else "head.coarse_head")
  point = "roi_heads.mask_" + ("point_head" if old else "head.point_head")
  fc = "coarse_mask_fc" if old else "fc"
  out.conv(f"{coarse}.reduce_spatial_dim_conv", FPN, FPN, 2, bias=True)
  linear(out, f"{coarse}.{fc}1", FC, POOLED)
  linear(out, f"{coarse}.{fc}2", FC, FC)
  linear(out, f"{coarse}.prediction", 80 * 49, FC)
  for i in range(3):
    out.put(f"{point}.fc{i + 1}.weight", FPN, FPN + 80, 1)
    out.put(f"{point}.fc{i + 1}.bias", FPN)
  out.put(f"{point}.predictor.weight", 80, FPN + 80, 1)
  out.put(f"{point}.predictor.bias", 80)
  return out


def mmdet(kind, *, depth=50, groups=1, group_width=64, dcn=None, semantic=True):
  """A file of mmdetection; `kind` as above, or 'htc'."""
  out = Layout()
  torchvision_resnet(
    out, "backbone.", depth, groups=groups, group_width=group_width, dcn=dcn
  )
  mm_neck(out, depth)
  out.conv("rpn_head.rpn_conv", FPN, FPN, 3, bias=True)
  out.conv("rpn_head.rpn_cls", 3, FPN, 1, bias=True)
  out.conv("rpn_head.rpn_reg", 12, FPN, 1, bias=True)
  is_cascade = kind in ("cascade", "htc")
  for stage in ("0.", "1.", "2.") if is_cascade else ("",):
    head = f"roi_head.bbox_head.{stage}"
    linear(out, f"{head}shared_fcs.0", FC, POOLED)
    linear(out, f"{head}shared_fcs.1", FC, FC)
    linear(out, f"{head}fc_cls", 81, FC)
    linear(out, f"{head}fc_reg", 4 if is_cascade else 320, FC)
    if kind == "point_rend":
      continue
    mask = f"roi_head.mask_head.{stage}"
    for i in range(4):
      out.conv(f"{mask}convs.{i}.conv", FPN, FPN, 3, bias=True)
    if kind == "htc" and stage != "0.":
      out.conv(f"{mask}conv_res.conv", FPN, FPN, 1, bias=True)
    out.conv(f"{mask}upsample", FPN, FPN, 2, bias=True)
    out.conv(f"{mask}conv_logits", 80, FPN, 1, bias=True)
  if kind == "htc" and semantic:
    branch = "roi_head.semantic_head"
    for i in range(5):
      out.conv(f"{branch}.lateral_convs.{i}.conv", FPN, FPN, 1, bias=True)
    for i in range(4):
      out.conv(f"{branch}.convs.{i}.conv", FPN, FPN, 3, bias=True)
    out.conv(f"{branch}.conv_embedding.conv", FPN, FPN, 1, bias=True)
    out.conv(f"{branch}.conv_logits", 183, FPN, 1, bias=True)
  if kind == "point_rend":
    mm_points(out)
  return out


def mm_points(out):
  coarse, point = "roi_head.mask_head", "roi_head.point_head"
  out.conv(f"{coarse}.downsample_conv.conv", FPN, FPN, 2, bias=True)
  linear(out, f"{coarse}.fcs.0", FC, POOLED)
  linear(out, f"{coarse}.fcs.1", FC, FC)
  linear(out, f"{coarse}.fc_logits", 80 * 49, FC)
  for i in range(3):
    out.put(f"{point}.fcs.{i}.conv.weight", FPN, FPN + 80, 1)
    out.put(f"{point}.fcs.{i}.conv.bias", FPN)
  out.put(f"{point}.fc_logits.weight", 80, FPN + 80, 1)
  out.put(f"{point}.fc_logits.bias", 80)
