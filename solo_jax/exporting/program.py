"""The whole predictor as one function of arrays, to be exported.

From the pixels of an image of any size to masks at that size, including
resizing, padding, network, decoding and masks: the same steps as
`inference.predictor`, which runs the first and the last of them on the host.

Shape letters as in `types`, and Hc, Wc: canvas that the images lie on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from solo_jax.exporting import device_masks, device_resize
from solo_jax.methods.interface import Method

# Results of every program, in order; others follow.
RESULTS = ("masks", "boxes_xyxy", "scores", "labels", "valid", "num_dropped")


def make_program(
  method: Method,
  treedef: Any,
  *,
  preprocessing: dict[str, Any],
  mask_threshold: float,
  input_size: tuple[int, int],
) -> Callable[..., dict[str, jax.Array]]:
  """Returns the function to export.

  Args:
    method: The method.
    treedef: Structure of the network's variables.
    preprocessing: short_side, max_side, keep_aspect, size_rounding,
      interpolation, tile_size; other entries are not read.
    mask_threshold: A pixel belongs to a mask above this probability.
    input_size: Padded (H, W) of the network input; the images of a call must
      fit into it once they are resized.

  Returns:
    (weights, image, original_size) -> dict of arrays, the best score first:
      weights: Leaves of the variables.
      image: RGB, each in the top left corner. [B, Hc, Wc, 3] uint8, Wc a
        multiple of 8. The rest of the canvas is ignored.
      original_size: (height, width) of each, at least 1. [B, 2] int32.
    and the result
      masks: Packed bits, big-endian along the width. [B, M, Hc, Wc / 8] uint8.
      boxes_xyxy: Tight boxes, zeros for an empty mask. [B, M, 4] int32.
      scores: 0 where there is no detection. [B, M] float32.
      labels: [B, M] int32.
      valid: [B, M] bool.
      num_dropped: Candidates beyond the capacity. [B] int32.
      predicted_boxes_xyxy: Predicted boxes in continuous pixels, where the
        method predicts boxes. [B, M, 4] float32.
  """

  def program(
    weights: Sequence[jax.Array], image: jax.Array, original_size: jax.Array
  ) -> dict[str, jax.Array]:
    canvas_size = image.shape[1:3]

    # Image by image; unrolled, since ONNX converters lose the shapes of loops.
    batch = range(image.shape[0])
    image, image_size = _stack(
      _prepare(image[i], original_size[i], input_size, preprocessing)
      for i in batch
    )
    variables = jax.tree.unflatten(treedef, weights)
    outputs = method.network.apply(variables, image, image_size, train=False)
    decoded = method.decode(outputs, image_size)

    def finish(found, image_size, original_size):
      return device_masks.masks_to_canvas(
        found.masks,
        found.valid,
        image_size,
        original_size,
        canvas_size,
        padded_size=input_size,
        threshold=mask_threshold,
      )

    rows = [jax.tree.map(lambda x, i=i: x[i], decoded) for i in batch]
    masks, boxes_xyxy = _stack(
      finish(rows[i], image_size[i], original_size[i]) for i in batch
    )
    results = dict(
      masks=masks,
      boxes_xyxy=boxes_xyxy,
      scores=decoded.scores,
      labels=decoded.labels.astype(jnp.int32),
      valid=decoded.valid,
      num_dropped=decoded.num_dropped,
    )
    if decoded.boxes_xyxy is not None:
      results["predicted_boxes_xyxy"] = jax.vmap(
        device_masks.boxes_to_original
      )(decoded.boxes_xyxy, image_size, original_size)
    return results

  return program


def _prepare(
  image: jax.Array,
  original_size: jax.Array,
  input_size: tuple[int, int],
  preprocessing: dict[str, Any],
) -> tuple[jax.Array, jax.Array]:
  """Returns an image, resized as the predictor does, and its new size."""
  if preprocessing["keep_aspect"]:
    image_size = device_resize.fitted_size(
      original_size,
      short_side=preprocessing["short_side"],
      max_side=preprocessing["max_side"],
      tile_size=preprocessing["tile_size"],
      size_rounding=preprocessing["size_rounding"],
    )
  else:
    image_size = jnp.full(2, preprocessing["short_side"])
  resized = device_resize.resize_image(
    image,
    original_size,
    image_size,
    input_size,
    interpolation=preprocessing["interpolation"],
  )
  return resized, image_size


def flatten_results(
  program: Callable[..., dict[str, jax.Array]],
  weights: Sequence[Any],
  inputs: Sequence[jax.ShapeDtypeStruct],
) -> tuple[Callable[..., tuple[jax.Array, ...]], tuple[str, ...]]:
  """Returns the results of a program in a fixed order.

  Args:
    program: From `make_program`.
    weights: Its first argument; only shapes matter.
    inputs: Shapes of the others.

  Returns:
    The same function with a tuple of results, and their names.
  """
  shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in weights]
  made = jax.eval_shape(program, shapes, *inputs)
  names = (*RESULTS, *sorted(made.keys() - set(RESULTS)))

  def flat(*arguments):
    results = program(*arguments)
    return tuple(results[name] for name in names)

  return flat, names


def _stack(rows):
  """Stacks tuples of arrays: [(a, b), ...] -> [B, ...] of each."""
  return map(jnp.stack, zip(*rows, strict=True))
