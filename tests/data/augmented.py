"""Augments samples as the flat settings of a config ask for."""

from solo_jax.data import augmentations


def augment(sample, rng, **settings):
  stages = augmentations.from_settings(settings)
  return augmentations.build(stages, settings["image_size"])(sample, rng)
