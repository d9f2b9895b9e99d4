"""Tests of solo_jax/inference/predictor.py."""

import concurrent.futures
import dataclasses
import os
import subprocess
import sys
import threading
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import types
from solo_jax.errors import UserError
from solo_jax.inference.predictor import Model, Predictor
from solo_jax.methods.interface import Method
from solo_jax.methods.variants import to_frame

PREPROCESSING = dict(
  mean=(0, 0, 0),
  std=(1, 1, 1),
  channel_order="rgb",
  short_side=32,
  max_side=48,
  keep_aspect=True,
  size_rounding="nearest",
  pad_multiple=16,
  interpolation="bilinear",
  tile_size=None,
  tile_overlap=0,
)


class ColorNetwork(nn.Module):
  """Three 'instances' per image: its red, green and blue pixels."""

  @nn.compact
  def __call__(self, image, image_size, *, train):
    gain = self.param("gain", nn.initializers.ones, ())
    return gain * nn.avg_pool(image / 255.0, (2, 2), (2, 2))


def decode_colors(outputs, image_size):
  """Scores a colour by the largest probability of the *valid* image."""
  mask_probs = jnp.moveaxis(outputs, 3, 1)  # [B, 3, h, w]
  rows = jnp.arange(mask_probs.shape[2]) * 2
  inside = rows[:, None] < image_size[:, 0, None, None]
  scores = jnp.max(jnp.where(inside[:, None], mask_probs, 0.0), (2, 3))
  scores, order = jax.lax.top_k(scores, 3)
  return types.Decoded(
    masks=types.FrameMasks(
      probs=jnp.take_along_axis(mask_probs, order[..., None, None], 1)
    ),
    scores=jnp.where(scores > 0.4, scores, 0.0),
    labels=order,
    valid=scores > 0.4,
    num_dropped=jnp.sum(scores <= 0.4, 1),
  )


def merge_colors(variants):
  """Averages the colours of all variants in the frame of the first."""
  frame = variants[0]

  def bring(variant):
    def of_image(maps, variant, frame):
      maps = to_frame(
        jnp.moveaxis(maps, -1, 0), variant, frame, outputs.shape[1:3]
      )
      return jnp.moveaxis(maps, 0, -1)

    sizes_only = [
      dataclasses.replace(x, outputs=None) for x in (variant, frame)
    ]
    return jax.vmap(of_image)(variant.outputs, *sizes_only)

  outputs = frame.outputs
  average = sum(map(bring, variants)) / len(variants)
  return decode_colors(average, frame.image_size)


def make_predictor(
  batch_size=1, views=None, scales=(1.0,), flip=False, devices=None, **overrides
):
  method = Method(
    network=ColorNetwork(),
    loss=None,
    decode=decode_colors,
    merge=merge_colors,
    views=views,
  )
  model = Model(
    method=method,
    variables={"params": {"gain": np.float32(1)}},
    preprocessing=PREPROCESSING | overrides,
    mask_threshold=0.5,
  )
  return Predictor(
    model,
    batch_size=batch_size,
    scales=scales,
    flip=flip,
    devices=devices,
  )


def scene(height, width, seed=0):
  """A red and, fainter, a green rectangle on black, and their masks."""
  rng = np.random.default_rng(seed)
  image = np.zeros((height, width, 3), np.uint8)
  for channel, level in ((0, 255), (1, 220)):
    top, left = rng.integers(1, height // 2), rng.integers(1, width // 2)
    image[top : top + height // 2, left : left + width // 2, channel] = level
  return image, image[..., :2].transpose(2, 0, 1) > 0


SIZES = ((32, 48), (40, 47), (90, 61))


def iou(a, b):
  return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize(
  "size", [(32, 48), (64, 96), (20, 24), (90, 61), (301, 120)]
)
def test_finds_rectangles_at_the_original_size(size):
  image, masks = scene(*size)
  found = make_predictor()(image)
  np.testing.assert_array_equal(found.labels, [0, 1])
  np.testing.assert_allclose(found.scores, [1, 220 / 255], rtol=1e-5)
  assert found.masks.shape == (2, *size)
  for i in range(2):
    assert iou(found.masks[i], masks[i]) > 0.8
    rows, columns = np.nonzero(found.masks[i])
    np.testing.assert_array_equal(
      found.boxes_xyxy[i],
      [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1],
    )


def test_exact_where_nothing_is_resized():
  image = np.zeros((32, 48, 3), np.uint8)
  image[8:20, 10:30, 2] = 255
  found = make_predictor()(image)
  np.testing.assert_array_equal(found.masks[0], image[..., 2] > 0)
  np.testing.assert_array_equal(found.boxes_xyxy[0], [10, 8, 30, 20])


def test_any_batch_size_gives_the_same_in_order():
  sizes = [(32, 48), (48, 32), (30, 48), (64, 96), (31, 31), (96, 64), (9, 70)]
  images = [scene(*size, seed=i)[0] for i, size in enumerate(sizes)]
  single = make_predictor()
  expected = [single(image) for image in images]
  for batch_size in (2, 4):
    found = make_predictor(batch_size).predict(images)
    for a, b in zip(found, expected, strict=True):
      np.testing.assert_array_equal(a.masks, b.masks)
      np.testing.assert_array_equal(a.scores, b.scores)
      np.testing.assert_array_equal(a.labels, b.labels)
      np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)


def test_what_is_seen_at_other_sizes_and_mirrored_is_in_place():
  """Of images of odd shapes, in batches; each rectangle as without."""
  images = [scene(*size, seed=i)[0] for i, size in enumerate(SIZES)]
  expected = make_predictor().predict(images)
  augmented = make_predictor(2, scales=(1.0, 2.0, 1.5), flip=True)
  for found, alone in zip(augmented.predict(images), expected, strict=True):
    np.testing.assert_array_equal(found.labels, alone.labels)
    np.testing.assert_allclose(found.scores, alone.scores, atol=0.02)
    for mask, other in zip(found.masks, alone.masks, strict=True):
      assert iou(mask, other) > 0.9
  # Shapes of the first scale decide nothing alone: programs are of all three.
  assert augmented.num_compiled <= len(SIZES)


def test_augmentation_is_refused_where_it_has_no_meaning():
  for scales in ((), (1.0, 0.0), (-1.0,)):
    with pytest.raises(UserError, match="scales must be positive factors"):
      make_predictor(scales=scales)
  method = Method(
    network=ColorNetwork(), loss=None, decode=decode_colors, name="colors"
  )
  model = Model(
    method=method, variables={}, preprocessing=PREPROCESSING, mask_threshold=0.5
  )
  for options in (dict(flip=True), dict(scales=(1.0, 2.0))):
    with pytest.raises(UserError, match="'colors', as .* no test-time augm"):
      Predictor(model, **options)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_any_number_of_devices_gives_the_same(batch_size, tmp_path):
  """Eight devices with short batches of several shapes; each image once."""
  images = many_shapes(21, seed=3)
  out = tmp_path / "found.npz"
  program = f"""
import runpy, numpy as np, jax
test = runpy.run_path({__file__!r})
predictor = test["make_predictor"]({batch_size}, devices=jax.local_devices())
found = predictor.predict(test["many_shapes"](21, seed=3))
np.savez({str(out)!r}, num_compiled=predictor.num_compiled,
         num_dropped=predictor.num_dropped, num_devices=jax.device_count(),
         **{{f"{{name}}{{i}}": value for i, x in enumerate(found)
            for name, value in (("masks", x.masks), ("scores", x.scores))}})
"""
  flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
  subprocess.run(
    [sys.executable, "-c", program],
    env=os.environ | {"XLA_FLAGS": flags},
    check=True,
  )
  alone = make_predictor(batch_size)
  with np.load(out) as found:
    for i, expected in enumerate(alone.predict(images)):
      np.testing.assert_array_equal(found[f"masks{i}"], expected.masks)
      np.testing.assert_array_equal(found[f"scores{i}"], expected.scores)
    assert found["num_devices"] == 8
    assert found["num_compiled"] == alone.num_compiled == 3
    assert found["num_dropped"] == alone.num_dropped == 21


def many_shapes(num, seed):
  rng = np.random.default_rng(seed)
  return [
    scene(*(int(side) for side in rng.integers(20, 120, 2)), seed=i)[0]
    for i in range(num)
  ]


def test_few_images_wait_whatever_their_shapes():
  """As many shapes as there are would fill the memory with waiting images."""
  images = many_shapes(60, seed=0)
  predictor = make_predictor(batch_size=4, pad_multiple=2)
  assert len({predictor.padded_size(x.shape[:2]) for x in images}) > 20

  def find_nothing(variables, images, image_sizes):
    (image,) = images
    return types.Decoded(
      masks=types.FrameMasks(
        probs=np.zeros((4, 0, image.shape[1] // 2, image.shape[2] // 2))
      ),
      scores=np.zeros((4, 0)),
      labels=np.zeros((4, 0), np.int32),
      valid=np.zeros((4, 0), bool),
      num_dropped=np.zeros(4, np.int32),
    )

  predictor._detect = find_nothing  # compiles nothing
  taken = done = most = 0

  def count():
    nonlocal taken
    for image in images:
      taken += 1
      yield image

  for _ in predictor.stream(count()):
    most = max(most, taken - done)
    done += 1
  assert done == 60
  assert most <= (4 + 2) * 4  # waiting, and two batches under way


def test_results_and_programs_do_not_depend_on_the_order():
  images = many_shapes(24, seed=1)
  order = np.random.default_rng(2).permutation(24)
  first, second = make_predictor(batch_size=2), make_predictor(batch_size=2)
  expected = first.predict(images)
  found = second.predict([images[i] for i in order])
  for i, result in zip(order, found, strict=True):
    np.testing.assert_array_equal(result.masks, expected[i].masks)
    np.testing.assert_array_equal(result.scores, expected[i].scores)
  shapes = {first.padded_size(x.shape[:2]) for x in images}
  assert first.num_compiled == second.num_compiled == len(shapes)


def test_one_program_a_padded_shape():
  predictor = make_predictor(batch_size=2)
  # Network inputs of 32x48, 32x48, 32x48 (31 padded), 48x32 and 32x32.
  sizes = [(32, 48), (64, 96), (62, 96), (48, 32), (40, 40)]
  for _ in range(2):
    predictor.predict([scene(*size)[0] for size in sizes])
  assert predictor.num_compiled == 3


def test_threads_share_a_predictor():
  """Each gets its own results; shapes and counts are those of one thread."""
  sizes = [(32, 48), (48, 32), (40, 40)] * 8
  images = [scene(*size, seed=i)[0] for i, size in enumerate(sizes)]
  alone, shared = make_predictor(), make_predictor()
  expected = alone.predict(images)
  start, running = threading.Barrier(8), []
  run = shared._detect

  def run_alone(*inputs):
    assert not running, "two threads start the network at once"
    running.append(True)
    time.sleep(0.001)  # lets the others try
    outputs = run(*inputs)
    running.clear()
    return outputs

  shared._detect = run_alone

  def detect(part):
    start.wait()
    return [shared(images[i]) for i in range(part, len(images), 8)]

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    parts = list(pool.map(detect, range(8)))
  for i, one in enumerate(expected):
    found = parts[i % 8][i // 8]
    np.testing.assert_array_equal(found.masks, one.masks)
    np.testing.assert_array_equal(found.scores, one.scores)
  assert shared.num_compiled == alone.num_compiled == 3
  assert shared.num_dropped == alone.num_dropped == len(images)


def test_new_variables_are_used_without_compiling():
  predictor = make_predictor()
  image, _ = scene(32, 48)
  assert len(predictor(image)) == 2
  predictor.variables = jax.tree.map(lambda x: 0 * x, predictor.variables)
  assert len(predictor(image)) == 0
  assert predictor.num_compiled == 1


def test_counts_dropped_candidates_of_real_images_only():
  predictor = make_predictor(batch_size=4)
  predictor.predict([scene(32, 48)[0], np.zeros((32, 48, 3), np.uint8)])
  assert predictor.num_dropped == 1 + 3


def test_nothing_found_and_no_images():
  found = make_predictor()(np.zeros((50, 60, 3), np.uint8))
  assert len(found) == 0 and found.masks.shape == (0, 50, 60)
  assert make_predictor().predict([]) == []


def test_stream_holds_few_images():
  taken = 0

  def images():
    nonlocal taken
    for _ in range(10):
      taken += 1
      yield scene(32, 48)[0]

  stream = make_predictor(batch_size=2).stream(images())
  assert next(stream)[0] == 0
  assert taken == 4  # one batch finished, one running


def test_grey_alpha_and_16_bit():
  grey = np.zeros((32, 48), np.uint8)
  grey[8:20, 10:30] = 255
  predictor = make_predictor()
  with_alpha = np.dstack([grey, grey, grey, np.full_like(grey, 9)])
  for image in (grey, grey[..., None], with_alpha, grey.astype(np.uint16) * 16):
    found = predictor(image)
    assert len(found) == 3
    np.testing.assert_array_equal(found.masks[0], grey > 0)


def test_extreme_shapes():
  for size in ((1, 1), (1, 400), (500, 2)):
    found = make_predictor()(np.full((*size, 3), 255, np.uint8))
    assert found.masks.shape == (3, *size) and len(found.boxes_xyxy) == 3


def test_views_have_the_size_of_the_image():
  def views(outputs, image_size):
    assert image_size.shape == (1, 2)
    return {"pixels": outputs}

  # 64 x 80 to 32 x 40, padded to 32 x 48, and back: the padding is cut off,
  # and reaches no further than between two cells.
  image = np.zeros((64, 80, 3), np.uint8)
  image[:, 40:] = 200
  predictor = make_predictor(views=views)
  assert predictor.has_views
  view = predictor.views(image)["pixels"]
  assert view.shape == image.shape
  np.testing.assert_array_equal(view[:, :34], image[:, :34])
  np.testing.assert_array_equal(view[:, 46:76], image[:, 46:76])


def test_methods_without_views():
  predictor = make_predictor()
  assert not predictor.has_views
  with pytest.raises(UserError, match="no views of its network's maps"):
    predictor.views(np.zeros((8, 8, 3), np.uint8))
