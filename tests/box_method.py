"""A method that predicts boxes, each with a mask inside, of three colours."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.inference.predictor import Model
from solo_jax.methods.interface import Method
from solo_jax.methods.variants import Variant, box_masks_to_frame

CELLS = 20
PREPROCESSING = dict(
  mean=(0, 0, 0),
  std=(1, 1, 1),
  channel_order="rgb",
  short_side=64,
  max_side=96,
  keep_aspect=True,
  size_rounding="nearest",
  pad_multiple=32,
  interpolation="bilinear",
  tile_size=None,
  tile_overlap=0,
)


class ColorNetwork(nn.Module):
  """Passes on the colours and the valid part of an image."""

  @nn.compact
  def __call__(self, image, image_size, *, train):
    gain = self.param("gain", nn.initializers.ones, ())
    rows, columns = (jnp.arange(side) for side in image.shape[1:3])
    inside = (rows[:, None] < image_size[:, 0, None, None]) & (
      columns < image_size[:, 1, None, None]
    )
    return gain * image / 255.0 * inside[..., None]


def find_boxes(maps):
  """Finds the box of each colour and what is in it. Of one image.

  Args:
    maps: [H, W, 3] float32.

  Returns:
    probs [3, s, s] and boxes [3, 4].
  """

  def of_color(values):
    sides = []
    for axis in (0, 1):
      is_inside = jnp.any(values > 0.5, axis=1 - axis)
      low, length = jnp.argmax(is_inside), is_inside.shape[0]
      sides.append((low, length - jnp.argmax(is_inside[::-1])))
    (top, bottom), (left, right) = sides
    centers = (jnp.arange(CELLS) + 0.5) / CELLS
    y = (top + centers * (bottom - top)).astype(jnp.int32)
    x = (left + centers * (right - left)).astype(jnp.int32)
    box = jnp.stack([left, top, right, bottom]).astype(jnp.float32)
    return values[y][:, x], box

  return jax.vmap(of_color)(jnp.moveaxis(maps, -1, 0))


def to_decoded(probs, boxes, paste):
  scores = jnp.max(probs, (2, 3))
  scores, order = jax.lax.top_k(scores, 3)
  boxes = jnp.take_along_axis(boxes, order[..., None], 1)
  return types.Decoded(
    masks=types.BoxMasks(
      probs=jnp.take_along_axis(probs, order[..., None, None], 1),
      boxes_xyxy=boxes,
      paste=paste,
    ),
    scores=jnp.where(scores > 0.6, scores, 0.0),
    labels=order.astype(jnp.int32),
    valid=scores > 0.6,
    num_dropped=jnp.zeros(len(scores), jnp.int32),
    boxes_xyxy=boxes,
  )


def make_model(paste="aligned", **preprocessing):
  """Makes the model; `preprocessing` as in PREPROCESSING."""

  def decode(outputs, image_size):
    return to_decoded(*jax.vmap(find_boxes)(outputs), paste)

  def merge(variants):
    """Averages masks and boxes, colour by colour."""

    def bring(probs, boxes, image_size, frame_size, variant):
      def at(size, x):
        return Variant(
          outputs=None,
          image_size=size,
          padded_size=x.padded_size,
          is_mirrored=x.is_mirrored,
        )

      masks = types.BoxMasks(probs=probs, boxes_xyxy=boxes, paste=paste)
      return box_masks_to_frame(
        masks, at(image_size, variant), at(frame_size, variants[0])
      )

    found = []
    for variant in variants:
      probs, boxes = jax.vmap(find_boxes)(variant.outputs)
      found.append(
        jax.vmap(lambda *x, variant=variant: bring(*x, variant))(
          probs, boxes, variant.image_size, variants[0].image_size
        )
      )
    probs = sum(x.probs for x in found) / len(found)
    boxes = sum(x.boxes_xyxy for x in found) / len(found)
    return to_decoded(probs, boxes, paste)

  return Model(
    method=Method(
      network=ColorNetwork(), loss=None, decode=decode, merge=merge
    ),
    variables={"params": {"gain": np.float32(1)}},
    preprocessing=PREPROCESSING | preprocessing,
    mask_threshold=0.5,
    class_names=("red", "green", "blue"),
    category_ids=(3, 5, 8),
  )


@dataclasses.dataclass(frozen=True)
class Scene:
  """An image with an ellipse of each colour.

  Attributes:
    image: [height, width, 3] uint8.
    masks: [3, height, width] bool.
    boxes: (left, top, right, bottom) of each. [3, 4].
  """

  image: np.ndarray
  masks: np.ndarray
  boxes: np.ndarray


def make_scene(height, width, seed=0):
  """Draws three ellipses, red the brightest, then green, then blue."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width] + 0.5
  image = np.zeros((height, width, 3), np.uint8)
  masks, boxes = [], []
  for channel, level in enumerate((255, 240, 225)):
    radius = rng.uniform(0.15, 0.25, 2) * (height, width)
    center = rng.uniform(radius + 2, np.array((height, width)) - radius - 2)
    mask = ((y - center[0]) / radius[0]) ** 2 + (
      (x - center[1]) / radius[1]
    ) ** 2 < 1
    image[mask, channel] = level
    rows, columns = np.nonzero(mask)
    masks.append(mask)
    boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
  return Scene(image, np.stack(masks), np.array(boxes, np.float32))


def assert_found(found, scene, *, min_iou=0.9, box_error=1.5):
  """Compares Instances with a scene."""
  np.testing.assert_array_equal(found.labels, [0, 1, 2])
  assert found.has_predicted_boxes
  assert np.abs(found.boxes_xyxy - scene.boxes).max() <= box_error
  for i, mask in enumerate(found.masks):
    both, either = mask & scene.masks[i], mask | scene.masks[i]
    assert both.sum() / either.sum() > min_iou
    rows, columns = np.nonzero(mask)
    np.testing.assert_array_equal(
      found.tight_boxes_xyxy[i],
      (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1),
    )
    crop_rows, crop_columns, inside = found.crop(i)
    np.testing.assert_array_equal(inside, mask[crop_rows, crop_columns])
    assert inside.sum() == mask.sum()
