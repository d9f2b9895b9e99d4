"""Augments samples by the usual recipe, from flat settings."""

from solo_jax.data import augmentations


def recipe(
  *,
  short_sides=(),
  max_side=0,
  scale_jitter=None,
  jitter_reference="fit",
  flip=0.0,
  vertical_flip=0.0,
  transpose=0.0,
  color_jitter=0.0,
):
  """The list that orients, resizes and changes colours."""
  orient = dict(flip=flip, vertical_flip=vertical_flip, transpose=transpose)
  if scale_jitter is None:
    sizes = dict(short_sides=short_sides, max_side=max_side)
    stages = [("orient", orient), ("resize_short_side", sizes)]
  else:
    jitter = dict(factor=scale_jitter, reference=jitter_reference)
    stages = [("orient", orient), ("scale_jitter", jitter)]
  if color_jitter:
    stages.append(("color_jitter", dict(strength=color_jitter)))
  return tuple(stages)


def augment(sample, rng, *, image_size, **settings):
  return augmentations.build(recipe(**settings), image_size)(sample, rng)
