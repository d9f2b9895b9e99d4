"""Tests of solo_jax/conversion/converter.py, on a small network.

Every full-size checkpoint is converted in published_test.py.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from solo_jax.building import build_predictor
from solo_jax.checkpoints import converted, store
from solo_jax.conversion.checkpoint_file import Source
from solo_jax.conversion.converter import (
  convert_checkpoint,
  convert_source,
  suggest_config,
)
from solo_jax.conversion.families import find_family
from solo_jax.conversion.mapping import flatten
from solo_jax.conversion.recognition import Network
from solo_jax.errors import UserError
from solo_jax.inference.masks import masks_to_original
from solo_jax.weights import find_shapes

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "solov2_coco.py"
FIXTURE = pytest.mark.golden("model_solov2_*.npz", limit=1)


def load_config(name="solov2_coco", argument=""):
  spec = importlib.util.spec_from_file_location(
    name, ROOT / "configs" / f"{name}.py"
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(argument)


def make_config(golden):
  """The published recipe with the sizes of a fixture."""
  sizes, config = golden.config, load_config()
  test = sizes["test"]
  config.dataset.num_classes = sizes["num_classes"]
  config.transforms.image_size = tuple(sizes["net_hw"])
  config.preprocessing.update(
    short_side=sizes["img_hw"][0], max_side=sizes["img_hw"][1]
  )
  config.backbone.update(golden.resnet)
  config.network.update(
    num_grids=tuple(sizes["num_grids"]),
    fpn_channels=sizes["fpn_out"],
    head_channels=sizes["feat_channels"],
    num_head_convs=sizes["stacked_convs"],
    mask_channels=sizes["mask_feat_channels"],
    kernel_channels=sizes["mask_out_channels"],
    num_groups=sizes["num_groups"],
  )
  config.decode.update(
    score_threshold=test["score_thr"], update_threshold=test["filter_thr"]
  )
  return config


def convert(path, config, **options):
  return convert_checkpoint(str(path), config, find_shapes, **options)


def make_content(golden):
  """What mmdetection 3 saves in training."""
  names = tuple(f"thing {i}" for i in range(golden.config["num_classes"]))
  return {
    "meta": {"epoch": 36, "dataset_meta": {"classes": names}},
    "state_dict": golden.state_dict(),
    "optimizer": {"state": {0: {"momentum_buffer": np.ones(4, np.float32)}}},
  }


def save(folder, conversion, config):
  converted.save_converted(
    str(folder),
    variables=conversion.variables,
    config=config,
    class_names=tuple(name for _, name in conversion.classes),
    category_ids=tuple(number for number, _ in conversion.classes),
    origin=conversion.origin,
  )


@FIXTURE
def test_converted_checkpoint_gives_the_published_detections(
  golden, tmp_path, torch_writer
):
  """From a .pth file to masks, against mmdetection's own on its weights."""
  path = torch_writer.zip(tmp_path / "epoch_36.pth", make_content(golden))
  conversion = convert(path, make_config(golden))
  save(tmp_path / "out", conversion, make_config(golden))

  checkpoint = store.load(str(tmp_path / "out"))
  assert checkpoint.class_names[6] == "thing 6"
  assert checkpoint.category_ids == tuple(range(1, 8))
  predictor = build_predictor(
    checkpoint.config, checkpoint.variables, batch_size=1
  )
  image = golden["image_bgr_uint8"][..., ::-1]
  found = predictor(image)
  np.testing.assert_allclose(found.scores, golden["out_scores"], rtol=1e-3)
  np.testing.assert_array_equal(found.labels, golden["out_labels"])

  # The fixture's masks have the size of an image before it was resized.
  size, padded = golden.config["img_hw"], golden.config["net_hw"]
  network_input = np.zeros((1, *padded, 3), np.uint8)
  network_input[0, : size[0], : size[1]] = image
  decoded = predictor._detect(
    predictor.variables, (network_input,), (np.array([size], np.int32),)
  )
  masks, _ = masks_to_original(
    np.asarray(decoded.masks.probs[0])[np.asarray(decoded.valid[0])],
    mask_stride=4,
    image_size=tuple(size),
    original_size=tuple(golden.config["ori_hw"]),
    threshold=golden.config["test"]["mask_thr"],
  )
  expected = golden.masks("out_masks_packed", golden["out_hw"])
  shared, union = (masks & expected).sum((1, 2)), (masks | expected).sum((1, 2))
  assert (shared / np.maximum(union, 1)).min() > 0.999


@FIXTURE
def test_what_is_logged_and_kept(golden, tmp_path, torch_writer):
  content = make_content(golden)
  content["state_dict"]["backbone.bn1.num_batches_tracked"] = np.asarray(3)
  path = torch_writer.zip(tmp_path / "epoch_36.pth", content)
  conversion = convert(path, make_config(golden))
  count = len(golden.state_dict())
  text = "\n".join(conversion.lines)
  for part in (
    f"solov2 with r{golden.config['depth']} of mmdet",
    "ignored meta, optimizer",
    f"{count + 1} in the file, {count} used, 1 dropped by rule "
    "(num_batches_tracked)",
    f"{golden.config['num_classes']}: as noted in the checkpoint, with ids "
    "from 1",
    f"rgb, mean {tuple(golden.config['mean_rgb'])}",
    "bilinear resize",
  ):
    assert part in text
  assert conversion.origin["family"] == "mmdet"
  assert conversion.origin["label_of_first_class"] == 0
  assert len(conversion.origin["sha256"]) == 64
  save(tmp_path / "out", conversion, make_config(golden))
  info = tmp_path / "out" / "checkpoints" / "0" / "info" / "metadata"
  assert json.loads(info.read_text())["converted_from"] == conversion.origin


@FIXTURE
def test_every_way_to_wrap_gives_the_same(golden, tmp_path, torch_writer):
  config = make_config(golden)
  weights = golden.state_dict()
  num_classes = golden.config["num_classes"]
  class_names = [f"class {i}" for i in range(num_classes)]
  names = {"meta": {"CLASSES": tuple(class_names)}}
  averages = {f"module.{k}": v for k, v in weights.items()}
  noise = {k: v + 1 for k, v in weights.items()}
  safetensors.numpy.save_file(weights, tmp_path / "x.safetensors")
  categories = tmp_path / "classes.json"
  categories.write_text(
    json.dumps(
      {"categories": [dict(id=i, name=n) for i, n in enumerate(class_names)]}
    )
  )
  expected = None
  for content, options in (
    (names | {"state_dict": weights}, {}),
    (names | {"model": averages}, {}),
    (
      names | {"state_dict": noise, "ema_state_dict": averages},
      {"use_ema": True},
    ),
    (weights, {"categories": str(categories)}),
    (None, {"categories": str(categories), "family": "mmdet"}),
  ):
    path = tmp_path / "x.safetensors"
    if content is not None:
      path = torch_writer.stream(tmp_path / "x.pth", content)
    found = convert(path, config, **options)
    assert [name for _, name in found.classes] == class_names
    expected = expected or found.variables
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected)


@FIXTURE
def test_every_misfit_is_in_one_error(golden, tmp_path, torch_writer):
  content = make_content(golden)
  content["state_dict"]["bbox_head.old.weight"] = np.zeros((2, 3), np.float32)
  del content["state_dict"]["neck.fpn_convs.0.conv.bias"]
  path = torch_writer.zip(tmp_path / "x.pth", content)
  config = make_config(golden)
  sizes = golden.config
  num_classes, inputs = sizes["num_classes"], sizes["feat_channels"]
  config.dataset.num_classes = num_classes + 2
  with pytest.raises(UserError, match="in 4 places") as error:
    convert(path, config)
  for part in (
    f"mask_head.conv_cls.weight: gives shape (3, 3, {inputs}, {num_classes}), "
    f"params/category/kernel needs (3, 3, {inputs}, {num_classes + 2})",
    f"mask_head.conv_cls.bias: gives shape ({num_classes},)",
    "bbox_head.old.weight (2, 3): matches no rule",
    f"params/fpn/output_2/bias ({sizes['fpn_out']},): not in the checkpoint",
    f"look like solov2 with r{sizes['depth']} of mmdet",
  ):
    assert part in str(error.value)


@FIXTURE
@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda x: x * np.nan, "of .* numbers are NaN or infinite"),
    (lambda x: x.astype(np.float64) + 1e300, "are NaN or infinite"),
    (lambda x: np.where(x == x.max(), np.inf, x), "1 of .* are NaN or inf"),
  ],
)
def test_weights_that_compute_nothing_are_named(golden, change, message):
  name, config = "mask_head.conv_cls.weight", make_config(golden)
  shapes, arrays = find_shapes(config), golden.state_dict()
  source = Source(
    arrays=arrays | {name: change(arrays[name])},
    class_names=make_content(golden)["meta"]["dataset_meta"]["classes"],
    notes=(),
  )
  with pytest.raises(UserError, match=f"params/category/kernel: .*{message}"):
    convert_source(source, config, lambda config: shapes)
  name = "backbone.bn1.running_var"
  negative = arrays | {name: -np.abs(arrays[name])}
  source = dataclasses.replace(source, arrays=negative)
  with pytest.raises(UserError, match="bn1/var: a variance is negative"):
    convert_source(source, config, lambda config: shapes)


@FIXTURE
def test_a_missing_config_is_suggested(golden, tmp_path, torch_writer):
  path = torch_writer.zip(tmp_path / "x.pth", make_content(golden))
  with pytest.raises(UserError, match="expected the --config") as error:
    convert(path, None)
  depth = golden.config["depth"]
  assert f"solov2_coco.py:backbone=r{depth},recipe=mmdet" in str(error.value)


@FIXTURE
def test_other_preprocessing_is_refused_unless_it_is_meant(
  golden, tmp_path, torch_writer
):
  path = torch_writer.zip(tmp_path / "x.pth", make_content(golden))
  config = make_config(golden)
  config.preprocessing.update(channel_order="bgr", std=(1.0, 1.0, 1.0))
  with pytest.raises(UserError, match="does not fit the weights") as error:
    convert(path, config)
  assert "channel_order is 'bgr'; these weights need 'rgb'" in str(error.value)
  assert "preprocessing.std is (1.0, 1.0, 1.0)" in str(error.value)
  convert(path, config, is_other_input=True)


@FIXTURE
def test_a_backbone_alone(golden, tmp_path, torch_writer):
  weights = {
    name.removeprefix("backbone."): array
    for name, array in golden.state_dict().items()
    if name.startswith("backbone.")
  } | {"fc.weight": np.zeros((10, 64), np.float32)}
  path = torch_writer.stream(tmp_path / "resnet18.pth", weights)
  conversion = convert(path, make_config(golden))
  assert conversion.classes == ()
  assert "1 dropped by rule (weight)" in "\n".join(conversion.lines)
  assert all(
    path.split("/")[1] == "backbone" for path in flatten(conversion.variables)
  )
  np.testing.assert_array_equal(
    conversion.variables["params"]["backbone"]["conv1"]["kernel"],
    weights["conv1.weight"].transpose(2, 3, 1, 0),
  )


PREDICT = """
import sys
import jax, numpy as np
from solo_jax.checkpoints import converted, store
from solo_jax.building import build_predictor
folder, image, out, count = sys.argv[1:]
assert jax.device_count() == int(count)
checkpoint = store.load(folder)
found = build_predictor(
  checkpoint.config, checkpoint.variables, batch_size=1
)(np.load(image))
np.savez(out, scores=found.scores, labels=found.labels, masks=found.masks)
"""


@pytest.mark.slow
@FIXTURE
def test_a_fresh_process_of_1_and_of_8_devices_predicts_the_same(
  golden, tmp_path, torch_writer
):
  path = torch_writer.zip(tmp_path / "x.pth", make_content(golden))
  config = make_config(golden)
  conversion = convert(path, config)
  save(tmp_path / "out", conversion, config)
  image = np.ascontiguousarray(golden["image_bgr_uint8"][..., ::-1])
  np.save(tmp_path / "image.npy", image)
  here = build_predictor(config, conversion.variables, batch_size=1)(image)
  for count in (1, 8):
    devices = f"--xla_force_host_platform_device_count={count}"
    out = tmp_path / f"{count}.npz"
    arguments = [tmp_path / "out", tmp_path / "image.npy", out, str(count)]
    subprocess.run(
      [sys.executable, "-c", PREDICT, *map(str, arguments)],
      check=True,
      env=os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {devices}"},
    )
    with np.load(out) as found:
      assert len(found["scores"]) == len(golden["out_scores"])
      np.testing.assert_array_equal(found["scores"], here.scores)
      np.testing.assert_array_equal(found["labels"], here.labels)
      np.testing.assert_array_equal(found["masks"], here.masks)


@pytest.mark.parametrize(
  ("num_classes", "argument"),
  [(80, "backbone=swin_t"), (133, "backbone=swin_t,task=panoptic")],
)
def test_mask2former_as_its_authors_and_mmdetection_resize(
  num_classes, argument
):
  network = Network(
    method="mask2former",
    backbone="swin_t",
    deformable=None,
    num_classes=num_classes,
    is_light=False,
  )
  for name, recipe in (
    ("transformers", ""),
    ("mask2former", ""),
    ("mmdet_mask2former", ",recipe=mmdet"),
  ):
    assert suggest_config(find_family(name, ()), network) == (
      f"configs/mask2former_coco.py:{argument}{recipe}"
    )
