"""YOLACT with a ResNet-50 in PyTorch, with its decoder.

Written from the paper and the described behaviour, to compare the CPU cost of
solo_jax with. Parameter names are the authors', so the same weights run in both
through `solo_jax.conversion`. It is not used by the package.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_network import ResNet50

SIDE = 550
NUM_CLASSES, PROTOS, CHANNELS = 80, 32, 256
SCALES, RATIOS = (24, 48, 96, 192, 384), (1.0, 0.5, 2.0)
MIN_SCORE, TOP_K, OVERLAP, MAX_DETECTIONS = 0.05, 200, 0.5, 100


class Pyramid(nn.Module):
  """Makes P3 to P7 from C3 to C5; layers are stored from the top down."""

  def __init__(self):
    super().__init__()
    self.lat_layers = nn.ModuleList(
      nn.Conv2d(c, CHANNELS, 1) for c in (2048, 1024, 512)
    )
    self.pred_layers = nn.ModuleList(
      nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(3)
    )
    self.downsample_layers = nn.ModuleList(
      nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1) for _ in range(2)
    )

  def forward(self, features: list[Tensor]) -> list[Tensor]:
    """Returns the maps, the finest first."""
    x, maps = None, []
    layers = zip(self.lat_layers, self.pred_layers, strict=True)
    for (lateral, predict), feature in zip(layers, features[::-1], strict=True):
      found = lateral(feature)
      if x is not None:
        size = feature.shape[2:]
        found = found + F.interpolate(
          x, size=size, mode="bilinear", align_corners=False
        )
      x = found
      maps.insert(0, F.relu(predict(x)))
    for layer in self.downsample_layers:
      maps.append(layer(maps[-1]))
    return maps


class Head(nn.Module):
  """Classes, boxes and coefficients, shared by the levels."""

  def __init__(self):
    super().__init__()
    number = len(RATIOS)

    def conv(outputs):
      return nn.Conv2d(CHANNELS, outputs, 3, padding=1)

    self.upfeature = nn.Sequential(conv(CHANNELS), nn.ReLU())
    self.bbox_layer = conv(4 * number)
    self.conf_layer = conv((NUM_CLASSES + 1) * number)
    self.mask_layer = conv(PROTOS * number)

  def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the predictions of the priors of one level."""
    x = self.upfeature(x)
    maps = self.conf_layer(x), self.bbox_layer(x), self.mask_layer(x).tanh()
    logits, codes, coefficients = (
      y.permute(0, 2, 3, 1).reshape(len(y), -1, y.shape[1] // len(RATIOS))
      for y in maps
    )
    return logits, codes, coefficients


class Yolact(nn.Module):
  """The network."""

  def __init__(self):
    super().__init__()
    self.backbone = ResNet50()
    self.fpn = Pyramid()

    def conv():
      return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()

    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    self.proto_net = nn.Sequential(
      *conv(), *conv(), *conv(), up, nn.ReLU(), *conv(),
      nn.Conv2d(CHANNELS, PROTOS, 1),
    )  # fmt: skip
    self.prediction_layers = nn.ModuleList([Head()])
    self.semantic_seg_conv = nn.Conv2d(CHANNELS, NUM_CLASSES, 1)

  def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns logits, codes, coefficients of all priors and the prototypes."""
    maps = self.fpn(self.backbone(x)[1:])
    prototypes = F.relu(self.proto_net(maps[0])).permute(0, 2, 3, 1)
    levels = [self.prediction_layers[0](level) for level in maps]
    return *(torch.cat(x, 1) for x in zip(*levels, strict=True)), prototypes


def make_priors() -> Tensor:
  """Returns cx, cy, w, h as fractions of the input; all priors are squares."""
  rows, size = [], SIDE
  for _ in range(2):
    size = math.ceil(size / 2)
  for scale in SCALES:
    size = math.ceil(size / 2)
    axes = [(torch.arange(size) + 0.5) / size] * 2
    y, x = torch.meshgrid(*axes, indexing="ij")
    sides = [scale * math.sqrt(ratio) / SIDE for ratio in RATIOS]
    sides = torch.tensor(sides).expand(size, size, len(RATIOS))
    x, y = (v[..., None].expand_as(sides) for v in (x, y))
    rows.append(torch.stack([x, y, sides, sides], -1).reshape(-1, 4))
  return torch.cat(rows)


def decode(
  logits: Tensor, codes: Tensor, coefficients: Tensor, prototypes: Tensor,
  priors: Tensor, original_size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
  """Returns scores, labels, boxes and masks of one image at its own size."""
  scores = logits.softmax(-1)[:, 1:].T
  kept = scores.max(0).values > MIN_SCORE
  scores = scores[:, kept]
  codes, priors, coefficients = codes[kept], priors[kept], coefficients[kept]
  centers = priors[:, :2] + codes[:, :2] * 0.1 * priors[:, 2:]
  sides = priors[:, 2:] * torch.exp(codes[:, 2:] * 0.2)
  boxes = torch.cat([centers - sides / 2, centers + sides / 2], 1)

  scores, order = scores.sort(1, descending=True)
  scores, order = scores[:, :TOP_K], order[:, :TOP_K]
  found = boxes[order]
  low = torch.maximum(found[:, :, None, :2], found[:, None, :, :2])
  high = torch.minimum(found[:, :, None, 2:], found[:, None, :, 2:])
  shared = (high - low).clamp(min=0).prod(-1)
  areas = (found[..., 2:] - found[..., :2]).prod(-1)
  iou = shared / (areas[:, :, None] + areas[:, None] - shared)
  free = iou.triu(1).max(1).values <= OVERLAP
  labels = torch.arange(NUM_CLASSES)[:, None].expand_as(free)[free]
  scores, order = scores[free], order[free]
  scores, best = scores.sort(descending=True)
  best, scores = best[:MAX_DETECTIONS], scores[:MAX_DETECTIONS]
  labels, order = labels[best], order[best]
  boxes = boxes[order]

  masks = (prototypes @ coefficients[order].T).sigmoid()
  height, width = masks.shape[:2]
  limit = torch.tensor([width, height] * 2)
  left, top, right, bottom = (boxes * limit).T
  x, y = torch.arange(width)[:, None], torch.arange(height)[:, None]
  columns = (x >= (left - 1).clamp(min=0)) & (x < right + 1)
  rows = (y >= (top - 1).clamp(min=0)) & (y < bottom + 1)
  masks = masks * (rows[:, None] & columns[None])
  masks = F.interpolate(
    masks.permute(2, 0, 1)[None],
    original_size,
    mode="bilinear",
    align_corners=False,
  )[0]
  return scores, labels, boxes, masks > 0.5
