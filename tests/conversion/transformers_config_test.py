"""Tests of solo_jax/conversion/transformers_config.py."""

import json

import pytest

from solo_jax.conversion import transformers_config
from solo_jax.errors import UserError

BACKBONE = dict(
  model_type="swin",
  embed_dim=192,
  depths=[2, 2, 18, 2],
  num_heads=[6, 12, 24, 48],
  window_size=12,
  mlp_ratio=4.0,
  drop_path_rate=0.3,
)
CONFIG = dict(
  model_type="mask2former",
  backbone_config=BACKBONE,
  decoder_layers=10,
  num_queries=200,
  id2label={str(i): f"class {i}" for i in range(133)},
)
PROCESSOR = dict(
  size=dict(height=384, width=384),
  rescale_factor=1 / 255,
  image_mean=[0.485, 0.456, 0.406],
  image_std=[0.229, 0.224, 0.225],
)


def write(folder, processor=PROCESSOR, backbone=None, **changed):
  content = CONFIG | dict(backbone_config=BACKBONE | (backbone or {})) | changed
  (folder / "config.json").write_text(json.dumps(content))
  (folder / "pytorch_model.bin").touch()
  if processor:
    text = json.dumps(processor)
    (folder / "preprocessor_config.json").write_text(text)
  return str(folder)


def test_a_published_folder(tmp_path):
  folder = write(tmp_path)
  assert transformers_config.is_folder(folder)
  found = transformers_config.read(folder)
  assert found.weights.name == "pytorch_model.bin"
  assert found.config.endswith("task=panoptic")
  assert found.class_names[132] == "class 132"
  fields = found.fields
  assert fields["network.num_queries"] == 200
  assert fields["network.num_decoder_layers"] == 9  # not 10
  assert fields["network.encoder_hidden"] == 1024  # where nothing is said
  assert fields["backbone.depths"] == (2, 2, 18, 2)
  assert fields["backbone.mlp_ratio"] == 4
  assert fields["preprocessing.mean"] == (123.675, 116.28, 103.53)
  assert "384" in found.notes[0] and "keep their aspect" in found.notes[0]
  # Of two files of weights the one that holds nothing but arrays.
  (tmp_path / "model.safetensors").touch()
  found = transformers_config.read(folder)
  assert found.weights.name == "model.safetensors"


def test_classes_of_your_own_are_all_things(tmp_path):
  folder = write(tmp_path, None, id2label={"0": "leaf", "1": "stem"})
  found = transformers_config.read(folder)
  assert found.fields["decode.things"] is None
  assert found.fields["dataset.num_classes"] == 2
  assert not any(x.startswith("preprocessing") for x in found.fields)


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    (dict(model_type="maskformer"), "is of model_type 'maskformer'"),
    (dict(pre_norm=True), "pre_norm is True; built here is False"),
    (dict(feature_size=128), "feature_size and hidden_dim differ"),
    (
      dict(backbone=dict(model_type="resnet")),
      "backbone_config.model_type is 'resnet'",
    ),
    (dict(id2label={"1": "leaf"}), "id2label must name the labels 0, 1"),
    (dict(id2label=None), "id2label must name"),
  ],
)
def test_what_is_not_built_here(tmp_path, changed, message):
  with pytest.raises(UserError, match=message):
    transformers_config.read(write(tmp_path, **changed))


def test_files_that_are_missing_or_damaged(tmp_path):
  assert not transformers_config.is_folder(str(tmp_path))
  folder = write(tmp_path)
  (tmp_path / "pytorch_model.bin").unlink()
  with pytest.raises(UserError, match="found none of model.safetensors"):
    transformers_config.read(folder)
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(UserError, match="config.json cannot be read"):
    transformers_config.read(folder)
  (tmp_path / "config.json").write_text("[]")
  with pytest.raises(UserError, match="config.json is not a JSON object"):
    transformers_config.read(folder)
