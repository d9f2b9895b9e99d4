"""Tests of solo_jax/config.py, and of every configuration file."""

import dataclasses
import importlib.util
import json
import pathlib
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from solo_jax import config as config_lib
from solo_jax.backbones import BACKBONES
from solo_jax.building import check_config
from solo_jax.config import (
  from_json,
  known_names,
  make_config,
  parse_arg,
  stated,
  to_json,
)
from solo_jax.config_checks import REQUIRED
from solo_jax.config_fields import FIELDS
from solo_jax.errors import UserError
from solo_jax.methods.table import METHODS, find

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
ALL = [
  ("associative_embedding_shapes", ""),
  ("associative_embedding_shapes", "loss=pull_push,grouping=histogram"),
  ("associative_embedding_shapes", "loss=discriminative,grouping=mean_shift"),
  ("associative_embedding_nuclei", ""),
  ("associative_embedding_coco", "backbone=r50,schedule=3x"),
  ("associative_embedding_coco", "backbone=lite0,loss=discriminative"),
  ("decoupled_solo_shapes", ""),
  ("mask2former_ade20k", "task=panoptic"),
  ("mask2former_ade20k", "backbone=swin_b,task=instance"),
  ("mask2former_cityscapes", ""),
  ("mask2former_cityscapes", "backbone=swin_t,task=instance"),
  ("mask2former_coco", ""),
  ("mask2former_coco", "backbone=swin_l,task=panoptic"),
  ("mask2former_nuclei", ""),
  ("mask2former_shapes", ""),
  ("solo_shapes", ""),
  ("solov2_shapes", ""),
  ("solov2_shapes", "steps=10"),
  ("yolact_shapes", ""),
  ("yolact_nuclei", ""),
  ("yolact_coco", ""),
  ("yolact_coco", "backbone=darknet53"),
  ("yolact_coco", "backbone=r101_dcn,side=700"),
  ("yolact_coco", "backbone=r101,recipe=mmdet"),
  ("queryinst_shapes", ""),
  ("queryinst_nuclei", ""),
  ("queryinst_coco", ""),
  ("queryinst_coco", "backbone=swin_l,queries=300,schedule=50e"),
  ("solov2_nuclei", ""),
  ("solov2_overfit", ""),
  ("solov2_own_data", "steps=10"),
  ("solov2_coco", ""),
  ("solov2_coco", "backbone=r101,schedule=3x"),
  ("solov2_coco", "backbone=lite0,schedule=1x"),
  ("solov2_coco", "backbone=x101_dcn,recipe=mmdet,schedule=3x"),
  ("solov2_coco", "backbone=r50,recipe=adelaidet,schedule=3x"),
  ("solov2_light_coco", ""),
  ("solov2_light_coco", "backbone=r18,recipe=mmdet"),
  ("solov2_light_coco", "backbone=r50_dcn"),
  ("solo_coco", ""),
  ("solo_coco", "backbone=r101,recipe=mmdet,schedule=3x"),
  ("decoupled_solo_coco", ""),
  ("decoupled_solo_coco", "backbone=r101,recipe=mmdet,schedule=3x"),
  ("decoupled_solo_light_coco", ""),
  ("decoupled_solo_light_coco", "backbone=r50_dcn"),
  ("mask_rcnn_shapes", ""),
  ("point_rend_shapes", ""),
  ("mask_rcnn_nuclei", ""),
  ("mask_rcnn_coco", ""),
  ("mask_rcnn_coco", "recipe=torchvision,schedule=26ep,outputs=90"),
  ("mask_rcnn_lsj_coco", ""),
  ("mask_rcnn_lsj_coco", "recipe=detectron2_gn,schedule=3x"),
  ("cascade_mask_rcnn_coco", ""),
  ("cascade_mask_rcnn_coco", "recipe=mmdet,schedule=20e"),
  ("htc_coco", ""),
  ("cascade_mask_rcnn_shapes", "kind=htc"),
  ("point_rend_coco", "recipe=mmdet,schedule=3x"),
]


def load(name, arg=""):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(arg)


def test_every_config_file_is_listed():
  assert {name for name, _ in ALL} == {p.stem for p in CONFIGS.glob("*.py")}


@pytest.mark.parametrize(("name", "arg"), ALL)
def test_config_is_valid(name, arg):
  config = load(name, arg)
  check_config(config)
  assert find(config.method).problems(config) == []


@pytest.mark.parametrize(("name", "arg"), ALL)
def test_json_round_trip(name, arg):
  config = load(name, arg)
  again = from_json(to_json(config))
  assert again.to_dict() == config.to_dict()
  assert isinstance(again.transforms.image_size, tuple)
  with pytest.raises(AttributeError, match="Did you mean.*num_classes"):
    again.dataset.num_clases = 3


@pytest.mark.parametrize(("name", "arg"), ALL)
def test_a_config_has_the_fields_of_its_method_and_backbone(name, arg):
  config = load(name, arg)
  found = set()
  for key, section in config.items():
    is_section = hasattr(section, "keys")
    found |= {f"{key}.{x}" for x in section} if is_section else {key}
  chosen = {config.method, config.backbone.name}
  assert found == {x.name for x in FIELDS if not x.of or chosen & set(x.of)}
  assert config.is_locked


def test_a_config_file_is_short_and_states_nothing_neutral():
  for path in CONFIGS.glob("*.py"):
    lines = path.read_text().splitlines()
    assert 40 <= len(lines) <= 90, path
  config = load("solov2_shapes")
  names = {field.name for field, _ in stated(config)}
  assert "network.num_grids" in names and "decode.nms_sigma" not in names
  config.decode.nms_sigma = 0.5
  assert "decode.nms_sigma" in {field.name for field, _ in stated(config)}


def test_the_table_knows_the_methods_and_backbones_that_there_are():
  assert set(known_names()) == set(METHODS)
  assert set(known_names(of_backbones=True)) == set(BACKBONES)


def test_neutral_values_pass_their_own_checks():
  for field in FIELDS:
    if field.neutral is not REQUIRED:
      assert not field.check.problems(field.name, field.neutral)


MINIMAL = dict(
  dataset=dict(name="shapes", num_classes=5),
  transforms=dict(
    image_size=(64, 64),
    augment=(("resize_short_side", dict(short_sides=(64,), max_side=64)),),
  ),
  preprocessing=dict(short_side=64, max_side=64),
  backbone=dict(name="efficientnet_lite0"),
  optimizer=dict(learning_rate=1, reference_batch_size=8),
  training=dict(batch_size=8, num_steps=10),
)


def test_what_is_not_stated_is_neutral():
  config = make_config(method="solov2", **MINIMAL)
  assert config.seed == 0
  assert config.optimizer.backbone_factor == 1.0
  assert config.network.num_grids == (40, 36, 24, 16, 12)
  assert config.optimizer.clip_norm is None
  assert config.optimizer.get_type("clip_norm") is float
  # A whole number for a field of fractions stays settable as one.
  assert type(config.optimizer.learning_rate) is float
  assert "shared_tower" not in config.network
  assert "stage_sizes" not in config.backbone
  check_config(config)


def test_lists_are_tuples():
  changed = MINIMAL | dict(loss=dict(scale_ranges=[[1, 8], [4, 16]]))
  config = make_config(method="solov2", **changed)
  assert config.loss.scale_ranges == ((1, 8), (4, 16))


@pytest.mark.parametrize(
  ("section", "fields", "message"),
  [
    (
      "optimizer",
      dict(learnig_rate=1.0),
      "optimizer.learnig_rate is not a field; did you mean "
      "optimizer.learning_rate",
    ),
    (
      "optimiser",
      dict(name="sgd"),
      "optimiser.name is not a .* optimizer.name",
    ),
    ("network", dict(shared_tower=True), "is a field of decoupled_solo only"),
    ("backbone", dict(block="basic"), "backbone.block is a field of resnet"),
    ("training", dict(num_steps="10"), "num_steps is '10'; it must be a whole"),
    ("training", dict(num_steps=True), "num_steps is True; it must be a whole"),
    ("loss", dict(focal_alpha="yes"), "alpha is 'yes'; it must be a number"),
    ("dataset", dict(keep_empty=1), "keep_empty is 1; it must be True or F"),
    ("transforms", dict(image_size=64), "image_size is 64; .* of 2 values"),
    ("dataset", dict(name=None), "dataset.name is None; it must be non-empty"),
  ],
)
def test_make_config_refuses(section, fields, message):
  sections = MINIMAL | {section: MINIMAL.get(section, {}) | fields}
  with pytest.raises(UserError, match=message):
    make_config(method="solov2", **sections)


def test_make_config_names_what_is_missing():
  sections = MINIMAL | dict(optimizer={})
  with pytest.raises(UserError) as error:
    make_config(method="solov2", **sections)
  assert "optimizer.learning_rate is missing" in str(error.value)
  assert "optimizer.reference_batch_size is missing" in str(error.value)
  with pytest.raises(UserError, match=r"coordinate_unit is missing \("):
    make_config(method="associative_embedding", **MINIMAL)


def test_make_config_names_methods_and_backbones():
  with pytest.raises(UserError, match="method is 'solo9'; .*'decoupled_solo'"):
    make_config(method="solo9", **MINIMAL)
  sections = MINIMAL | dict(backbone=dict(name="vgg"))
  with pytest.raises(UserError, match="backbone.name is 'vgg'; .*'resnet'"):
    make_config(method="solov2", **sections)


def test_a_method_is_known_from_its_fields(monkeypatch):
  row = dataclasses.replace(
    FIELDS[-1], name="network.queries", neutral=100, of=("of_queries",)
  )
  monkeypatch.setattr(config_lib, "FIELDS", (*FIELDS, row))
  config = make_config(method="of_queries", **MINIMAL)
  assert config.network.to_dict() == dict(queries=100)


def test_a_config_saved_before_is_read_as_one_of_today():
  """All had the fields of ResNets; two fields came later."""
  for name in ("solov2_own_data", "solov2_coco", "associative_embedding_coco"):
    config = load(name, "backbone=lite0" if "coco" in name else "")
    saved = json.loads(to_json(config))
    saved["backbone"] |= dict(
      stage_sizes=None, block="bottleneck", widths=[64, 128, 256, 512], groups=1
    )
    del saved["backbone"]["remat"], saved["optimizer"]["backbone_factor"]
    saved["decode"].pop("competing", None)
    again = from_json(json.dumps(saved))
    assert again.to_dict() == config.to_dict()
    check_config(again)


def test_parse_arg_types_values_by_their_defaults():
  arg = parse_arg(
    "steps=7,rate=0.5,flag=true,name=b", steps=1, rate=1.0, flag=False, name="a"
  )
  assert vars(arg) == dict(steps=7, rate=0.5, flag=True, name="b")
  assert parse_arg(None, steps=1).steps == 1


def test_parse_arg_takes_the_first_choice_unless_another_is_given():
  assert parse_arg("", size=("small", "large")).size == "small"
  assert parse_arg("size=large", size=("small", "large")).size == "large"
  assert parse_arg("depth=50", depth=(18, 50)).depth == 50


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("setps=7", "unknown config argument 'setps'; known: steps=1"),
    ("steps=many", "steps='many' is not a int"),
    ("flag=maybe", "flag='maybe' is not a bool"),
    ("size=huge", r"size='huge'; expected size=small\|large"),
  ],
)
def test_parse_arg_refuses(text, message):
  with pytest.raises(UserError, match=message):
    parse_arg(text, steps=1, flag=False, size=("small", "large"))


@pytest.mark.parametrize(
  ("section", "field", "value", "message"),
  [
    ("transforms", "image_size", (0, 128), "2 values, each a whole"),
    ("transforms", "image_size", (100, 128), "needs multiples of 32"),
    ("preprocessing", "pad_multiple", 20, "needs multiples of 32"),
    ("preprocessing", "pad_multiple", 0, "must be a whole number above 0"),
    ("network", "mask_stride", 4, "they must be equal"),
    ("network", "num_grids", (16,), "one per level"),
    ("network", "head_channels", 50, "multiple of network.num_groups"),
    ("network", "levels", (3, 7), "1 or more values, each one of 2, 3"),
    ("optimizer", "name", "adam", "it must be one of 'adamw', 'muon', 'sgd'"),
    (
      "optimizer",
      "accumulate",
      3,
      "multiple of optimizer.accumulate, which is 3",
    ),
    ("training", "batch_size", 0, "it must be a whole number above 0"),
    (
      "decode",
      "max_detections",
      200,
      "at most evaluation.max_detections, which is 100",
    ),
    ("preprocessing", "tile_size", 0, "above 0, or None"),
    ("optimizer", "clip_norm", -1.0, "a number above 0, or None"),
    ("decode", "score_threshold", float("nan"), "a number from 0 to 1"),
    (
      "transforms",
      "augment",
      (("scale_jitter", dict(factor=(2.0, 1.0))),),
      r"factor of 'scale_jitter' is .*tuple \(low, high\), each a number above",
    ),
    ("backbone", "weights", "efficientnet_lite0", "only their own backbone"),
    ("backbone", "remat", (0, 1), "values, each one of 1, 2, 3, 4"),
  ],
)
def test_check_names_the_field(section, field, value, message):
  config = load("solov2_shapes")
  config[section][field] = value
  with pytest.raises(UserError, match=message) as error:
    check_config(config)
  assert section in str(error.value) and field in str(error.value)


def test_stretched_images_are_squares_without_tiles():
  config = load("solov2_shapes")
  config.preprocessing.keep_aspect = False
  check_config(config)
  config.preprocessing.update(max_side=256, tile_size=64)
  with pytest.raises(UserError) as error:
    check_config(config)
  assert "short_side is 128; it must be equal to" in str(error.value)
  assert "tile_size needs preprocessing.keep_aspect" in str(error.value)


def test_check_reports_everything_at_once():
  config = load("solov2_shapes")
  config.optimizer.name = "adam"
  config.training.num_steps = 0
  with pytest.raises(UserError) as error:
    check_config(config)
  assert str(error.value).count("\n  - ") == 2


def test_another_backbone_is_chosen_in_the_config_file():
  """Its fields are not those that the config was made with."""
  config = load("solov2_shapes")
  config.backbone.name = "efficientnet_lite0"
  with pytest.raises(UserError, match="backbone.block is a field of resnet"):
    check_config(config)


def test_tiles_overlap_by_less_than_their_size():
  config = load("solov2_shapes")
  config.preprocessing.update(tile_size=64, tile_overlap=64)
  with pytest.raises(UserError, match="tile_overlap is 64; it must be below"):
    check_config(config)


@pytest.mark.parametrize(("name", "arg"), ALL)
def test_fields_that_are_off_can_be_set_on_the_command_line(
  name, arg, monkeypatch
):
  path = f"{CONFIGS / name}.py" + (f":{arg}" if arg else "")
  arguments = [
    "train",
    f"--config={path}",
    "--config.backbone.weights=resnet50.pth",
    "--config.backbone.remat=(1, 2)",
    "--config.optimizer.ema_decay=0.999",
    "--config.preprocessing.tile_size=512",
    "--config.transforms.augment=(('color_jitter', {'strength': 0.3}),)",
  ]
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values)
  # The flag looks for its overrides in the arguments of the process.
  monkeypatch.setattr(sys, "argv", arguments)
  values(arguments)
  assert values.config.backbone.weights == "resnet50.pth"
  assert values.config.backbone.remat == (1, 2)
  assert values.config.optimizer.ema_decay == 0.999
  color = "color_jitter", dict(strength=0.3)
  assert values.config.transforms.augment == (color,)
