"""Shared set-up of the tests: strict JAX, flags, and the golden fixtures."""

import gc
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import tempfile
import types
from importlib.metadata import version
from typing import ClassVar

# A shell's background jobs and nohup ignore signals; tests of them, and the
# processes that these start, must not inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
  signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Full compiler optimisation costs more than it saves on tiny arrays, and the
# tests check values, not speed.
XLA_FLAGS = [
  "--xla_backend_optimization_level=0",
  "--xla_cpu_parallel_codegen_split_count=1",
]
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
  XLA_FLAGS += ["--xla_cpu_use_fusion_emitters=false"]
os.environ.setdefault("XLA_FLAGS", " ".join(XLA_FLAGS))
# Programs that tests of several workers, or processes that they start, have in
# common are compiled once in a run; workers inherit the variable.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  PROGRAMS = tempfile.TemporaryDirectory(prefix="solo_jax_programs_")
  os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS.name
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import rich.console  # noqa: E402
import rich.table  # noqa: E402
from absl import flags, logging  # noqa: E402
from etils import epath  # noqa: E402
from etils.epath.backend import fsspec_backend  # noqa: E402
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

from solo_jax.nn.backbones.resnet import DEPTHS  # noqa: E402

GOLDEN = pathlib.Path(
  os.environ.get("SOLO_JAX_GOLDEN", pathlib.Path(__file__).parent / "golden")
)

# Files of five seconds and more, measured; the first three have tests of
# minutes.
LONGEST = (
  "faults/kill_test.py",
  "training/topology_test.py",
  "colabs/notebooks_test.py",
  "methods/mask_rcnn/loss_test.py",
  "methods/toy_methods_test.py",
  "networks_of_configs_test.py",
  "exporting/writer_test.py",
  "conversion/regions_test.py",
  "prepare_test.py",
  "webapp_test.py",
  "exporting/writer_parity_test.py",
  "methods/regions/loss_test.py",
  "methods/mask_rcnn/network_test.py",
  "conversion/mask2former_test.py",
  "conversion/published_test.py",
  "exporting/program_test.py",
  "data/pipeline_test.py",
  "inspection/doctor_test.py",
  "conversion/converter_test.py",
  "methods/queryinst/loss_test.py",
  "nn/backbones/resnet_test.py",
  "methods/point_rend/loss_test.py",
  "methods/mask2former/method_test.py",
  "methods/mask2former/loss_test.py",
  "methods/mask2former/network_test.py",
  "api_test.py",
  "nn/backbones/efficientnet_lite_test.py",
  "evaluation/report_browser_test.py",
  "inference/predictor_test.py",
  "methods/point_rend/method_test.py",
  "methods/associative_embedding/network_test.py",
  "parallel_test.py",
  "fuzz/spoiled_weights_test.py",
  "methods/regions/network_test.py",
  "scoring/checkpoint_test.py",
  "nn/backbones/swin_test.py",
  "weights_test.py",
  "conversion/queryinst_test.py",
  "training/run_test.py",
  "fuzz/mutated_files_test.py",
  "nn/deform_conv_test.py",
)

# Equal examples in every run and no files next to the tests; a slow machine is
# not an error.
hypothesis.settings.register_profile(
  "solo_jax",
  derandomize=True,
  database=None,
  deadline=None,
  max_examples=50,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("solo_jax")


def pytest_configure(config):
  config.addinivalue_line(
    "markers",
    "golden(*patterns, limit=None): run once per fixture file that a pattern"
    " finds, on the first `limit` of them",
  )
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags


def pytest_collection_modifyitems(items):
  """Puts the files that take longest first, so that no worker ends late."""

  def place(item):
    path = item.nodeid.partition("::")[0].removeprefix("tests/")
    return LONGEST.index(path) if path in LONGEST else len(LONGEST)

  items.sort(key=place)


def pytest_collection_finish():
  """Makes garbage collection cheap: traces leave many objects."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 20, 50)


def pytest_generate_tests(metafunc):
  """Parametrizes `golden` with the files that the marker's patterns find."""
  if "golden" not in metafunc.fixturenames:
    return
  marker = metafunc.definition.get_closest_marker("golden")
  paths = sorted(
    path for pattern in marker.args for path in GOLDEN.glob(pattern)
  )
  assert paths, f"no fixture {marker.args} in {GOLDEN}"
  paths = paths[: marker.kwargs.get("limit")]
  metafunc.parametrize(
    "golden", paths, ids=[path.stem for path in paths], indirect=True
  )


def pytest_terminal_summary(terminalreporter):
  """Prints the table of published checkpoints, one row per passed test."""
  rows = [
    row
    for report in terminalreporter.getreports("passed")
    for name, row in report.user_properties
    if name == "published"
  ]
  if not rows:
    return
  table = rich.table.Table(*rows[0], box=None, pad_edge=False)
  for row in rows:
    table.add_row(*map(str, row.values()))
  terminalreporter.section("Published checkpoints, converted at full size")
  rich.console.Console(width=190).print(table)


@pytest.fixture(autouse=True)
def _verbosity():
  """Puts back what a command's main() sets: later tests read warnings."""
  verbosity = logging.get_verbosity()
  yield
  logging.set_verbosity(verbosity)


@pytest.fixture(scope="module")
def browser():
  """The system's Chromium without a window, driven by Playwright.

  For a module, not for the session: while it is open, it occupies asyncio's
  loop of this thread, which Orbax needs elsewhere.
  """
  playwright = pytest.importorskip("playwright.sync_api")
  names = ("chromium", "chromium-browser", "google-chrome")
  path = next(filter(None, map(shutil.which, names)), None)
  if path is None:
    pytest.skip(f"needs a browser, one of {', '.join(names)}")
  with playwright.sync_playwright() as driver:
    # Chromium's own sandbox does not start for root, as in most containers.
    browser = driver.chromium.launch(
      executable_path=path, args=["--no-sandbox"]
    )
    yield browser
    browser.close()


@pytest.fixture
def golden(request):
  """A fixture file: `.config` from its config_json, `[name]` its arrays."""
  with np.load(request.param) as file:
    arrays = {name: file[name] for name in file.files}
  config = json.loads(str(arrays.pop("config_json")))
  return Golden(config, arrays, request.param)


class Golden(types.SimpleNamespace):
  """Arrays in the layout of the fixtures, with converters to ours.

  `path` is that of the file; what its config names is next to it.
  """

  def __init__(self, config, arrays, path):
    super().__init__(config=config, arrays=arrays, path=path)

  def __getitem__(self, name):
    return self.arrays[name]

  @property
  def num_levels(self):
    return len(self.config["num_grids"])

  @property
  def resnet(self):
    """Arguments of the ResNet of a whole model of SOLOv2."""
    block = DEPTHS[self.config["depth"]]
    base = self.config["base_channels"]
    return dict(
      **block,
      widths=(base, 2 * base, 4 * base, 8 * base),
      # mmdetection's basic block has one place for the stride in either style.
      stride_in_1x1=self.config["style"] == "caffe"
      and block["block"] == "bottleneck",
    )

  def state_dict(self):
    """Arrays stored as sd/<key>, under <key>."""
    return {
      name.removeprefix("sd/"): value
      for name, value in self.arrays.items()
      if name.startswith("sd/")
    }

  def levels(self, name):
    """name_0, name_1, ... of [B, C, S, S] as a tuple of [B, S, S, C]."""
    return tuple(
      self[f"{name}_{level}"].transpose(0, 2, 3, 1)
      for level in range(self.num_levels)
    )

  def channels_last(self, name):
    """[B, C, H, W] as [B, H, W, C] float32."""
    return self[name].transpose(0, 2, 3, 1).astype("f")

  def masks(self, name, height_width):
    """Unpacks [n, H, W] bool masks."""
    height, width = (int(size) for size in height_width)
    bits = np.unpackbits(self[name], axis=1, count=height * width)
    return bits.reshape(-1, height, width).astype(bool)


@pytest.fixture(scope="session")
def toy():
  """The module toy.py: tests are no package to import it from."""
  return _load("toy")


@pytest.fixture(scope="session")
def box_method():
  """The module box_method.py."""
  return _load("box_method")


def _load(name):
  path = pathlib.Path(__file__).with_name(f"{name}.py")
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


class MemoryBucket(MemoryFileSystem):
  """Object storage in memory: no folders, no appending, no locks."""

  protocol = ("gcs", "gs")
  store: ClassVar = {}
  pseudo_dirs: ClassVar = [""]

  @classmethod
  def _strip_protocol(cls, path):
    return super()._strip_protocol(path.removeprefix("gs://"))

  def _open(self, path, mode="rb", **options):
    assert mode in ("rb", "wb"), mode
    return super()._open(path, mode, **options)


@pytest.fixture
def bucket(monkeypatch):
  """Lets etils.epath open 'gs://...' in memory."""
  MemoryBucket.store.clear()
  storage = MemoryBucket()
  monkeypatch.setattr(fsspec_backend, "fs", lambda path: storage)
  return epath.Path("gs://bucket")
