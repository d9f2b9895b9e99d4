"""SOLOv2's losses and training step in PyTorch, in the order of mmdetection.

Written from the papers (https://arxiv.org/abs/1912.04488, section 3.3;
https://arxiv.org/abs/2003.10152) and the described behaviour, to compare the
CPU cost of solo_jax's step with; it is not used by the package.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
import torch_network
from torch import Tensor

from solo_jax import types

EPSILON = 1e-3  # of the dice loss
ALPHA, GAMMA = 0.25, 2.0


def positive_cells(
  center: np.ndarray,
  box: np.ndarray,
  num_grid: int,
  size: tuple[int, int],
  sigma: float,
) -> list[tuple[int, int]]:
  """Returns the (row, column) of the cells of an instance on a level.

  Args:
    center: Centre of mass (x, y) in pixels.
    box: (x0, y0, x1, y1) in pixels.
    num_grid: Cells per side.
    size: Padded (height, width).
    sigma: Share of the box that counts as its centre.
  """
  ranges = []
  for axis in (1, 0):  # y, x
    half = 0.5 * (box[axis + 2] - box[axis]) * sigma
    length = size[1 - axis]

    def cell(position, length=length):
      return int(position / length * num_grid)

    middle = cell(center[axis])
    first = max(0, cell(center[axis] - half), middle - 1)
    last = min(num_grid - 1, cell(center[axis] + half), middle + 1)
    ranges.append(range(first, last + 1))
  return [(row, column) for row in ranges[0] for column in ranges[1]]


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
  """Returns the summed sigmoid focal loss."""
  probs = logits.sigmoid()
  miss = (1 - probs) * targets + probs * (1 - targets)
  weight = (ALPHA * targets + (1 - ALPHA) * (1 - targets)) * miss**GAMMA
  loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
  return (loss * weight).sum()


def dice_loss(probs: Tensor, targets: Tensor) -> Tensor:
  """Returns the dice loss of each mask."""
  probs, targets = probs.flatten(1), targets.flatten(1)
  overlap = (probs * targets).sum(1)
  size = (probs * probs).sum(1) + EPSILON
  target_size = (targets * targets).sum(1) + EPSILON
  return 1 - 2 * overlap / (size + target_size)


def solov2_loss(outputs, instances: dict[str, np.ndarray], config) -> Tensor:
  """Returns the loss of one image.

  Args:
    outputs: Of `torch_network.SOLOv2`.
    instances: `centers` and `boxes_xyxy` in pixels, `labels`, and `masks`
      [N, H / 4, W / 4] float32.
    config: The whole configuration, for its loss and grids.
  """
  logits, kernels, feature = outputs
  rule = config.loss
  size = tuple(4 * n for n in feature.shape[-2:])
  targets = torch.from_numpy(instances["masks"])
  sides = instances["boxes_xyxy"][:, 2:] - instances["boxes_xyxy"][:, :2]
  scales = np.sqrt(np.maximum(sides, 0).prod(1))
  flat_logits, flat_labels, losses, num_cells = [], [], [], 0
  for level, (low, high) in enumerate(rule.scale_ranges):
    num_grid = config.network.num_grids[level]
    labels = torch.full((num_grid, num_grid), -1, dtype=torch.int64)
    cells, owners = [], []
    for i in np.flatnonzero((scales >= low) & (scales <= high)):
      box = instances["boxes_xyxy"][i]
      for cell in positive_cells(
        instances["centers"][i], box, num_grid, size, rule.center_sigma
      ):
        labels[cell] = int(instances["labels"][i])
        cells.append(cell[0] * num_grid + cell[1])
        owners.append(int(i))
    num_cells += int((labels >= 0).sum())
    flat_logits.append(logits[level][0].flatten(1).T)
    flat_labels.append(labels.flatten())
    if cells:
      kernel = kernels[level][0].flatten(1).T[cells]
      probs = F.conv2d(feature, kernel[:, :, None, None])[0].sigmoid()
      losses.append(dice_loss(probs, targets[owners]))
  flat_logits, flat_labels = torch.cat(flat_logits), torch.cat(flat_labels)
  num_classes = flat_logits.shape[1]
  one_hot = F.one_hot(flat_labels.clamp(min=0), num_classes).float()
  one_hot = one_hot * (flat_labels >= 0)[:, None]
  category = focal_loss(flat_logits, one_hot) / (num_cells + 1)
  masks = torch.cat(losses).mean()
  return rule.category_weight * category + rule.mask_weight * masks


def make_step(
  config, batch: types.Batch, weights: dict[str, np.ndarray]
) -> Callable[[], dict[str, float]]:
  """Prepares the step: forward, losses, backward, clipping, SGD.

  Args:
    config: SOLOv2 with a ResNet-50, frozen norms, first stage frozen.
    batch: One image on the host.
    weights: State of `torch_network.SOLOv2`.

  Returns:
    Takes a step and returns its loss and the norm of its gradient.
  """
  network = torch_network.SOLOv2(config.dataset.num_classes).eval()
  network.load_state_dict({k: torch.tensor(v) for k, v in weights.items()})
  backbone = network.backbone
  for module in (backbone.conv1, backbone.bn1, backbone.layer1):
    module.requires_grad_(False)
  parameters = [p for p in network.parameters() if p.requires_grad]
  rule = config.optimizer
  optimizer = torch.optim.SGD(
    parameters,
    lr=rule.learning_rate * rule.warmup_factor,  # of the first step
    momentum=rule.momentum,
    weight_decay=rule.weight_decay,
  )
  valid = batch.valid[0]
  instances = {
    name: getattr(batch, name)[0][valid]
    for name in ("centers", "boxes_xyxy", "labels")
  }
  masks = np.asarray(batch.masks.unpack(), np.float32)
  instances["masks"] = masks[0][valid]
  mean = torch.tensor(config.preprocessing.mean)[:, None, None]
  std = torch.tensor(config.preprocessing.std)[:, None, None]
  image = torch.tensor(batch.image).permute(0, 3, 1, 2)

  def take_step():
    optimizer.zero_grad(set_to_none=True)
    outputs = network((image.float() - mean) / std)
    loss = solov2_loss(outputs, instances, config)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, rule.clip_norm)
    optimizer.step()
    return {"loss": float(loss.detach()), "gradient_norm": float(norm)}

  return take_step
