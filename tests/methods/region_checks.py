"""What the golden tests of all networks of regions compare."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from solo_jax.inference import box_masks
from solo_jax.methods.mask_rcnn.decode import decode
from solo_jax.methods.regions.network import Features, ProposalOutputs
from solo_jax.methods.regions.proposals import Proposals
from tests.methods.region_scene import source_gradients

NUM_LEVELS = 5


def assert_near(found, expected, atol, name):
  """Relative to max(1, |expected|), and to deviations above 3."""
  expected = np.asarray(expected)
  difference = np.abs(np.asarray(found) - expected)
  scale = np.maximum(np.abs(expected), max(1, np.std(expected) / 3))
  worst = np.max(difference / scale, initial=0)
  assert worst <= atol, f"{name}: off by {worst}, more than {atol}"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
  """The test pass of a network.

  Attributes:
    features: Of the images.
    raw: Outputs of the proposal head.
    chosen: Proposals.
    stages: (boxes, class logits, codes) of each box head.
    masks: Logits of each mask head; None where a network has none of them.
    outputs: Of the network.
  """

  features: Features
  raw: ProposalOutputs
  chosen: Proposals
  stages: tuple
  masks: list | None
  outputs: Any


def run(scene):
  """Runs the test pass once and keeps what its parts return."""

  def call(network):
    seen = {}

    def keep(method, args, kwargs, context):
      found = method(*args, **kwargs)
      seen.setdefault(context.method_name, []).append((args, found))
      return found

    features = network.features_of(scene.inputs, train=False)
    with nn.intercept_methods(keep):
      outputs = network.outputs(features, scene.image_size, train=False)
    ((_, raw),), ((_, chosen),) = seen["propose"], seen["select"]
    return Found(
      features=features,
      raw=raw,
      chosen=chosen,
      stages=tuple(
        (boxes, *found) for (_, _, boxes, _), found in seen["box_stage"]
      ),
      masks=seen["mask_stages"][0][1] if "mask_stages" in seen else None,
      outputs=outputs,
    )

  return jax.jit(nn.apply(call, scene.network))(scene.variables)


def check_features(golden, scene, features, raw):
  for level in range(NUM_LEVELS):
    found = np.asarray(features.pyramid[level]).transpose(0, 3, 1, 2)
    assert_near(found, golden[f"p{level + 2}"], 1e-4, f"p{level + 2}")
    for name, values in (("logits", raw.logits), ("deltas", raw.codes)):
      expected = golden[f"rpn_{name}_{level}"].transpose(0, 2, 3, 1)
      expected = expected.reshape(values[level].shape)
      assert_near(values[level], expected, 1e-4, f"{name} {level}")


def check_proposals(golden, chosen):
  for i in range(len(golden.config["image_sizes"])):
    expected = golden[f"proposals_{i}"]
    valid = np.asarray(chosen.valid[i])
    assert valid.sum() == len(expected)
    np.testing.assert_allclose(chosen.boxes[i][valid], expected, atol=1e-3)


def check_stages(golden, chosen, stages):
  """Compares the raw outputs of the box heads, and what they refine."""
  is_tv = golden.config["framework"] == "torchvision"
  valid = np.asarray(chosen.valid)
  for stage, outputs in enumerate(stages):
    boxes, logits, codes = (np.asarray(x)[valid] for x in outputs)
    codes = codes.reshape(len(codes), -1)
    if is_tv:
      expected = golden["box_logits"]
      expected = np.concatenate([expected[:, 1:], expected[:, :1]], 1)
      assert_near(logits, expected, 1e-4, "logits")
      assert_near(codes, golden["box_deltas"][:, 4:], 1e-4, "codes")
      continue
    rois = golden[f"stage{stage}_rois"]
    np.testing.assert_allclose(boxes, rois[:, 1:], atol=1e-3)
    assert_near(logits, golden[f"stage{stage}_logits"], 1e-4, "logits")
    assert_near(codes, golden[f"stage{stage}_deltas"], 1e-4, "codes")


def check_detections(golden, scene, outputs, *, share_off=0.0, within=1e-4):
  """Compares detections and the masks laid into the original images.

  Args:
    golden: The file.
    scene: Made of it.
    outputs: Of the network.
    share_off: Of mask probabilities that may be off by more than `within`.
    within: See `share_off`.
  """
  is_tv = golden.config["framework"] == "torchvision"
  decoded = decode(
    outputs.detections,
    outputs.mask_probs,
    paste="torchvision" if is_tv else "aligned",
  )
  decoded = jax.tree.map(np.asarray, decoded)
  originals = golden.config["image_sizes" if is_tv else "original_sizes"]
  for i, original in enumerate(originals):
    valid = decoded.valid[i]
    assert valid.sum() == len(golden[f"scores_{i}"])
    np.testing.assert_allclose(
      decoded.scores[i][valid], golden[f"scores_{i}"], atol=1e-5
    )
    np.testing.assert_array_equal(
      decoded.labels[i][valid], golden[f"labels_{i}"] - is_tv
    )
    masks = jax.tree.map(lambda x, i=i, v=valid: x[i][v], decoded.masks)
    size = tuple(int(x) for x in scene.image_size[i])
    boxes = box_masks.boxes_to_original(masks.boxes_xyxy, size, original)
    np.testing.assert_allclose(boxes, golden[f"boxes_{i}"], atol=2e-3)
    if not is_tv:
      np.testing.assert_allclose(
        masks.boxes_xyxy, golden[f"boxes_network_{i}"], atol=1e-3
      )
      off = np.abs(masks.probs - golden[f"mask_probs_{i}"]) > within
      assert off.mean() <= share_off
    found, _ = box_masks.masks_to_original(
      masks,
      image_size=size,
      original_size=tuple(original),
      threshold=golden.config.get("mask_threshold", 0.5),
    )
    sure = ~golden.masks(f"masks_unsure_packed_{i}", original)
    expected = golden.masks(f"masks_packed_{i}", original)
    assert ((found != expected) & sure).mean() <= share_off


# Our terms, under the names of each code base.
TORCHVISION_TERMS = {
  "proposal_category_loss": "loss_objectness",
  "proposal_box_loss": "loss_rpn_box_reg",
  "category_loss": "loss_classifier",
  "box_loss": "loss_box_reg",
  "mask_loss": "loss_mask",
}
MMDET_TERMS = {
  "proposal_category_loss": "loss_rpn_cls",
  "proposal_box_loss": "loss_rpn_bbox",
  "category_loss": "loss_cls",
  "box_loss": "loss_bbox",
  "mask_loss": "loss_mask",
  "point_loss": "loss_point",
  "semantic_loss": "loss_semantic_seg",
}


def foreign_name(golden, term):
  if golden.config["framework"] == "torchvision":
    return TORCHVISION_TERMS[term]
  if not isinstance(golden.config["merged"]["train_cfg"]["rcnn"], list):
    return MMDET_TERMS[term]
  stage, name = (term[5], term[7:]) if term.startswith("stage") else ("0", term)
  if name in ("category_loss", "box_loss", "mask_loss"):
    return f"s{stage}.{MMDET_TERMS[name]}"
  return MMDET_TERMS[name]


def check_training(golden, scene, loss_of_features):
  """Compares every loss, the norms of all gradients, and some in full.

  Features have the file's own values, so that no noise decides which ReLU of
  the heads is open; they pass gradients on as usual.
  """
  given = tuple(
    golden[f"p{level + 2}"].transpose(0, 2, 3, 1) for level in range(NUM_LEVELS)
  )

  def loss(params):
    def call(network):
      features = network.features_of(scene.inputs, train=True)
      pyramid = tuple(
        value + (x - jax.lax.stop_gradient(x))
        for value, x in zip(given, features.pyramid, strict=True)
      )
      features = dataclasses.replace(features, pyramid=pyramid)
      return loss_of_features(network, features, scene.batch)

    variables = scene.variables | {"params": params}
    return nn.apply(call, scene.network)(
      variables, rngs={"draws": jax.random.key(0)}
    )

  compute = jax.jit(jax.value_and_grad(loss, has_aux=True))
  (total, terms), gradients = compute(scene.variables["params"])
  terms = {k: x for k, x in terms.items() if not k.endswith("_dropped")}
  expected = {
    name.removeprefix("loss/"): value
    for name, value in golden.arrays.items()
    if name.startswith("loss/") and not name.endswith("acc")
  }
  found = {foreign_name(golden, name): x for name, x in terms.items()}
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert_near(found[name], value, 1e-4, name)
  np.testing.assert_allclose(total, sum(expected.values()), rtol=1e-4)

  gradients = source_gradients(golden, scene, gradients)
  names = golden.config["grad_names"]
  for name, norm in zip(names, golden["grad_norms"], strict=True):
    assert_near(np.linalg.norm(gradients[name]), norm, 1e-3, name)
  full = [x for x in golden.arrays if x.startswith("grad/")]
  assert full
  for name in full:
    value = golden[name]
    off = np.abs(gradients[name.removeprefix("grad/")] - value).max()
    assert off <= 1e-4 * np.abs(value).max(), name
