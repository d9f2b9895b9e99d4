"""Tests of solo_jax/data/augmentations.py."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from solo_jax.data import augmentations, batching, transforms
from solo_jax.errors import UserError
from tests.data.augmented import augment, recipe
from tests.data.transforms_test import make_sample

OPTIONS = dict(
  image_size=(64, 64),
  short_sides=(64,),
  max_side=64,
  scale_jitter=None,
  jitter_reference="fit",
  flip=0.0,
  vertical_flip=0.0,
  transpose=0.0,
  color_jitter=0.0,
)


def test_transforms_leave_their_input_alone():
  sample = make_sample()
  image = sample.image.copy()
  options = OPTIONS | dict(color_jitter=0.5, flip=1.0, scale_jitter=(1, 2))
  augment(sample, np.random.default_rng(0), **options)
  np.testing.assert_array_equal(sample.image, image)
  np.testing.assert_array_equal(sample.affine, np.eye(2, 3))


def test_portrait_image_is_fitted_into_a_landscape_input():
  sample = augment(
    make_sample(64, 48),
    np.random.default_rng(0),
    **OPTIONS | dict(image_size=(32, 64)),
  )
  assert sample.image_size == (32, 24)


def test_short_sides_are_all_drawn():
  options = OPTIONS | dict(short_sides=(24, 36, 48), max_side=1000)
  rng = np.random.default_rng(0)
  heights = {
    augment(make_sample(), rng, **options).image_size[0] for _ in range(40)
  }
  assert heights == {24, 36, 48}


def test_jitter_of_the_original_resolution():
  # 48 x 64 at its own scale, then a window of 32 x 40; fitted, it would have
  # been shrunk to 30 x 40.
  options = OPTIONS | dict(image_size=(32, 40), scale_jitter=(1.0, 1.0))
  rng = np.random.default_rng(0)
  out = augment(
    make_sample(), rng, **options | dict(jitter_reference="original")
  )
  assert out.image_size == (32, 40) and out.affine[0, 0] == 1
  out = augment(make_sample(), rng, **options)
  assert out.image_size == (30, 40) and out.affine[0, 0] == 0.625
  out = augment(make_sample(), rng, **options | dict(jitter_reference="short"))
  assert out.image_size == (32, 40) and out.affine[0, 0] == 43 / 64


def test_crops_are_drawn_with_their_probability_and_sizes():
  # 48 x 64 with a short side of 30 is 30 x 40; sides of windows are 20 to 35.
  stage = ("crop", dict(probability=0.5, short_sides=(30,), sides=(20, 35)))
  crop = augmentations.build([stage], (99, 99)).lazy[0]
  rng = np.random.default_rng(0)
  found = [crop(make_sample(48, 64), rng) for _ in range(400)]
  kept = [x for x in found if x.image_size == (48, 64)]
  assert 150 < len(kept) < 250
  assert all(np.array_equal(x.affine, np.eye(2, 3)) for x in kept)
  windows = [x for x in found if x.image_size != (48, 64)]
  heights, widths = zip(*(x.image_size for x in windows), strict=True)
  assert (min(heights), max(heights)) == (20, 30)
  assert (min(widths), max(widths)) == (20, 35)
  corners = np.array([-x.affine[:, 2] for x in windows])
  ends = corners + np.stack([widths, heights], axis=1)
  assert corners.min() == 0 and tuple(ends.max(axis=0)) == (40, 30)
  assert {x.affine[0, 0] for x in windows} == {0.625}


def test_equal_generators_give_equal_draws():
  options = OPTIONS | dict(
    flip=0.5, vertical_flip=0.5, transpose=0.5, scale_jitter=(0.1, 2)
  )
  first, second = (
    augment(make_sample(), np.random.default_rng(3), **options)
    for _ in range(2)
  )
  np.testing.assert_array_equal(first.affine, second.affine)


def test_probabilities_zero_and_one():
  rng = np.random.default_rng(0)
  for _ in range(20):
    out = augment(make_sample(), rng, **OPTIONS | dict(flip=1.0))
    np.testing.assert_array_equal(out.affine, [[-1, 0, 64], [0, 1, 0]])


@hypothesis.given(
  st.sampled_from([(1, 1), (1, 300), (300, 1), (48, 64), (33, 50)]),
  st.integers(0, 2**32 - 1),
  st.fixed_dictionaries(
    dict(
      image_size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
      short_sides=st.lists(st.integers(1, 200), min_size=1, max_size=2),
      max_side=st.integers(1, 200),
      scale_jitter=st.none() | st.tuples(st.floats(0.01, 1), st.floats(1, 50)),
      jitter_reference=st.sampled_from(["fit", "original"]),
      flip=st.floats(0, 1),
      vertical_flip=st.floats(0, 1),
      transpose=st.floats(0, 1),
      color_jitter=st.floats(0, 1),
    )
  ),
)
def test_any_augmentation_shows_the_image_within_the_input(size, seed, options):
  """The frame fits, is in the image, and every pixel comes from one of it."""
  rng = np.random.default_rng(seed)
  sample = make_sample(*size)
  out = augment(sample, rng, **options)
  assert min(out.image_size) >= 1
  assert (np.array(out.image_size) <= options["image_size"]).all()
  corners = np.array([[0, 0, 1], [size[1], size[0], 1]]) @ out.affine.T
  assert (corners.min(0) <= 1e-6).all()
  assert (corners.max(0) >= np.array(out.image_size[::-1]) - 1e-6).all()
  drawn = batching.render_image(
    out, image_size=options["image_size"], interpolation="area"
  )
  height, width = out.image_size
  assert not drawn[height:].any() and not drawn[:, width:].any()
  flat = dataclasses.replace(out, image=np.full_like(sample.image, 77))
  drawn = batching.render_image(
    flat, image_size=options["image_size"], interpolation="area"
  )
  assert (drawn[:height, :width] == 77).all()


def as_published_before(sample, rng, options):
  """The draws of a training image in their order, written out."""
  chances = options["flip"], options["vertical_flip"], options["transpose"]
  mirror, upend, swap = (rng.random() < chance for chance in chances)
  if swap:
    sample = transforms.transposed(sample)
  sample = transforms.flipped(sample, horizontal=mirror, vertical=upend)
  if options["scale_jitter"] is None:
    sides = options["short_sides"]
    sample = transforms.resize_to_fit(
      sample,
      short_side=sides[rng.integers(len(sides))],
      max_side=options["max_side"],
      within=options["image_size"],
    )
  else:
    sample = transforms.jitter_scale(
      sample,
      rng,
      image_size=options["image_size"],
      factor=options["scale_jitter"],
      reference=options["jitter_reference"],
    )
  if options["color_jitter"]:
    sample = transforms.jitter_color(
      sample, rng, strength=options["color_jitter"]
    )
  return sample


@pytest.mark.parametrize("jitter", [None, (0.5, 2.0)])
@pytest.mark.parametrize("color_jitter", [0.0, 0.4])
def test_an_augmentation_list_draws_as_its_transforms_do(jitter, color_jitter):
  options = OPTIONS | dict(
    short_sides=(24, 36, 48),
    scale_jitter=jitter,
    flip=0.5,
    vertical_flip=0.3,
    transpose=0.5,
    color_jitter=color_jitter,
  )
  for seed in range(12):
    found = augment(make_sample(), np.random.default_rng(seed), **options)
    expected = as_published_before(
      make_sample(), np.random.default_rng(seed), options
    )
    np.testing.assert_array_equal(found.affine, expected.affine)
    np.testing.assert_array_equal(found.image, expected.image)
    assert found.image_size == expected.image_size


def test_a_list_is_applied_in_its_order():
  """A window of 40 of 64 columns, mirrored before or after it is cut."""
  mirror = "orient", dict(flip=1.0)
  jitter = "scale_jitter", dict(factor=(1.0, 1.0), reference="original")

  def offset(*stages):
    augmentation = augmentations.build(stages, (48, 40))
    out = augmentation(make_sample(48, 64), np.random.default_rng(3))
    assert out.image_size == (48, 40) and out.affine[0, 0] == -1
    return out.affine[0, 2]

  rng = np.random.default_rng(3)
  rng.random(3)  # of the orientation
  rng.uniform(1, 1)
  left = rng.integers(0, [0, 24], endpoint=True)[1]
  assert offset(mirror, jitter) == 64 - left
  rng = np.random.default_rng(3)
  rng.uniform(1, 1)
  left = rng.integers(0, [0, 24], endpoint=True)[1]
  assert offset(jitter, mirror) == 40 + left


def test_images_that_jitter_shrinks_are_averaged():
  for jitter, expected in (((0.1, 2.0), "area"), (None, "bilinear")):
    stages = recipe(scale_jitter=jitter)
    assert augmentations.build(stages, (8, 8)).interpolation == expected


PASTE = "copy_paste", dict(probability=1.0)


@pytest.mark.parametrize(
  ("stages", "message"),
  [
    ([("mix", {})], "unknown 'mix'; known: orient, .*copy_paste, mosaic"),
    ([("color_jitter", {})], r"settings \['strength'\], not \[\]"),
    (
      [("resize_short_side", dict(short_sides=(8,), max_side=8, size=3))],
      r"'short_sides', 'size_rounding'\], not \['max_side', .*'size'\]",
    ),
    (
      [PASTE, ("color_jitter", dict(strength=0.1))],
      "'color_jitter' works on images that are not drawn.* before copy_paste",
    ),
  ],
)
def test_lists_that_cannot_be_are_refused(stages, message):
  with pytest.raises(UserError, match=message):
    augmentations.build(stages, (8, 8))


def test_sides_are_rounded_down_as_torchvision_does():
  """A side of 500 px becomes 1066.67 px where one of 375 px becomes 800 px."""
  rng = np.random.default_rng(0)
  for rounding, width in (("nearest", 1067), ("down", 1066)):
    settings = dict(short_sides=(800,), max_side=1333, size_rounding=rounding)
    build = augmentations.build([("resize_short_side", settings)], (800, 1344))
    (resize,) = build.lazy
    assert resize(make_sample(375, 500), rng).image_size == (800, width)
