"""An image of four objects and a perfect network's outputs for it."""

import functools

import jax
import numpy as np

from solo_jax.building import build_method
from solo_jax.inspection.frames import (
  inference_frames,
  make_example,
  mask_weights,
)
from solo_jax.inspection.lost_instances import to_batch
from tests.inspection.conftest import make_sample, sections

# Apart, of different classes and both levels; on whole cells of stride 8.
BOXES = [(8, 8, 24, 24), (32, 0, 64, 32), (0, 40, 16, 64), (40, 40, 56, 56)]
LABELS = [1, 0, 2, 1]
GRIDS = dict(num_grids=(8, 4))
SCALE_RANGES = ((1, 24), (20, 64))


@functools.cache
def make_setting(name, arg=""):
  """Method, batch and the true masks [n, h, w] of a config on the scene."""
  config = sections(name, arg)
  config["decode"]["max_detections"] = 8
  if "num_grids" in config["network"]:
    config["decode"] |= dict(max_candidates=64, nms_candidates=64)
    config["network"] |= GRIDS
    config["loss"]["scale_ranges"] = SCALE_RANGES
  settings = config["transforms"] | dict(max_instances=6)
  rule = config["preprocessing"] | dict(short_side=64, max_side=64)
  (frame,) = inference_frames(make_sample(BOXES, labels=LABELS), rule)
  example = make_example(frame, settings)
  return build_method(config), to_batch(example), mask_weights(example)


def assert_decoder_finds_targets(name, arg=""):
  """Checks that perfect outputs decode to exactly the targets."""
  method, batch, truth = make_setting(name, arg)

  @jax.jit
  def detect(batch):
    return method.decode(method.perfect_outputs(batch), batch.image_size)

  decoded = detect(batch)
  valid = np.asarray(decoded.valid[0]) & (np.asarray(decoded.scores[0]) > 0.5)
  labels = np.asarray(decoded.labels[0])[valid]
  masks = np.float32(np.asarray(decoded.masks.probs[0])[valid] > 0.5)
  assert sorted(labels) == sorted(LABELS)
  shared = np.einsum("mhw,nhw->mn", masks, truth)
  either = masks.sum((1, 2))[:, None] + truth.sum((1, 2))[None] - shared
  assert ((shared / either).max(0) > 0.98).all()
  best = (shared / either).argmax(0)
  np.testing.assert_array_equal(labels[best], LABELS)
  assert int(decoded.num_dropped[0]) == 0


def assert_nothing_to_improve(name, arg=""):
  """Checks that the loss of perfect outputs is next to that of none; terms."""
  method, batch, _ = make_setting(name, arg)

  @jax.jit
  def score(batch, share):
    outputs = method.perfect_outputs(batch)
    outputs = jax.tree.map(lambda x: share * x, outputs)
    # Stands for the network that was trained to put these out.
    return method.loss(lambda *_, **__: outputs, batch)

  perfect, terms = score(batch, 1.0)
  blank, _ = score(batch, 0.0)
  assert perfect < 0.05 * blank, terms
  return terms
