"""The import layers of docs/architecture.md, checked by reading the imports."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LEAVES = (
  "data",
  "nn",
  "losses",
  "grouping",
  "evaluation",
  "conversion",
  "visualization",
  "visualization_labels",
)
# What each part of the package may import next to itself, `types` and `errors`.
ALLOWED = {
  "target_masks": (),
  "types": ("target_masks",),
  "errors": (),
  "file_kinds": (),
  "heap": (),
  "terminal": (),
  "config": (),
  "parallel": (),
  "cache": (),
  "published": (),
  **{leaf: () for leaf in LEAVES},
  "media": ("inference", "data", "evaluation", "visualization"),
  "checkpoints": ("parallel", "cache"),
  "methods": ("nn", "losses", "grouping"),
  "inference": ("methods", "data.transforms", "data.batching", "cache"),
  "backbones": ("nn", "conversion"),
  "building": ("backbones", "checkpoints", "methods", "inference"),
  "cached": ("cache", "conversion", "published"),
  "weights": (
    "cached",
    "building",
    "cache",
    "checkpoints",
    "conversion",
    "inference",
    "published",
  ),
  "exporting": ("methods", "inference", "building", "checkpoints", "nn"),
  "scoring": (
    "data",
    "evaluation",
    "methods",
    "inference",
    "media",
    "checkpoints",
    "building",
    "parallel",
    "weights",
  ),
  "training": (
    *LEAVES,
    "methods",
    "inference",
    "checkpoints",
    "backbones",
    "building",
    "parallel",
    "media",
    "scoring",
    "weights",
  ),
  "inspection": (
    *LEAVES,
    "methods",
    "inference",
    "building",
    "published",
    "weights",
  ),
  "api": ("inference",),
}
# Imports of a higher layer, inside of a function: Predictor.from_checkpoint is
# the way in for whoever has nothing but a folder.
UPWARDS = {"inference/predictor.py": "weights.load_model"}
# The config stops at the commands and these files.
READS_CONFIG = (
  "building.py",
  "checkpoints/converted.py",
  "checkpoints/reading.py",
  "checkpoints/store.py",
  "inspection/config_file.py",
  "inspection/doctor.py",
  "scoring/checkpoint.py",
  "training/loop.py",
  "training/following.py",
  "training/setup.py",
  "weights.py",
)
ONLY_IN = {
  "grain": ("data/pipeline.py",),
  "orbax": ("checkpoints/",),
  "flax": ("nn/", "methods/", "training/", "checkpoints/"),
  "av": ("media/video.py",),
  "cv2": ("data/", "visualization", "media/"),
  "tensorflow_datasets": ("data/",),
  "pycocotools": ("data/", "evaluation/"),
  "tensorboardX": ("training/logging.py",),
}


def imports(path):
  """Yields every module that a file imports, with what is taken from it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative import"
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = sorted((ROOT / "solo_jax").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_file_imports_only_lower_layers(path):
  relative = path.relative_to(ROOT / "solo_jax")
  layer = relative.parts[0].removesuffix(".py")
  for name in imports(path):
    package, _, rest = name.partition(".")
    if package in ONLY_IN:
      assert str(relative).startswith(ONLY_IN[package]), (
        f"{relative} imports {package}; only {ONLY_IN[package]} may"
      )
    if package != "solo_jax" or layer not in ALLOWED:
      continue  # commands import what they like
    if rest.startswith("config"):
      assert str(relative) in READS_CONFIG or layer.startswith("config"), (
        f"{relative} reads the config; it stops above"
      )
      continue
    if rest == UPWARDS.get(str(relative)):
      continue
    allowed = (
      "types",
      "errors",
      "file_kinds",
      "terminal",
      layer,
      *ALLOWED[layer],
    )
    assert rest.startswith(allowed), f"{relative} imports solo_jax.{rest}"


@pytest.mark.parametrize(
  "path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.stem
)
def test_configs_import_only_the_config_module(path):
  ours = [n for n in imports(path) if n.startswith(("solo_jax", "configs"))]
  assert all(name.startswith("solo_jax.config.") for name in ours), ours


def test_packages_are_empty():
  for path in (ROOT / "solo_jax").rglob("__init__.py"):
    assert not path.read_text().strip(), f"{path} is not empty"


def test_every_library_file_has_a_test():
  for path in FILES:
    relative = path.relative_to(ROOT / "solo_jax")
    if path.name == "__init__.py" or len(relative.parts) == 1:
      continue
    test = ROOT / "tests" / relative.with_name(f"{path.stem}_test.py")
    assert test.exists(), f"{relative} has no {test.relative_to(ROOT)}"


def test_commands_and_types_do_not_import_each_other():
  commands = (
    "train",
    "eval",
    "predict",
    "prepare",
    "convert",
    "export",
    "inspect_data",
    "webapp",
  )
  for path in FILES:
    for name in imports(path):
      assert not name.startswith(
        tuple(f"solo_jax.{command}." for command in commands)
      ), f"{path} imports the command {name}"
