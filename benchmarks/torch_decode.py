"""SOLOv2 decoding in PyTorch, in the order of steps that mmdetection runs.

Written from the described behaviour, to compare the CPU cost of solo_jax's
decoder with; it is not used by the package.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.inference_mode()
def decode(
  category_logits: list[Tensor],
  kernels: list[Tensor],
  mask_feature: Tensor,
  *,
  strides: tuple[int, ...],
  image_size: tuple[int, int],
  original_size: tuple[int, int],
  mask_stride: int,
  score_threshold: float,
  mask_threshold: float,
  nms_candidates: int,
  nms_sigma: float,
  update_threshold: float,
  max_detections: int,
) -> tuple[Tensor, Tensor, Tensor]:
  """Decodes one image to masks at its original size (gaussian Matrix NMS).

  Args:
    category_logits: One [1, K, S, S] per level.
    kernels: One [1, E, S, S] per level.
    mask_feature: [1, E, h, w].
    strides: Per level: masks of at most this many mask pixels are dropped.
    image_size: Valid (height, width) of the network input.
    original_size: (H0, W0).
    mask_stride: Network pixels per mask cell.
    score_threshold: See `solo_jax.methods.grid.decode`, as for the others.
    mask_threshold: A pixel above it belongs to the mask.
    nms_candidates: Masks kept for Matrix NMS.
    nms_sigma: Width of the gaussian kernel.
    update_threshold: Detections of a lower decayed score are dropped.
    max_detections: M.

  Returns:
    masks [M, H0, W0] bool, scores [M] float32 in decreasing order, labels [M]
    int64.
  """
  probs, cell_kernels, min_area = [], [], []
  for logits, kernel, stride in zip(
    category_logits, kernels, strides, strict=True
  ):
    level = logits.sigmoid()
    peaks = F.max_pool2d(level, 2, stride=1, padding=1)[..., :-1, :-1]
    level = level * (level == peaks)
    probs.append(level[0].flatten(1).T)
    cell_kernels.append(kernel[0].flatten(1).T)
    min_area.append(torch.full((probs[-1].shape[0],), float(stride)))
  probs, cell_kernels = torch.cat(probs), torch.cat(cell_kernels)

  above = probs > score_threshold
  scores = probs[above]
  cells, labels = above.nonzero(as_tuple=True)
  min_area = torch.cat(min_area)[cells]
  mask_probs = F.conv2d(mask_feature, cell_kernels[cells][:, :, None, None])
  mask_probs = mask_probs[0].sigmoid()  # [n, h, w]
  masks = mask_probs > mask_threshold
  area = masks.sum((1, 2)).float()

  large = area > min_area
  mask_probs, masks, area = mask_probs[large], masks[large], area[large]
  scores, labels = scores[large], labels[large]
  scores = scores * (mask_probs * masks).sum((1, 2)) / area  # maskness

  scores, order = scores.sort(descending=True)
  scores, order = scores[:nms_candidates], order[:nms_candidates]
  mask_probs, masks = mask_probs[order], masks[order]
  area, labels = area[order], labels[order]
  scores = matrix_nms(masks, area, scores, labels, nms_sigma)

  kept = scores >= update_threshold
  scores, mask_probs, labels = scores[kept], mask_probs[kept], labels[kept]
  scores, order = scores.sort(descending=True)
  scores, order = scores[:max_detections], order[:max_detections]
  mask_probs, labels = mask_probs[order], labels[order]

  padded_size = [mask_stride * n for n in mask_probs.shape[1:]]
  mask_probs = F.interpolate(mask_probs[None], padded_size, mode="bilinear")
  mask_probs = mask_probs[:, :, : image_size[0], : image_size[1]]
  mask_probs = F.interpolate(mask_probs, original_size, mode="bilinear")
  return mask_probs[0] > mask_threshold, scores, labels


def matrix_nms(
  masks: Tensor, area: Tensor, scores: Tensor, labels: Tensor, sigma: float
) -> Tensor:
  """Returns decayed scores [n] of masks [n, h, w], sorted by score."""
  flat = masks.flatten(1).float()
  intersection = flat @ flat.T
  union = area[:, None] + area[None, :] - intersection
  earlier = (labels[:, None] == labels[None, :]).triu(diagonal=1)
  iou = (intersection / union) * earlier
  compensation = iou.max(0).values[:, None]
  decay = torch.exp(-sigma * iou**2) / torch.exp(-sigma * compensation**2)
  return scores * decay.min(0).values
