"""Names and shapes of published YOLACT files, without their weights.

Written down from the authors' modules and mmdetection's, layer by layer.
"""

import numpy as np
from layouts import Layout, stage_channels, torchvision_resnet

CLASSES, PROTOS = 80, 32
EVERY = {50: 1, 101: 3}  # of YOLACT++'s deformable blocks


def conv(out, name, outputs, inputs, size):
  out.conv(name, outputs, inputs, size, bias=True)


def deformable_bias(out, depth):
  """YOLACT++'s ResNet: its deformable convolutions have a bias."""
  sizes = stage_channels(depth, 1, 64)
  for stage, (_, middle, _, blocks) in enumerate(sizes):
    for block in range(blocks):
      if stage and block % EVERY[depth] == 0:
        at = f"backbone.layers.{stage}.{block}.conv2"
        out.put(f"{at}.bias", middle)
        conv(out, f"{at}.conv_offset_mask", 27, middle, 3)


def resnet(out, depth, *, is_plus):
  """The authors count layers from 0."""
  plain = Layout()
  torchvision_resnet(plain, "", depth)
  for name, array in plain.items():
    if name.startswith("layer"):
      name = f"layers.{int(name[5]) - 1}{name[6:]}"
    out[f"backbone.{name}"] = array
  if is_plus:
    deformable_bias(out, depth)


def darknet(out):
  def conv_norm(name, outputs, inputs, size):
    out.conv(f"{name}.0", outputs, inputs, size)
    out.batch_norm(f"{name}.1", outputs)

  conv_norm("backbone._preconv", 32, 3, 3)
  for stage, number in enumerate((1, 2, 8, 8, 4)):
    channels = 64 * 2**stage
    at = f"backbone.layers.{stage}"
    conv_norm(f"{at}.0", channels, channels // 2, 3)
    for block in range(1, number + 1):
      conv_norm(f"{at}.{block}.conv1", channels // 2, channels, 1)
      conv_norm(f"{at}.{block}.conv2", channels, channels // 2, 3)


def protonet(out, prefix):
  for i in (0, 2, 4, 8):
    conv(out, f"{prefix}.{i}", 256, 256, 3)
  conv(out, f"{prefix}.10", PROTOS, 256, 1)


def original(backbone, *, is_plus=False):
  out = Layout()
  if backbone == "darknet53":
    darknet(out)
  else:
    resnet(out, int(backbone[1:]), is_plus=is_plus)
  inputs = (256, 512, 1024) if backbone == "darknet53" else (512, 1024, 2048)
  for i, channels in enumerate(inputs[::-1]):
    conv(out, f"fpn.lat_layers.{i}", 256, channels, 1)
    conv(out, f"fpn.pred_layers.{i}", 256, 256, 3)
  for i in range(2):
    conv(out, f"fpn.downsample_layers.{i}", 256, 256, 3)
  protonet(out, "proto_net")
  priors, head = 9 if is_plus else 3, "prediction_layers.0"
  conv(out, f"{head}.upfeature.0", 256, 256, 3)
  conv(out, f"{head}.bbox_layer", 4 * priors, 256, 3)
  conv(out, f"{head}.conf_layer", (CLASSES + 1) * priors, 256, 3)
  conv(out, f"{head}.mask_layer", PROTOS * priors, 256, 3)
  conv(out, "semantic_seg_conv", CLASSES, 256, 1)
  if is_plus:
    net = "maskiou_net.maskiou_net"
    for i, (inputs, outputs) in enumerate(
      ((1, 8), (8, 16), (16, 32), (32, 64), (64, 128))
    ):
      conv(out, f"{net}.{2 * i}", outputs, inputs, 3)
    conv(out, f"{net}.10", CLASSES, 128, 1)
  return out


def mmdet(backbone, *, semantic="segm_head"):
  out = Layout()
  torchvision_resnet(out, "backbone.", int(backbone[1:]))
  for i, channels in enumerate((512, 1024, 2048)):
    conv(out, f"neck.lateral_convs.{i}.conv", 256, channels, 1)
  for i, channels in enumerate((256, 256, 256, 2048, 256)):
    conv(out, f"neck.fpn_convs.{i}.conv", 256, channels, 3)
  conv(out, "bbox_head.head_convs.0.conv", 256, 256, 3)
  conv(out, "bbox_head.conv_cls", (CLASSES + 1) * 3, 256, 3)
  conv(out, "bbox_head.conv_reg", 4 * 3, 256, 3)
  conv(out, "bbox_head.conv_coeff", PROTOS * 3, 256, 3)
  conv(out, f"{semantic}.segm_conv", CLASSES, 256, 1)
  protonet(out, "mask_head.protonet")
  return out


def find_layout(name):
  """Returns the arrays of a row of published.csv."""
  _, *words = name.split("_")
  if words[-1] == "mmdet":
    return mmdet(words[0])
  is_plus = words[0] == "plus"
  return original(words[1] if is_plus else words[0], is_plus=is_plus)


def count(arrays):
  """Returns the numbers in a layout, without counters."""
  return sum(
    np.prod(x.shape, dtype=int)
    for name, x in arrays.items()
    if not name.endswith("num_batches_tracked")
  )
