"""Tests of solo_jax/conversion/swin.py.

That converted weights give the same maps is tested with the networks.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from solo_jax.conversion import swin
from solo_jax.conversion.mapping import convert, flatten, route, unflatten
from solo_jax.errors import UserError
from solo_jax.nn.backbones.swin import Swin


def test_joint_projections_are_split_by_rows():
  joint = np.arange(12).reshape(6, 2)
  arrays = {
    "a.attn.qkv.weight": joint,
    "b.in_proj_bias": np.arange(3),
    "c.qkv.bias": np.arange(4),  # of nothing that could be split
    "d.weight": joint,
  }
  result = swin.split_projections(arrays)
  np.testing.assert_array_equal(result["a.attn.query.weight"], joint[:2])
  np.testing.assert_array_equal(result["a.attn.value.weight"], joint[4:])
  np.testing.assert_array_equal(result["b.key.bias"], [1])
  assert result.keys() >= {"c.qkv.bias", "d.weight"}
  assert len(result) == 3 + 3 + 2


def test_merging_of_mmdet_reads_the_neighbours_of_the_original():
  # The input of one output pixel, C = 3 channels of 2 x 2 pixels, gathered in
  # both ways: by nn.Unfold and by concatenation of strided maps.
  pixels = np.arange(12).reshape(2, 2, 3)  # row, column, channel
  unfolded = pixels.transpose(2, 0, 1).reshape(-1)
  original = np.concatenate(
    [pixels[0, 0], pixels[1, 0], pixels[0, 1], pixels[1, 1]]
  )
  weight = np.random.default_rng(0).standard_normal((5, 12))
  name = "backbone.stages.0.downsample.reduction.weight"
  moved = swin.reorder_merging({name: weight, "x.weight": weight})
  np.testing.assert_allclose(moved[name] @ original, weight @ unfolded)
  assert moved["x.weight"] is weight
  norm = "backbone.stages.0.downsample.norm.bias"
  moved = swin.reorder_merging({norm: unfolded})
  np.testing.assert_array_equal(moved[norm], original)


def to_original(name):
  """Name of the original repository for one in files of transformers."""
  for old, new in (
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("embeddings.norm", "patch_embed.norm"),
    ("encoder.layers", "layers"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("attention.self.relative", "attn.relative"),
    ("attention.self.", "attn."),
    ("attention.output.dense", "attn.proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("hidden_states_norms.stage1", "norm0"),
    ("hidden_states_norms.stage2", "norm1"),
    ("hidden_states_norms.stage3", "norm2"),
    ("hidden_states_norms.stage4", "norm3"),
  ):
    name = name.replace(old, new)
  return name


def to_mmdet(name):
  for old, new in (
    ("patch_embed.proj.", "patch_embed.projection."),
    ("layers.", "stages."),
    ("attn.", "attn.w_msa."),
    ("mlp.fc1", "ffn.layers.0.0"),
    ("mlp.fc2", "ffn.layers.1"),
  ):
    name = name.replace(old, new)
  return name


def to_modules(name):
  """Name of a module of transformers 5."""
  for old, new in (
    ("self.query", "q_proj"),
    ("self.key", "k_proj"),
    ("self.value", "v_proj"),
    ("attention.output.dense", "attention.o_proj"),
    ("self.relative", "relative_position_bias.relative"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
  ):
    name = name.replace(old, new)
  return name if name.startswith("hidden") else f"swin.{name}"


@pytest.mark.golden("m2f_swin*.npz")
def test_code_bases_agree(golden):
  files = golden.state_dict()
  expected = route(files, swin.backbone_rules(swin.TRANSFORMERS))
  assert len(expected) == len(files)
  original = {to_original(name): array for name, array in files.items()}
  for layout, renamed in (
    (swin.ORIGINAL, original),
    (swin.MMDET, {to_mmdet(name): x for name, x in original.items()}),
    (swin.TRANSFORMERS, {to_modules(name): x for name, x in files.items()}),
  ):
    assert renamed.keys() != files.keys()
    found = route(renamed, swin.backbone_rules(layout))
    assert found.keys() == expected.keys()
    assert all(found[path] is expected[path] for path in expected)


@pytest.mark.golden("m2f_swin*.npz")
def test_what_no_backbone_needs_is_dropped_and_nothing_else(golden):
  config = golden.config
  network = Swin(
    embed_dim=config["embed_dim"],
    depths=tuple(config["depths"]),
    num_heads=tuple(config["num_heads"]),
    window_size=config["window_size"],
  )
  target = jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    jnp.zeros((1, 32, 32, 3)),
  )
  files = golden.state_dict()
  rules = swin.backbone_rules(swin.TRANSFORMERS)
  block = "encoder.layers.0.blocks.0.attention.self"
  more = {
    f"{block}.relative_position_index": np.zeros((4, 4), np.int64),
    "swin.layernorm.weight": np.zeros(3),
  }
  result = flatten(convert(files | more, rules, target))
  assert len(result) == len(files)
  with pytest.raises((ValueError, UserError), match="in 2 places") as error:
    missing = f"{block}.relative_position_bias_table"
    convert(
      {k: v for k, v in files.items() if k != missing}
      | {"embeddings.position_embeddings": np.zeros((1, 4, 4))},
      rules,
      target,
    )
  assert "stage1_0/attention/bias_table" in str(error.value)
  assert "position_embeddings" in str(error.value)


@pytest.mark.golden("m2f_swin*.npz")
def test_a_classifier_fills_all_but_the_norms_of_the_maps(golden, tmp_path):
  files = {
    to_original(name): array.astype("f")
    for name, array in golden.state_dict().items()
  }
  classifier = {
    name: array
    for name, array in files.items()
    if not name.startswith(("norm0", "norm1", "norm2", "norm3"))
  }
  more = ("norm.weight", "head.bias", "layers.0.blocks.1.attn_mask")
  path = tmp_path / "swin.safetensors"
  safetensors.numpy.save_file(
    classifier | {name: np.ones(3, "f") for name in more}, path
  )
  whole = route(files, swin.backbone_rules(swin.ORIGINAL))
  variables = unflatten(
    {
      path: np.full(oriented(path, array).shape, 7, np.float32)
      for path, array in whole.items()
    }
  )
  loaded = flatten(swin.load_backbone(path, variables))
  assert loaded.keys() == whole.keys()
  for name, array in loaded.items():
    if name.startswith(("params/norm1", "params/norm2", "params/norm3",
                        "params/norm4")):  # fmt: skip
      assert (array == 7).all()
    else:
      np.testing.assert_array_equal(array, oriented(name, whole[name]))


def oriented(path, array):
  """A routed array with our order of axes."""
  if not path.endswith("kernel"):
    return array
  return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
