"""A tiny network of regions and a batch, for tests without a fixture."""

import functools

import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.methods.mask_rcnn.network import MaskRCNN
from solo_jax.methods.regions.anchors import Anchors
from solo_jax.methods.regions.detections import DetectionSettings
from solo_jax.methods.regions.loss import ProposalLoss, StageLoss
from solo_jax.methods.regions.mask_targets import MaskTargets
from solo_jax.methods.regions.matching import Matching
from solo_jax.methods.regions.network import Features
from solo_jax.methods.regions.proposals import Selection
from solo_jax.methods.regions.pyramid import Pooling
from solo_jax.methods.regions.sampling import Sampling
from solo_jax.nn.backbones.resnet import ResNet
from tests.random_variables import random_variables

SELECTION = Selection(
  before_nms=12,
  after_nms=8,
  nms_threshold=0.7,
  min_side=0.0,
  log_clamp="above",
)
ARGUMENTS = dict(
  num_classes=2,
  fpn_channels=4,
  norm=None,
  anchors=Anchors(
    sizes=(8, 16, 32, 64, 128),
    ratios=(0.5, 1.0, 2.0),
    corners="exact",
    spacing="stride",
  ),
  proposal_convs=1,
  select_train=SELECTION,
  select_test=SELECTION,
  pooling=Pooling(
    base_size=14.0,
    base_level=0,
    ratio_epsilon=1e-6,
    log_epsilon=0.0,
    is_aligned=True,
    num_samples=1,
  ),
  box_convs=0,
  box_dense=1,
  dense_channels=8,
  dense_init="fan_in",
  pyramid_init="fan_in",
  box_classes="each",
  stage_weights=((10.0, 10.0, 5.0, 5.0),),
  stage_scores="probabilities",
  stage_gradient=1.0,
  detection=DetectionSettings(
    score_threshold=0.05, nms_threshold=0.5, max_detections=5, min_side=0.0
  ),
  mean=(127.0, 127.0, 127.0),
  std=(64.0, 64.0, 64.0),
  channel_order="rgb",
  axis_name=None,
  dtype=jnp.float32,
)


def make_network(**changed):
  backbone = ResNet(
    stage_sizes=(1, 1, 1, 1), widths=(4, 4, 4, 4), block="basic"
  )
  given = ARGUMENTS | dict(
    backbone=backbone,
    mask_convs=1,
    mask_heads="one",
    mask_flow=False,
    mask_scores="mean",
    semantic_classes=0,
    mask_init="small",
  )
  return MaskRCNN(**given | changed)


def make_variables(network, batch):
  init = functools.partial(network.init, train=False)
  return random_variables(init, batch.image, batch.image_size)


def make_features(num_images=2):
  """Random maps of a pyramid for the images of a batch."""
  rng = np.random.default_rng(1)
  return Features(
    pyramid=tuple(
      rng.normal(size=(num_images, side, side, 4)).astype(np.float32)
      for side in (16, 8, 4, 2, 1)
    )
  )


def matching(iou=0.5, **changed):
  given = dict(high=iou, low=iou, low_quality="none", lower_bound=0.0)
  return Matching(**given | changed)


def loss_settings(**stages):
  """Arguments of the loss."""
  given = dict(
    matchings=(matching(),),
    sampling=Sampling(number=8, positive_share=0.5),
    weights=(1.0,),
    beta=0.0,
    next_regions="sampled",
    mask_regions="sampled",
  )
  return dict(
    proposals=ProposalLoss(
      trained="all",
      matching=matching(high=0.7, low=0.3, low_quality="keep"),
      sampling=Sampling(number=16, positive_share=0.5),
      beta=0.0,
      divisor="sampled",
    ),
    stages=StageLoss(**given | stages),
    masks=MaskTargets(is_aligned=True, threshold=0.5),
    semantic_weight=0.2,
    axis_name=None,
  )


def make_batch(num_images=2, seed=0):
  """Two instances of an image, and a slot of padding."""
  rng = np.random.default_rng(seed)
  boxes = np.zeros((num_images, 3, 4), np.float32)
  corner = rng.uniform(2, 20, (num_images, 2, 2))
  boxes[:, :2] = np.concatenate(
    [corner, corner + rng.uniform(12, 30, corner.shape)], -1
  )
  masks = np.full((num_images, 3, 16, 16), 255, np.uint8)
  masks[:, :, :, 8:] = 0
  return types.Batch(
    image=rng.integers(0, 256, (num_images, 64, 64, 3), np.uint8),
    image_size=np.full((num_images, 2), (56, 64), np.int32),
    image_valid=np.ones(num_images, bool),
    masks=types.BoxMaskTargets(data=masks),
    centers=np.zeros((num_images, 3, 2), np.float32),
    boxes_xyxy=boxes,
    labels=rng.integers(0, 2, (num_images, 3)).astype(np.int32),
    valid=np.tile([True, True, False], (num_images, 1)),
    num_dropped=np.zeros(num_images, np.int32),
    row=np.arange(num_images, dtype=np.int32),
    semantic=rng.integers(0, 3, (num_images, 8, 8)).astype(np.uint8),
  )
