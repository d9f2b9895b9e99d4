"""Names and shapes of the published files of QueryInst.

Independent of the conversion tables, as layouts.py. Both code bases have the
same names.
"""

import mask2former_layouts
from layouts import FPN, Layout, mm_neck, torchvision_resnet
from region_layouts import linear

HEAD = "instance_interactive_conv"
INNER = 64
SWIN_L = 192


def make(name):
  """Returns the state dict of a row of published.csv."""
  out = Layout()
  if "swin_l" in name:
    shapes, _ = mask2former_layouts.swin("mask2former", "swin_l_window7")
    for key, shape in shapes.items():
      out.put(f"backbone.{key}", *shape)
    for i in range(4):
      out.conv(f"neck.lateral_convs.{i}.conv", FPN, SWIN_L * 2**i, 1, bias=True)
      out.conv(f"neck.fpn_convs.{i}.conv", FPN, FPN, 3, bias=True)
  else:
    depth = 101 if "r101" in name else 50
    torchvision_resnet(out, "backbone.", depth)
    mm_neck(out, depth)
  number = 300 if "_300_" in name else 100
  out.put("rpn_head.init_proposal_bboxes.weight", number, 4)
  out.put("rpn_head.init_proposal_features.weight", number, FPN)
  for stage in range(6):
    box_head(out, f"roi_head.bbox_head.{stage}.")
    mask_head(out, f"roi_head.mask_head.{stage}.")
  return out


def dynamic_conv(out, head):
  linear(out, f"{head}{HEAD}.dynamic_layer", 2 * FPN * INNER, FPN)
  out.affine(f"{head}{HEAD}.norm_in", INNER)
  out.affine(f"{head}{HEAD}.norm_out", FPN)


def box_head(out, head):
  out.put(f"{head}attention.attn.in_proj_weight", 3 * FPN, FPN)
  out.put(f"{head}attention.attn.in_proj_bias", 3 * FPN)
  linear(out, f"{head}attention.attn.out_proj", FPN, FPN)
  out.affine(f"{head}attention_norm", FPN)
  dynamic_conv(out, head)
  linear(out, f"{head}{HEAD}.fc_layer", FPN, 49 * FPN)
  out.affine(f"{head}{HEAD}.fc_norm", FPN)
  out.affine(f"{head}{HEAD}_norm", FPN)
  linear(out, f"{head}ffn.layers.0.0", 2048, FPN)
  linear(out, f"{head}ffn.layers.1", FPN, 2048)
  out.affine(f"{head}ffn_norm", FPN)
  for fcs, number in (("cls_fcs", 1), ("reg_fcs", 3)):
    for i in range(number):
      out.put(f"{head}{fcs}.{3 * i}.weight", FPN, FPN)
      out.affine(f"{head}{fcs}.{3 * i + 1}", FPN)
  linear(out, f"{head}fc_cls", 80, FPN)
  linear(out, f"{head}fc_reg", 4, FPN)


def mask_head(out, head):
  dynamic_conv(out, head)
  for i in range(4):
    out.conv(f"{head}convs.{i}.conv", FPN, FPN, 3)
    out.batch_norm(f"{head}convs.{i}.bn", FPN)
  out.conv(f"{head}upsample", FPN, FPN, 2, bias=True)
  out.conv(f"{head}conv_logits", 80, FPN, 1, bias=True)
