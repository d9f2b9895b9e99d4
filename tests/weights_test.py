"""Tests of solo_jax/weights.py: from a name to a checkpoint, without internet.

The file is a small SOLOv2 as mmdetection saves it; a server of this process has
it under an address, on the Hub, and under a name.
"""

import dataclasses
import hashlib
import json
import pathlib

import numpy as np
import pytest
from file_server import FileServer
from flax.traverse_util import flatten_dict

from solo_jax import cached, published, weights
from solo_jax.checkpoints import hub, store
from solo_jax.errors import UserError
from tests.conftest import GOLDEN
from tests.conversion.converter_test import make_config, make_content
from tests.conversion.torch_writer import TorchWriter
from tests.methods.region_scene import make_scene

TINY = GOLDEN / "mask2former_tiny_hf"  # as transformers wrote it
FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
FIXTURE = pytest.mark.golden("model_solov2_*.npz", limit=1)


@pytest.fixture
def cache(monkeypatch, tmp_path):
  folder = tmp_path / "cache"
  monkeypatch.setenv("SOLO_JAX_CACHE", str(folder))
  for name in ("SOLO_JAX_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(hub, "WAIT_SECONDS", 0.0)
  return folder


@pytest.fixture
def server(monkeypatch):
  server = FileServer()
  monkeypatch.setenv("HF_ENDPOINT", server.address)
  yield server
  server.close()


@pytest.fixture(scope="module")
def once():
  """Calls a function of the one config once: it takes a second."""
  found = []

  def call(function, config):
    if not found:
      found.append(function(config))
    return found[0]

  return call


@pytest.fixture
def body(golden, tmp_path, monkeypatch, once):
  """The bytes of the file, whose config is the only one that is found."""
  writer = TorchWriter(monkeypatch)
  writer.zip(tmp_path / "x.pth", make_content(golden))
  asked = []
  shapes = once(weights.find_shapes, make_config(golden))
  monkeypatch.setattr(weights, "find_shapes", lambda _: shapes)

  def load_config(text):
    asked.append(text)
    return make_config(golden)

  monkeypatch.setattr(weights, "load_config", load_config)
  monkeypatch.setattr(weights, "asked", asked, raising=False)
  return (tmp_path / "x.pth").read_bytes()


@pytest.fixture
def row(server, body, monkeypatch):
  """A row of the table whose file is on the server, with its digest."""
  digest = hashlib.sha256(body).hexdigest()[:8]
  file = f"small_net-{digest}.pth"
  row = dataclasses.replace(
    published.find("solov2_r50_3x"),
    name="small_net",
    published_as=file,
    config="small.py:size=s",
    source=server.add(f"/files/{file}", body),
  )
  monkeypatch.setitem(published._BY_TEXT, row.name, row)
  monkeypatch.setitem(published._BY_TEXT, row.source, row)
  return row


def kept(cache):
  """What is in the cache, without lock files."""
  found = [x for x in cache.rglob("*") if x.suffix != ".lock"]
  return [x.relative_to(cache) for x in found if x.is_file()]


@FIXTURE
def test_a_name_is_downloaded_and_converted_once(
  golden, cache, server, row, capsys, monkeypatch
):
  checkpoint = weights.load("small_net")
  assert weights.asked == ["small.py:size=s"]
  said = capsys.readouterr().err
  assert f"source     {row.source}" in said
  assert f"licence    {row.licence}" in said
  assert "all filled" in said and "input      rgb" in said
  origin = checkpoint.origin
  assert origin["licence"] == row.licence and origin["source"] == row.source
  assert origin["name"] == "small_net" and origin["published_ap"] == row.ap
  assert origin["family"] == "mmdet" and origin["bytes"] > 0
  assert not list(cache.rglob("*.pth"))  # only the converted copy stays
  # The second time, by name or by address, nothing is asked and nothing made.
  server.close()
  monkeypatch.setenv("SOLO_JAX_OFFLINE", "1")
  for text in ("small_net", row.source):
    again = weights.load(text)
    np.testing.assert_array_equal(
      again.variables["params"]["category"]["bias"],
      checkpoint.variables["params"]["category"]["bias"],
    )
  assert len(server.requests) == 1 and capsys.readouterr().err == ""


@pytest.mark.golden("model_mask_rcnn_tv_r26.npz")
def test_torchvisions_mask_rcnn_by_name_and_by_address(
  golden, cache, server, tmp_path, monkeypatch, capsys
):
  """A small network of torchvision's own names; the scene has its weights."""
  names = tuple(f"thing {k}" for k in range(5))
  path = TorchWriter(monkeypatch).zip(
    tmp_path / "x.pth",
    {"meta": {"CLASSES": names}, "state_dict": golden.state_dict()},
  )
  body = path.read_bytes()
  variables = make_scene(golden).variables
  monkeypatch.setattr(weights, "find_shapes", lambda _: variables)
  whole = weights.load_config

  def load_config(text):
    config = whole(text)
    with config.unlocked():
      config.dataset.num_classes = len(names)
    return config

  monkeypatch.setattr(weights, "load_config", load_config)
  digest = hashlib.sha256(body).hexdigest()[:8]
  row = dataclasses.replace(
    published.find("mask_rcnn_r50_torchvision"),
    name="small_rcnn",
    published_as=f"small_rcnn-{digest}.pth",
    source=server.add(f"/models/small_rcnn-{digest}.pth", body),
  )
  monkeypatch.setitem(published._BY_TEXT, row.name, row)
  monkeypatch.setitem(published._BY_TEXT, row.source, row)
  checkpoint = weights.load("small_rcnn")
  assert checkpoint.config.method == "mask_rcnn"
  assert checkpoint.class_names == names
  assert checkpoint.origin["family"] == "torchvision_mask_rcnn"
  assert checkpoint.origin["licence"] == row.licence
  found = flatten_dict(checkpoint.variables["params"])
  expected = flatten_dict(variables["params"])
  assert found.keys() == expected.keys()
  for key, value in expected.items():
    np.testing.assert_array_equal(found[key], value)
  again = weights.load(row.source)  # by its address, without a request
  assert again.origin == checkpoint.origin
  assert len(server.requests) == 1


@FIXTURE
def test_a_model_of_the_hub_gets_the_config_that_it_looks_like(
  golden, cache, server, body
):
  server.add_model("owner/net", {"pytorch_model.bin": body}, licence="mit")
  checkpoint = weights.load("hf:owner/net")
  (text,) = weights.asked
  assert text == "solov2_coco.py:backbone=r18,recipe=mmdet"
  assert checkpoint.origin["source"] == "hf:owner/net@c0ffee"
  assert checkpoint.origin["licence"] == "mit"
  assert checkpoint.class_names[0] == "thing 0"


def test_transformers_own_files_describe_the_network(cache, server):
  files = {name: (TINY / name).read_bytes() for name in FILES}
  server.add_model("owner/m2f", files, licence="other")
  checkpoint = weights.load("hf:owner/m2f")
  described = json.loads(files["config.json"])
  names = described["id2label"]
  assert checkpoint.class_names == tuple(names[str(i)] for i in range(7))
  assert checkpoint.config.network.num_queries == described["num_queries"]
  assert checkpoint.origin["family"] == "transformers"
  assert checkpoint.origin["licence"] == "other"
  assert not list(cache.rglob("*.safetensors"))
  # A folder on disk does as well.
  own = weights.load(str(TINY))
  assert own.config.to_json() == checkpoint.config.to_json()
  assert own.class_names == checkpoint.class_names


@FIXTURE
def test_a_file_of_your_own(golden, cache, body, tmp_path):
  folder = weights.find_folder(str(tmp_path / "x.pth"))
  assert pathlib.Path(folder).is_relative_to(cache)
  assert weights.load(str(tmp_path / "x.pth")).origin["file"] == "x.pth"
  assert len(weights.asked) == 1


@FIXTURE
@pytest.mark.parametrize(
  "fault", ["cut", "digest", "executes", "disk", "orbax"]
)
def test_after_a_fault_the_cache_is_empty(
  golden, cache, server, row, body, fault, monkeypatch
):
  answer = server.answers[f"/files/{row.published_as}"]
  save = weights.converted.save_converted
  if fault == "cut":
    answer.cuts, answer.takes_ranges = [len(body) - 9] * hub.ATTEMPTS, False
  elif fault == "digest":
    answer.body = body[:-1] + b"!"
  elif fault == "executes":
    answer.body = b"cos\nsystem\n(S'exit'\ntR."
    monkeypatch.setattr(published.Published, "digest", None)
  else:
    kind = OSError(28, "No space left") if fault == "disk" else ValueError("no")

    def fail(out, **options):
      save(out, **options)
      raise kind

    monkeypatch.setattr(weights.converted, "save_converted", fail)
  with pytest.raises(UserError):
    weights.find_folder("small_net")
  assert kept(cache) == []
  if fault != "cut":
    return
  assert weights.load("small_net").config.method == "solov2"


def test_weights_without_a_download_name_their_page(cache):
  with pytest.raises(UserError) as raised:
    weights.find_folder("solov2_r50_3x_official")
  message = str(raised.value)
  assert "https://github.com/WXinlong/SOLO" in message
  assert "academic use only" in message
  assert (
    "--config=configs/solov2_coco.py:backbone=r50,recipe=official,schedule=3x"
    in message
  )
  assert kept(cache) == []


def test_what_is_a_path_is_never_sent(cache, server, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for text in ("./solov2_r50_3x", "a/b", "C:\\runs\\a", "~/x", "gs://b/run"):
    assert weights.find_folder(text) == text
  (tmp_path / "solov2_r50_3x").mkdir()  # a folder wins over the name
  assert weights.find_folder("solov2_r50_3x") == "solov2_r50_3x"
  with pytest.raises(UserError, match="did you mean solov2_r50_3x"):
    weights.find_folder("solov2_r50_3y")
  with pytest.raises(
    UserError, match="no checkpoint at .*nowhere(.|\n)*--list"
  ):
    weights.find_folder("nowhere")
  assert not server.requests


def test_a_backbone_s_weights_are_a_file(cache, server, monkeypatch):
  row = dataclasses.replace(
    published.find("resnet18_torchvision"),
    published_as="resnet18.pth",
    source=server.add("/resnet18.pth", b"weights"),
  )
  monkeypatch.setitem(published._BY_TEXT, row.name, row)
  path = weights.find_file(row.name)
  assert pathlib.Path(path).read_bytes() == b"weights"
  assert weights.find_file(row.name) == path and len(server.requests) == 1
  assert cached.is_cached(row) == pathlib.Path(path).parent
  assert weights.find_file("efficientnet_lite0") == "efficientnet_lite0"
  with pytest.raises(UserError, match="backbone.weights=resnet18_torchvision"):
    weights.find_folder(row.name)
  with pytest.raises(UserError, match="training.init_from=solov2_r50_3x"):
    weights.find_file("solov2_r50_3x")


@FIXTURE
def test_a_file_of_a_backbone_has_no_config(golden, tmp_path, monkeypatch):
  path = TorchWriter(monkeypatch).zip(
    tmp_path / "b.pth",
    {
      name.removeprefix("backbone."): array
      for name, array in golden.state_dict().items()
      if name.startswith("backbone.")
    },
  )
  with pytest.raises(UserError, match="config.backbone.weights="):
    weights.find_folder(str(path))


def test_heads_without_training_are_named_and_backbones_refused(
  monkeypatch, capsys
):
  checkpoint = store.Checkpoint(
    config=None,
    class_names=("cat",),
    category_ids=(1,),
    variables={},
    step=3,
    untrained=("category", "kernel"),
  )
  model = published.PUBLISHED[0]  # any dataclass with the field
  monkeypatch.setattr(weights, "load", lambda _: checkpoint)
  monkeypatch.setattr(weights, "build_model", lambda *_, **__: model)
  monkeypatch.setattr(weights.dataclasses, "replace", lambda x, **_: x)
  assert weights.load_model("runs/a") is model
  said = capsys.readouterr().err
  assert said.count("\n") == 1
  assert (
    "warning: category, kernel started from random values and had 3" in said
  )
  object.__setattr__(checkpoint, "class_names", ())
  with pytest.raises(UserError, match="runs/a is a backbone without a head"):
    weights.load_model("runs/a")
