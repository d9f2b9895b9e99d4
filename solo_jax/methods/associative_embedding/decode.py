"""From per-pixel outputs to scored masks: grouping, membership, scores.

Shape letters: B images, Q pixels (h * w, flattened), K classes, T tag
dimensions, M detections; n: groups of all radii.
"""

import dataclasses

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.grouping.groups import Groups, Pixels
from solo_jax.grouping.matrix_nms import matrix_nms
from solo_jax.grouping.mean_shift import mean_shift
from solo_jax.grouping.seed_clustering import seed_clustering
from solo_jax.grouping.tag_histogram import tag_histogram
from solo_jax.losses.spatial_embedding import membership
from solo_jax.methods.associative_embedding.loss import foreground_probs
from solo_jax.methods.associative_embedding.network import Outputs
from solo_jax.methods.associative_embedding.targets import inside_image

# Candidates of Matrix NMS for each group: a second class for all of them.
CANDIDATES = 2
# Membership of every pixel in no group at all, against which groups compete.
NO_GROUP = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeSettings:
  """How outputs are decoded.

  Attributes:
    mask_stride: Input pixels per pixel of the maps.
    grouping: 'seed', 'histogram' or 'mean_shift'.
    foreground_threshold: Probability from which a pixel is grouped.
    seed_threshold: Probability from which a pixel can be a seed.
    radii: Factors of the radius; each gives its own groups, and Matrix NMS
      chooses among them.
    min_pixels: Smallest group.
    min_unclaimed: See `seed_clustering`.
    competing: Whether groups compete for pixels.
    score_terms: Factors of the score, any of 'category', 'membership',
      'quality' and 'seed'; none: every score is 1.
    score_threshold: Detections below are left out, before NMS.
    mask_threshold: Pixel threshold of the binary masks of NMS.
    nms_kernel: See `matrix_nms`.
    nms_sigma: See `matrix_nms`.
    update_threshold: Detections below are left out, after NMS.
    max_detections: M, and the capacity of the groups of each radius.
  """

  mask_stride: int
  grouping: str
  foreground_threshold: float
  seed_threshold: float
  radii: tuple[float, ...]
  min_pixels: int
  min_unclaimed: float
  competing: bool
  score_terms: tuple[str, ...]
  score_threshold: float
  mask_threshold: float
  nms_kernel: str
  nms_sigma: float
  update_threshold: float
  max_detections: int


def decode(
  outputs: Outputs, image_size: jax.Array, settings: DecodeSettings
) -> types.Decoded:
  """Returns the detections of a batch of outputs.

  A mask is the foreground times the membership in its group. If groups compete,
  it is also multiplied by the group's share of the memberships of all groups,
  so that foreground belongs to the nearest group if its membership is above
  about NO_GROUP. This suits objects that touch without overlapping, and
  confident seeds: a second group on an object would take half of each pixel. A
  group that is ambiguous between two classes is a detection of both, like a
  cell of SOLO.

  Args:
    outputs: Network outputs.
    image_size: Valid (height, width). [B, 2] int32.
    settings: See `DecodeSettings`.

  Returns:
    The detections; `num_dropped` is that of all groupings.
  """
  size = outputs.seed_logits.shape[1:3]
  inside = inside_image(image_size, size, settings.mask_stride)

  def decode_image(inputs):
    maps, inside = inputs
    groups = [
      group_pixels(maps, inside, radius, settings) for radius in settings.radii
    ]
    found = [
      describe_groups(
        g,
        maps,
        inside,
        competing=settings.competing,
        score_terms=settings.score_terms,
      )
      for g in groups
    ]
    probs, scores = jax.tree.map(lambda *x: jnp.concatenate(x), *found)
    num_groups, num_classes = scores.shape
    scores = jnp.where(scores >= settings.score_threshold, scores, 0.0)
    num_candidates = min(CANDIDATES, num_classes) * num_groups
    scores, order = jax.lax.top_k(scores.reshape(-1), num_candidates)
    probs, labels = probs[order // num_classes], order % num_classes
    scores = matrix_nms(
      probs > settings.mask_threshold,
      scores,
      labels,
      scores > 0,
      kernel=settings.nms_kernel,
      sigma=settings.nms_sigma,
    )
    scores = jnp.where(scores >= settings.update_threshold, scores, 0.0)
    scores, kept = jax.lax.top_k(scores, settings.max_detections)
    return types.Decoded(
      masks=types.FrameMasks(probs=probs[kept].reshape(-1, *size)),
      scores=scores,
      labels=jnp.where(scores > 0, labels[kept], 0),
      valid=scores > 0,
      num_dropped=sum(g.num_dropped for g in groups),
    )

  return jax.lax.map(decode_image, (outputs.flatten(), inside))


def group_pixels(
  maps: Outputs, inside: jax.Array, radius: float, settings: DecodeSettings
) -> Groups:
  """Returns the foreground pixels of one image, grouped.

  Args:
    maps: Outputs of one image, flattened to [Q, ...].
    inside: Pixels of the image, without padding. [Q] bool.
    radius: Factor of the radius that the maps give.
    settings: See `DecodeSettings`.

  Returns:
    The groups.

  Raises:
    ValueError: If `settings.grouping` is unknown.
  """
  foreground = foreground_probs(maps.category_logits)
  pixels = Pixels(
    embedding=maps.embedding,
    log_precision=maps.log_precision - 2 * jnp.log(radius),
    category=jnp.argmax(maps.category_logits, axis=-1),
    foreground=(foreground >= settings.foreground_threshold) & inside,
  )
  limits = dict(
    max_groups=settings.max_detections, min_pixels=settings.min_pixels
  )
  if settings.grouping == "seed":
    return seed_clustering(
      pixels,
      jax.nn.sigmoid(maps.seed_logits),
      seed_threshold=settings.seed_threshold,
      min_unclaimed=settings.min_unclaimed,
      **limits,
    )
  if settings.grouping == "histogram":
    return tag_histogram(
      pixels, num_categories=maps.category_logits.shape[-1], **limits
    )
  if settings.grouping == "mean_shift":
    return mean_shift(pixels, **limits)
  raise ValueError(
    "grouping must be 'seed', 'histogram' or 'mean_shift', not "
    f"{settings.grouping!r}"
  )


def describe_groups(
  groups: Groups,
  maps: Outputs,
  inside: jax.Array,
  *,
  competing: bool,
  score_terms: tuple[str, ...],
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the masks of groups, with scores and labels.

  Args:
    groups: Groups of one image.
    maps: Outputs of the image, flattened to [Q, ...].
    inside: Pixels of the image, without padding. [Q] bool.
    competing: See `decode`.
    score_terms: See `decode`.

  Returns:
    Mask probabilities [n, Q] and scores of every class [n, K] (0 for groups
    that are not valid), float32.

  Raises:
    ValueError: If a score term is unknown.
  """
  foreground = foreground_probs(maps.category_logits)
  foreground = jnp.where(inside, foreground, 0.0)
  member = membership(maps.embedding, groups.centers, groups.log_precision)
  member = jnp.where(groups.valid[:, None], member, 0.0)
  probs = foreground[None] * member
  if competing:
    probs /= jnp.sum(member, axis=0) + NO_GROUP
  weights = (probs > 0.5).astype(jnp.float32)
  size = jnp.sum(weights, axis=1)

  def mean(values):
    return weights @ values / jnp.maximum(size, 1.0)[:, None]  # [n, ...]

  given_foreground = jax.nn.softmax(maps.category_logits)
  category = mean(given_foreground * foreground[:, None])  # [n, K]
  of_group = jnp.sum(weights * member, axis=1, keepdims=True)
  terms = dict(
    category=category,
    membership=of_group / jnp.maximum(size, 1.0)[:, None],
    quality=mean(jax.nn.sigmoid(maps.quality_logits)[:, None]),
    seed=mean(jax.nn.sigmoid(maps.seed_logits)[:, None]),
  )
  unknown = [name for name in score_terms if name not in terms]
  if unknown:
    raise ValueError(f"score_terms has {unknown}; known: {tuple(terms)}")
  scores = jnp.ones_like(category)
  for name in score_terms:
    scores *= terms[name]
  if "category" not in score_terms:  # nothing ranks the other classes
    num_classes = category.shape[1]
    scores *= jax.nn.one_hot(jnp.argmax(category, axis=1), num_classes)
  is_group = groups.valid & (size > 0)
  return probs, jnp.where(is_group[:, None], scores, 0.0)
