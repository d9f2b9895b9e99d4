"""The PointRend network (https://arxiv.org/abs/1912.08193) for instances.

Shape letters: B images, R boxes per image, M detections, P points per box,
K classes, C channels.
"""

import jax
import jax.numpy as jnp

from solo_jax.methods.mask_rcnn.network import Outputs
from solo_jax.methods.point_rend.heads import (
  COARSE_SIZE,
  CoarseHead,
  PointHead,
)
from solo_jax.methods.point_rend.subdivision import Subdivision, subdivide
from solo_jax.methods.regions.anchors import STRIDES
from solo_jax.methods.regions.network import Features, RegionNetwork
from solo_jax.methods.regions.points import grid_points, points_in_boxes
from solo_jax.nn.bilinear import sample_points

COARSE_DENSE = 2
POINT_DENSE = 3


class PointRend(RegionNetwork, kw_only=True):
  """The network on a given backbone.

  Attributes:
    subdivision: Subdivision of masks in inference.
  """

  subdivision: Subdivision

  def setup(self):  # noqa: D102
    super().setup()
    self.coarse = CoarseHead(
      num_classes=self.num_classes,
      conv_channels=self.fpn_channels,
      dense_channels=self.dense_channels,
      num_dense=COARSE_DENSE,
      dtype=self.dtype,
    )
    self.points = PointHead(
      num_classes=self.num_classes,
      channels=self.fpn_channels,
      num_dense=POINT_DENSE,
      dtype=self.dtype,
    )

  def coarse_logits(self, features: Features, boxes: jax.Array) -> jax.Array:
    """Returns coarse masks of all classes.

    Args:
      features: Features of the images.
      boxes: [B, R, 4] float32.

    Returns:
      [B, R, 7, 7, K] float32.
    """
    batch, num_boxes = boxes.shape[:2]
    side = 2 * COARSE_SIZE
    points = jnp.broadcast_to(
      grid_points(side, side), (batch, num_boxes, side * side, 2)
    )
    x = self.fine_features(features, boxes, points)
    logits = self.coarse(x.reshape(batch * num_boxes, side, side, -1))
    return logits.reshape(batch, num_boxes, *logits.shape[1:])

  def fine_features(
    self, features: Features, boxes: jax.Array, points: jax.Array
  ) -> jax.Array:
    """Returns P2 at points of boxes, 0 beyond the padded map.

    Args:
      features: Features of the images.
      boxes: [B, R, 4] float32.
      points: (x, y) in [0, 1] of the box. [B, R, P, 2] float32.

    Returns:
      [B, R, P, C] float.
    """
    places = points_in_boxes(boxes, points) / STRIDES[0]
    shape = places.shape[:-1]
    places = places.reshape(shape[0], -1, 2)
    fine = jax.vmap(sample_points)(features.pyramid[0], places)
    return fine.reshape(*shape, -1)

  def point_logits(
    self,
    features: Features,
    boxes: jax.Array,
    coarse: jax.Array,
    points: jax.Array,
  ) -> jax.Array:
    """Returns masks of all classes at points of boxes.

    Args:
      features: Features of the images.
      boxes: [B, R, 4] float32.
      coarse: Coarse masks. [B, R, 7, 7, K] float32.
      points: See `fine_features`.

    Returns:
      [B, R, P, K] float32.
    """
    fine = self.fine_features(features, boxes, points)
    return self.points(fine, sample_masks(coarse, points))

  def outputs(
    self, features: Features, image_size: jax.Array, *, train: bool
  ) -> Outputs:
    """Returns detections with masks."""
    found = self.detect(features, image_size, train=train)
    coarse = self.coarse_logits(features, found.boxes)
    batch, num_boxes = found.labels.shape
    # Only the map of the detected class is ever used.
    own = take_class(coarse, found.labels)
    own = own.reshape(batch * num_boxes, *own.shape[2:])

    def read_points(points):
      points = points.reshape(batch, num_boxes, *points.shape[1:])
      logits = self.point_logits(features, found.boxes, coarse, points)
      logits = take_class(logits, found.labels)
      return logits.reshape(batch * num_boxes, -1)

    refined = subdivide(own, read_points, self.subdivision)
    refined = refined.reshape(batch, num_boxes, *refined.shape[1:])
    return Outputs(detections=found, mask_probs=jax.nn.sigmoid(refined))


def sample_masks(masks: jax.Array, points: jax.Array) -> jax.Array:
  """Returns masks at points, bilinear, fading to 0 at their edges.

  Args:
    masks: [B, R, s, s, K] float.
    points: (x, y) in [0, 1]. [B, R, P, 2] float32.

  Returns:
    [B, R, P, K] float.
  """
  # By products: reads of single cells are slow on a TPU.
  size = masks.shape[2]
  centers = jnp.arange(size, dtype=points.dtype) + 0.5
  distances = jnp.abs(points[..., None] * size - centers)
  x, y = jnp.moveaxis(jnp.maximum(1 - distances, 0), -2, 0)
  weights = jax.lax.stop_gradient(y[..., :, None] * x[..., None, :])
  return jnp.einsum(
    "brpyx,bryxk->brpk", weights, masks, precision=jax.lax.Precision.HIGHEST
  )


def take_class(values: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the last axis at labels. [B, R, ..., K], [B, R] -> [B, R, ...]."""
  column = labels.reshape(*labels.shape, *[1] * (values.ndim - 2))
  return jnp.take_along_axis(values, column, axis=-1)[..., 0]
