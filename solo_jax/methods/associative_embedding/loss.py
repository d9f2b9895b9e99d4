"""The associative embedding loss: classes, instances, seeds and quality.

Shape letters: B images, N instances, Q pixels (h * w, flattened), K classes, T
tag dimensions.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses import discriminative, pull_push, spatial_embedding
from solo_jax.losses.cross_entropy import sigmoid_cross_entropy
from solo_jax.losses.instance_means import instance_means
from solo_jax.losses.instance_sum import instance_sum
from solo_jax.methods.associative_embedding.network import Outputs
from solo_jax.methods.associative_embedding.targets import Targets, make_targets
from solo_jax.methods.device_counts import count_everywhere

# Margins of https://arxiv.org/abs/1708.02551; a radius of DISTANCE_MARGIN is
# half the distance that the loss keeps between instances.
VARIANCE_MARGIN, DISTANCE_MARGIN = 0.5, 1.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossSettings:
  """The losses and their weights.

  Attributes:
    embedding_loss: 'pull_push', 'discriminative' or 'spatial'.
    mask_loss: 'dice' or 'lovasz', for 'spatial'.
    foreground_weight: Weight of the cross-entropy of foreground and background.
    category_weight: Weight of the cross-entropy of the classes of instances.
    pull_weight: Weight of pulling tags to their mean.
    push_weight: Weight of pushing means apart.
    norm_weight: Weight of the norms of the means, for 'discriminative'.
    mask_weight: Weight of the mask loss, for 'spatial'.
    spread_weight: Weight of the bandwidth's spread, for 'spatial'.
    seed_weight: Weight of the seed map.
    quality_weight: Weight of the predicted IoU.
  """

  embedding_loss: str
  mask_loss: str
  foreground_weight: float
  category_weight: float
  pull_weight: float
  push_weight: float
  norm_weight: float
  mask_weight: float
  spread_weight: float
  seed_weight: float
  quality_weight: float


def associative_embedding_loss(
  outputs: Outputs,
  batch: types.Batch,
  settings: LossSettings,
  *,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a batch.

  Pixel losses are means over pixels, instance losses over instances, pushes
  over images, all over the batch on all devices. Terms are weighted.

  Args:
    outputs: Network outputs.
    batch: The batch; images with `image_valid` False are ignored.
    settings: See `LossSettings`.
    axis_name: Name of the mapped device axis; None on a single device.

  Returns:
    The loss, [] float32, and its terms: foreground_loss, category_loss,
    embedding_loss, seed_loss and quality_loss; mask_iou, the mean IoU of the
    true instances' masks; and the count instances_dropped of this device's
    batch.

  Raises:
    ValueError: If a loss of the settings is unknown.
  """
  height, width = outputs.seed_logits.shape[1:3]
  targets = make_targets(batch, (height, width))
  outputs = outputs.flatten()
  num_pixels, num_instances, num_images = (
    count_everywhere(jnp.sum(x), axis_name)
    for x in (targets.pixel_valid, targets.valid, batch.image_valid)
  )

  foreground = foreground_probs(outputs.category_logits)  # [B, Q]
  foreground = jnp.where(targets.pixel_valid, foreground, 0.0)
  means, size = instance_means(
    jnp.concatenate(
      [outputs.embedding, outputs.log_precision[..., None]], axis=-1
    ),
    targets.masks,
    targets.valid,
  )
  centers, precision = means[..., :-1], means[..., -1]  # [B, N, T], [B, N]
  instance_loss, iou = instance_losses(
    outputs, foreground, (centers, precision), targets, settings
  )
  push_loss = jnp.sum(
    jax.vmap(functools.partial(push_losses, settings))(centers, targets.valid)
  )

  pixel_loss, class_loss = category_losses(
    outputs.category_logits, size, targets
  )
  seed, quality = score_losses(outputs, centers, precision, iou, targets)
  terms = dict(
    foreground_loss=settings.foreground_weight * pixel_loss / num_pixels,
    category_loss=settings.category_weight * class_loss / num_instances,
    embedding_loss=jnp.sum(instance_loss) / num_instances
    + push_loss / num_images,
    seed_loss=settings.seed_weight * seed / num_pixels,
    quality_loss=settings.quality_weight * quality / num_pixels,
  )
  loss = sum(terms.values())
  terms |= dict(
    mask_iou=jnp.sum(iou) / num_instances,
    instances_dropped=jnp.sum(batch.num_dropped),
  )
  return loss, terms


def foreground_probs(category_logits: jax.Array) -> jax.Array:
  """Returns the sum over classes of a softmax with a background of logit 0.

  Args:
    category_logits: [..., K] float.

  Returns:
    [...] float32.
  """
  return jax.nn.sigmoid(jax.nn.logsumexp(category_logits, axis=-1))


def category_losses(
  logits: jax.Array, size: jax.Array, targets: Targets
) -> tuple[jax.Array, jax.Array]:
  """Returns the sums of the class map's losses.

  Foreground against background is a loss per pixel. The class, given
  foreground, is a loss per instance, the mean over its pixels: otherwise large
  instances would outweigh small ones, which count the same in average
  precision.

  Args:
    logits: [B, Q, K] float.
    size: Pixels of each instance. [B, N] float.
    targets: The targets.

  Returns:
    Cross-entropies summed over pixels and over instances, [] float32.
  """
  log_sum = jax.nn.logsumexp(logits, axis=-1)  # logit of the foreground
  pixel = sigmoid_cross_entropy(log_sum, targets.foreground)
  label = jnp.take_along_axis(logits, targets.label[..., None], axis=-1)
  share = jnp.take_along_axis(size, targets.owner, axis=1)
  share = targets.foreground / jnp.maximum(share, 1e-6)
  instance = share * (log_sum - label[..., 0])
  return (
    jnp.sum(jnp.where(targets.pixel_valid, pixel, 0.0)),
    jnp.sum(jnp.where(targets.pixel_valid, instance, 0.0)),
  )


def push_losses(
  settings: LossSettings, means: jax.Array, valid: jax.Array
) -> jax.Array:
  """Returns what pushes the instances of one image apart.

  Args:
    settings: See `LossSettings`.
    means: Mean embeddings. [N, T] float32.
    valid: [N] bool.

  Returns:
    The weighted loss, 0 for 'spatial'. [] float32.
  """
  if settings.embedding_loss == "pull_push":
    return settings.push_weight * pull_push.push_loss(means, valid)
  if settings.embedding_loss == "discriminative":
    distance = discriminative.distance_loss(
      means, valid, margin=DISTANCE_MARGIN
    )
    norm = discriminative.regularization_loss(means, valid)
    return settings.push_weight * distance + settings.norm_weight * norm
  return jnp.zeros(())


def instance_losses(
  outputs: Outputs,
  foreground: jax.Array,
  centers: tuple[jax.Array, jax.Array],
  targets: Targets,
  settings: LossSettings,
) -> tuple[jax.Array, jax.Array]:
  """Returns the summed loss of each instance that depends only on its own row.

  Args:
    outputs: Maps flattened to [B, Q, ...].
    foreground: Probability that a pixel is foreground. [B, Q] float32.
    centers: Mean embedding [B, N, T] and mean log precision [B, N].
    targets: The targets.
    settings: See `LossSettings`.

  Returns:
    Weighted sum of each image, [B], and IoU of each instance, [B, N], float32.

  Raises:
    ValueError: If a loss of the settings is unknown.
  """

  def spatial(pixels, rows, masks):
    foreground, embedding, log_precision = pixels
    weights = masks.unpack_flat()
    probs = foreground[None] * spatial_embedding.membership(embedding, *rows)
    loss, iou = spatial_embedding.mask_loss(
      probs, weights, kind=settings.mask_loss
    )
    spread = spatial_embedding.spread_loss(log_precision, rows[1], weights)
    return settings.mask_weight * loss + settings.spread_weight * spread, iou

  def tags(pull, pixels, rows, masks):
    foreground, embedding, _ = pixels
    weights = masks.unpack_flat()
    probs = foreground[None] * spatial_embedding.membership(embedding, *rows)
    iou = spatial_embedding.jaccard(probs, weights)
    return settings.pull_weight * pull(embedding, rows[0], weights), iou

  known = {
    "spatial": spatial,
    "pull_push": functools.partial(tags, pull_push.pull_loss),
    "discriminative": functools.partial(
      tags,
      functools.partial(discriminative.variance_loss, margin=VARIANCE_MARGIN),
    ),
  }
  kind = settings.embedding_loss
  if kind not in known:
    raise ValueError(
      f"embedding_loss must be one of {tuple(known)}, not {kind!r}"
    )
  pixels = foreground, outputs.embedding, outputs.log_precision
  own = jnp.broadcast_to(
    jnp.arange(targets.valid.shape[1]), targets.valid.shape
  )
  return instance_sum(
    known[kind], pixels, centers, targets.masks, own, targets.valid
  )


def score_losses(
  outputs: Outputs,
  centers: jax.Array,
  precision: jax.Array,
  iou: jax.Array,
  targets: Targets,
) -> tuple[jax.Array, jax.Array]:
  """Returns the summed losses of seed and quality, which train only the scores.

  A seed learns the membership of the pixel in its own instance (0 in the
  background), a foreground pixel's quality the IoU of its instance's mask.

  Args:
    outputs: Maps flattened to [B, Q, ...].
    centers: [B, N, T] float.
    precision: Logarithms. [B, N] float.
    iou: [B, N] float.
    targets: The targets.

  Returns:
    Binary cross-entropies of seed and quality summed over pixels, [] float32.
  """
  own = jax.vmap(lambda rows, owner: rows[owner])
  center = own(centers, targets.owner)  # [B, Q, T]
  distance = jnp.sum((outputs.embedding - center) ** 2, axis=-1)
  distance *= jnp.exp(own(precision, targets.owner))
  member = jax.nn.sigmoid(spatial_embedding.SHARPNESS * (1 - distance))
  seed_target = jax.lax.stop_gradient(member) * targets.foreground
  seed = sigmoid_cross_entropy(outputs.seed_logits, seed_target)
  quality = sigmoid_cross_entropy(
    outputs.quality_logits, own(iou, targets.owner)
  )
  quality *= targets.foreground
  return (
    jnp.sum(jnp.where(targets.pixel_valid, seed, 0.0)),
    jnp.sum(jnp.where(targets.pixel_valid, quality, 0.0)),
  )
