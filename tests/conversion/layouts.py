"""Names and shapes of every published checkpoint, written down by code base.

Independent of the conversion tables: each code base's networks are spelled out
layer by layer in its own order and words. Arrays are zeros that take no memory.
"""

import dataclasses

import numpy as np

GRIDS = (40, 36, 24, 16, 12)
NUM_CLASSES = 80
FPN = 256
BLOCKS = {
  18: (2, 2, 2, 2),
  34: (3, 4, 6, 3),
  50: (3, 4, 6, 3),
  101: (3, 4, 23, 3),
  152: (3, 8, 36, 3),
}
BOTTLENECK_FROM = 50
OFFSETS = {"v1": 2, "v2": 3}  # channels for each point of the kernel


class Layout(dict):
  """Arrays by name, with the layers that put them there."""

  def put(self, name, *shape):
    assert name not in self, name
    self[name] = np.broadcast_to(np.float32(0), shape)

  def conv(self, name, outputs, inputs, size, *, bias=False, groups=1):
    self.put(f"{name}.weight", outputs, inputs // groups, size, size)
    if bias:
      self.put(f"{name}.bias", outputs)

  def affine(self, name, channels):
    self.put(f"{name}.weight", channels)
    self.put(f"{name}.bias", channels)

  def batch_norm(self, name, channels, *, counts=True):
    self.affine(name, channels)
    self.put(f"{name}.running_mean", channels)
    self.put(f"{name}.running_var", channels)
    if counts:
      self.put(f"{name}.num_batches_tracked")

  def dcn(self, name, outputs, inputs, size, kind, *, groups=1):
    """A convolution of mmcv, deformable unless `kind` is None."""
    self.conv(name, outputs, inputs, size, groups=groups)
    if kind:
      points = size * size
      self.conv(
        f"{name}.conv_offset", OFFSETS[kind] * points, inputs, size, bias=True
      )

  def conv_module(self, name, outputs, inputs, size, kind=None):
    """mmcv's ConvModule with group norm."""
    self.dcn(f"{name}.conv", outputs, inputs, size, kind)
    self.affine(f"{name}.gn", outputs)


def stage_channels(depth, groups, group_width):
  """(inputs, middle, outputs, blocks) of each stage."""
  inputs = 64
  for stage, blocks in enumerate(BLOCKS[depth]):
    width = 64 * 2**stage
    if depth < BOTTLENECK_FROM:
      middle = outputs = width
    else:
      middle = width * group_width // 64 * groups
      outputs = 4 * width
    yield inputs, middle, outputs, blocks
    inputs = outputs


def torchvision_resnet(
  out, prefix, depth, *, groups=1, group_width=64, dcn=None
):
  """Names of torchvision, as mmdetection and the official code keep them."""
  out.conv(f"{prefix}conv1", 64, 3, 7)
  out.batch_norm(f"{prefix}bn1", 64)
  stages = stage_channels(depth, groups, group_width)
  for stage, (inputs, middle, outputs, blocks) in enumerate(stages, start=1):
    for block in range(blocks):
      at = f"{prefix}layer{stage}.{block}"
      first = inputs if block == 0 else outputs
      if depth < BOTTLENECK_FROM:
        out.conv(f"{at}.conv1", outputs, first, 3)
        out.batch_norm(f"{at}.bn1", outputs)
        out.conv(f"{at}.conv2", outputs, outputs, 3)
        out.batch_norm(f"{at}.bn2", outputs)
      else:
        kind = dcn if stage > 1 else None
        out.conv(f"{at}.conv1", middle, first, 1)
        out.batch_norm(f"{at}.bn1", middle)
        out.dcn(f"{at}.conv2", middle, middle, 3, kind, groups=groups)
        out.batch_norm(f"{at}.bn2", middle)
        out.conv(f"{at}.conv3", outputs, middle, 1)
        out.batch_norm(f"{at}.bn3", outputs)
      if block == 0 and first != outputs:
        out.conv(f"{at}.downsample.0", outputs, first, 1)
        out.batch_norm(f"{at}.downsample.1", outputs)


def detectron2_resnet(out, prefix, depth, *, groups=1, group_width=64):
  """Names of detectron2; frozen batch norm has no step counter."""
  out.conv(f"{prefix}stem.conv1", 64, 3, 7)
  out.batch_norm(f"{prefix}stem.conv1.norm", 64, counts=False)
  stages = stage_channels(depth, groups, group_width)
  for stage, (inputs, middle, outputs, blocks) in enumerate(stages, start=2):
    for block in range(blocks):
      at = f"{prefix}res{stage}.{block}"
      first = inputs if block == 0 else outputs
      if block == 0:
        out.conv(f"{at}.shortcut", outputs, first, 1)
        out.batch_norm(f"{at}.shortcut.norm", outputs, counts=False)
      for name, to, of, size, split in (
        ("conv1", middle, first, 1, 1),
        ("conv2", middle, middle, 3, groups),
        ("conv3", outputs, middle, 1, 1),
      ):
        out.conv(f"{at}.{name}", to, of, size, groups=split)
        out.batch_norm(f"{at}.{name}.norm", to, counts=False)


def pyramid_inputs(depth):
  return (64, 128, 256, 512) if depth < 50 else (256, 512, 1024, 2048)


def mm_neck(out, depth):
  for i, inputs in enumerate(pyramid_inputs(depth)):
    out.conv(f"neck.lateral_convs.{i}.conv", FPN, inputs, 1, bias=True)
    out.conv(f"neck.fpn_convs.{i}.conv", FPN, FPN, 3, bias=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
  """What one code base of the mmdetection line calls the parts of a head."""

  category: str
  category_out: str
  kernel: str = ""
  kernel_out: str = ""
  mask: str = ""
  masks_out: str = ""
  axis_out: str = ""
  mask_feature: str = ""
  mask_feature_out: str = ""


OFFICIAL = {
  "solov2": Words(
    category="bbox_head.cate_convs",
    category_out="bbox_head.solo_cate",
    kernel="bbox_head.kernel_convs",
    kernel_out="bbox_head.solo_kernel",
    mask_feature="mask_feat_head.convs_all_levels",
    mask_feature_out="mask_feat_head.conv_pred.0",
  ),
  "solo": Words(
    category="bbox_head.cate_convs",
    category_out="bbox_head.solo_cate",
    mask="bbox_head.ins_convs",
    masks_out="bbox_head.solo_ins_list",
  ),
  "decoupled_solo": Words(
    category="bbox_head.cate_convs",
    category_out="bbox_head.dsolo_cate",
    mask="bbox_head.ins_convs",
    axis_out="bbox_head.dsolo_ins_list",
  ),
}
MMDET = {
  "solov2": Words(
    category="mask_head.cls_convs",
    category_out="mask_head.conv_cls",
    kernel="mask_head.kernel_convs",
    kernel_out="mask_head.conv_kernel",
    mask_feature="mask_head.mask_feature_head.convs_all_levels",
    mask_feature_out="mask_head.mask_feature_head.conv_pred",
  ),
  "solo": Words(
    category="mask_head.cls_convs",
    category_out="mask_head.conv_cls",
    mask="mask_head.mask_convs",
    masks_out="mask_head.conv_mask_list",
  ),
  "decoupled_solo": Words(
    category="mask_head.cls_convs",
    category_out="mask_head.conv_cls",
    mask="mask_head.mask_convs",
    axis_out="mask_head.conv_mask_list",
  ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
  """One published checkpoint.

  Attributes:
    name: Its short name.
    megabytes: Of its weights.
    family: 'solo_official', 'mmdet' or 'adelaidet'.
    config: Ours: file, colon, argument.
    method: A method's name.
    depth: Of the ResNet or ResNeXt.
    convs: Convolutions of a tower.
    width: Channels of a tower.
    kernel: Mask-feature channels (SOLOv2).
    groups: 64 for ResNeXt-101 64x4d.
    dcn: 'v1', 'v2' or None.
    dcn_everywhere: Every convolution of the towers and the mask feature, or
      the last of each tower.
    is_light: Decoupled SOLO with one tower.
    published_ap: COCO val2017 mask AP.
  """

  name: str
  megabytes: int
  family: str
  config: str
  method: str
  depth: int
  convs: int
  width: int
  kernel: int = 256
  groups: int = 1
  dcn: str | None = None
  dcn_everywhere: bool = True
  is_light: bool = False
  published_ap: float

  def state_dict(self):
    """Every name with zeros of its shape."""
    out = Layout()
    if self.family == "adelaidet":
      _adelaidet(out, self)
      return out
    words = (OFFICIAL if self.family == "solo_official" else MMDET)[self.method]
    torchvision_resnet(
      out,
      "backbone.",
      self.depth,
      groups=self.groups,
      group_width=64 if self.groups == 1 else 4,
      dcn=self.dcn,
    )
    mm_neck(out, self.depth)
    _mm_head(out, self, words)
    return out


def _tower(out, name, spec, extra):
  for i in range(spec.convs):
    is_deformable = spec.dcn_everywhere or i == spec.convs - 1
    out.conv_module(
      f"{name}.{i}",
      spec.width,
      FPN + extra if i == 0 else spec.width,
      3,
      spec.dcn if is_deformable else None,
    )


def _mm_head(out, spec, words):
  _tower(out, words.category, spec, 0)
  out.conv(words.category_out, NUM_CLASSES, spec.width, 3, bias=True)
  if spec.method == "solov2":
    _tower(out, words.kernel, spec, 2)
    out.conv(words.kernel_out, spec.kernel, spec.width, 3, bias=True)
    kind = spec.dcn if spec.dcn_everywhere else None
    for level, names in enumerate(
      (("conv0",), ("conv0",), ("conv0", "conv1"), ("conv0", "conv1", "conv2"))
    ):
      for i, name in enumerate(names):
        inputs = (FPN + 2 if level == 3 else FPN) if i == 0 else 128
        out.conv_module(
          f"{words.mask_feature}.{level}.{name}", 128, inputs, 3, kind
        )
    out.conv_module(words.mask_feature_out, spec.kernel, 128, 1, kind)
  elif spec.method == "solo":
    _tower(out, words.mask, spec, 2)
    for level, grid in enumerate(GRIDS):
      at = f"{words.masks_out}.{level}"
      out.conv(at, grid * grid, spec.width, 1, bias=True)
  else:
    if spec.is_light:
      _tower(out, words.mask, spec, 2)
    else:
      _tower(out, f"{words.mask}_x", spec, 1)
      _tower(out, f"{words.mask}_y", spec, 1)
    for axis in "xy":
      for level, grid in enumerate(GRIDS):
        at = f"{words.axis_out}_{axis}.{level}"
        out.conv(at, grid, spec.width, 3, bias=True)


def _adelaidet(out, spec):
  detectron2_resnet(out, "backbone.bottom_up.", spec.depth)
  for level, inputs in enumerate(pyramid_inputs(spec.depth), start=2):
    out.conv(f"backbone.fpn_lateral{level}", FPN, inputs, 1, bias=True)
    out.conv(f"backbone.fpn_output{level}", FPN, FPN, 3, bias=True)
  for tower, extra in (("cate_tower", 0), ("kernel_tower", 2)):
    for i in range(spec.convs):  # convolution, norm, ReLU
      inputs = FPN + extra if i == 0 else spec.width
      out.conv(f"ins_head.{tower}.{3 * i}", spec.width, inputs, 3)
      out.affine(f"ins_head.{tower}.{3 * i + 1}", spec.width)
  out.conv("ins_head.cate_pred", NUM_CLASSES, spec.width, 3, bias=True)
  out.conv("ins_head.kernel_pred", spec.kernel, spec.width, 3, bias=True)
  for level in range(4):
    for i in range(max(level, 1)):
      inputs = (FPN + 2 if level == 3 else FPN) if i == 0 else 128
      at = f"mask_head.convs_all_levels.{level}.conv{i}"
      out.conv(f"{at}.0", 128, inputs, 3)
      out.affine(f"{at}.1", 128)
  out.conv("mask_head.conv_pred.0", spec.kernel, 128, 1)
  out.affine("mask_head.conv_pred.1", spec.kernel)
