"""SOLOv2 with a ResNet-50 in PyTorch, layer by layer the published network.

Written from the described behaviour, to compare the CPU cost of solo_jax's
network with. Parameter names are mmdetection's, so the same weights run in both
through `solo_jax.conversion`. It is not used by the package.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_GRIDS = (40, 36, 24, 16, 12)
LEVELS = 5


class Bottleneck(nn.Module):
  """1x1, 3x3 (with the stride) and 1x1 convolutions, and a shortcut."""

  def __init__(self, channels: int, width: int, stride: int):
    super().__init__()
    self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(width)
    self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
    self.bn3 = nn.BatchNorm2d(4 * width)
    self.downsample = None
    if channels != 4 * width:
      self.downsample = nn.Sequential(
        nn.Conv2d(channels, 4 * width, 1, stride, bias=False),
        nn.BatchNorm2d(4 * width),
      )

  def forward(self, x: Tensor) -> Tensor:
    """Runs the layer."""
    shortcut = x if self.downsample is None else self.downsample(x)
    x = F.relu(self.bn1(self.conv1(x)))
    x = F.relu(self.bn2(self.conv2(x)))
    return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
  """Maps an image to (c2, c3, c4, c5)."""

  def __init__(self):
    super().__init__()
    self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    self.bn1 = nn.BatchNorm2d(64)
    channels = 64
    for stage, num_blocks in enumerate((3, 4, 6, 3)):
      width = 64 * 2**stage
      blocks = []
      for i in range(num_blocks):
        stride = 2 if stage and not i else 1
        blocks.append(Bottleneck(channels, width, stride))
        channels = 4 * width
      setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))

  def forward(self, x: Tensor) -> list[Tensor]:
    """Runs the backbone."""
    x = F.relu(self.bn1(self.conv1(x)))
    x = F.max_pool2d(x, 3, 2, 1)
    features = []
    for stage in range(4):
      x = getattr(self, f"layer{stage + 1}")(x)
      features.append(x)
    return features


class FPN(nn.Module):
  """Maps (c2, ..., c5) to (p2, ..., p6)."""

  def __init__(self, channels: int = 256):
    super().__init__()
    inputs = (256, 512, 1024, 2048)
    self.lateral_convs = nn.ModuleList(
      nn.ModuleDict({"conv": nn.Conv2d(n, channels, 1)}) for n in inputs
    )
    self.fpn_convs = nn.ModuleList(
      nn.ModuleDict({"conv": nn.Conv2d(channels, channels, 3, padding=1)})
      for _ in inputs
    )

  def forward(self, features: list[Tensor]) -> list[Tensor]:
    """Runs the pyramid."""
    x = [
      m["conv"](f) for m, f in zip(self.lateral_convs, features, strict=True)
    ]
    for i in (2, 1, 0):
      x[i] = x[i] + F.interpolate(x[i + 1], size=x[i].shape[-2:])
    x = [m["conv"](f) for m, f in zip(self.fpn_convs, x, strict=True)]
    return [*x, x[-1][..., ::2, ::2]]


class ConvGN(nn.Module):
  """Convolution without bias, group norm over 32 groups, ReLU."""

  def __init__(self, inputs: int, outputs: int, size: int):
    super().__init__()
    self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    self.gn = nn.GroupNorm(32, outputs)

  def forward(self, x: Tensor) -> Tensor:
    """Runs the layer."""
    return F.relu(self.gn(self.conv(x)))


def append_coordinates(x: Tensor) -> Tensor:
  """Appends (x, y) in [-1, 1] as two channels."""
  height, width = x.shape[-2:]
  ys, xs = torch.meshgrid(
    torch.linspace(-1, 1, height, dtype=x.dtype, device=x.device),
    torch.linspace(-1, 1, width, dtype=x.dtype, device=x.device),
    indexing="ij",
  )
  grid = torch.stack([xs, ys]).expand(len(x), -1, -1, -1)
  return torch.cat([x, grid], 1)


def resize(x: Tensor, scale: float) -> Tensor:
  return F.interpolate(
    x, scale_factor=scale, mode="bilinear", recompute_scale_factor=True
  )


class MaskFeatureHead(nn.Module):
  """Sums P2 to P5 at stride 4."""

  def __init__(self):
    super().__init__()
    self.convs_all_levels = nn.ModuleList()
    for level in range(4):
      convs = OrderedDict()
      for i in range(max(level, 1)):
        inputs = 256 + 2 * (level == 3) if i == 0 else 128
        convs[f"conv{i}"] = ConvGN(inputs, 128, 3)
      self.convs_all_levels.append(nn.Sequential(convs))
    self.conv_pred = ConvGN(128, 256, 1)

  def forward(self, pyramid: list[Tensor]) -> Tensor:
    """Runs the branch."""
    total = self.convs_all_levels[0](pyramid[0])
    for level in (1, 2, 3):
      x = pyramid[level]
      if level == 3:
        x = append_coordinates(x)
      for conv in self.convs_all_levels[level]:
        x = resize(conv(x), 2)
      total = total + x
    return self.conv_pred(total)


class MaskHead(nn.Module):
  """Category and kernel towers on every level, and the mask feature."""

  def __init__(self, num_classes: int):
    super().__init__()
    self.cls_convs = nn.ModuleList(
      ConvGN(512 if i else 256, 512, 3) for i in range(4)
    )
    self.kernel_convs = nn.ModuleList(
      ConvGN(512 if i else 258, 512, 3) for i in range(4)
    )
    self.conv_cls = nn.Conv2d(512, num_classes, 3, padding=1)
    self.conv_kernel = nn.Conv2d(512, 256, 3, padding=1)
    self.mask_feature_head = MaskFeatureHead()

  def forward(
    self, pyramid: list[Tensor]
  ) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Returns category logits and kernels by level, and the mask feature."""
    levels = list(pyramid)
    levels[0] = resize(levels[0], 0.5)
    levels[4] = F.interpolate(levels[4], levels[3].shape[-2:], mode="bilinear")
    logits, kernels = [], []
    for x, num_grid in zip(levels, NUM_GRIDS, strict=True):
      kernel = F.interpolate(
        append_coordinates(x), (num_grid, num_grid), mode="bilinear"
      )
      category = kernel[:, :-2]
      for convs in zip(self.cls_convs, self.kernel_convs, strict=True):
        category, kernel = convs[0](category), convs[1](kernel)
      logits.append(self.conv_cls(category))
      kernels.append(self.conv_kernel(kernel))
    return logits, kernels, self.mask_feature_head(pyramid[:4])


class SOLOv2(nn.Module):
  """SOLOv2-R50: normalised images [B, 3, H, W] to raw outputs."""

  def __init__(self, num_classes: int = 80):
    super().__init__()
    self.backbone = ResNet50()
    self.neck = FPN()
    self.mask_head = MaskHead(num_classes)

  def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Runs the network.

    Args:
      x: [B, 3, H, W] float, H and W multiples of 32.

    Returns:
      Category logits and kernels, one [B, C, S, S] per level, and the mask
      feature [B, 256, H / 4, W / 4].
    """
    return self.mask_head(self.neck(self.backbone(x)))
