"""Finds the folder, model and config of a checkpoint that a user names.

A user may pass the folder of a run or of one checkpoint, the file of another
code base, a name in `published.py`, an https:// address, or hf:owner/model. All
but folders are converted once, into the cache, with the readers of
`conversion/`, which execute nothing in a file.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import pathlib
import re
import shutil
import sys
from typing import Any

import ml_collections
from etils import epath

from solo_jax import published
from solo_jax.building import build_method, build_model, check_config
from solo_jax.cache import cache_folder, fill_once
from solo_jax.cached import key
from solo_jax.checkpoints import converted, hub, store
from solo_jax.checkpoints.damage import reason
from solo_jax.checkpoints.folders import absolute
from solo_jax.checkpoints.state import variable_shapes
from solo_jax.config import config_folder
from solo_jax.conversion import checkpoint_file, transformers_config
from solo_jax.conversion.converter import (
  VERSION,
  convert_checkpoint,
  suggest_config,
)
from solo_jax.conversion.families import find_family
from solo_jax.conversion.recognition import recognize
from solo_jax.errors import UserError, printable
from solo_jax.inference.predictor import Model
from solo_jax.published import Published

_ENDINGS = (".pth", ".pt", ".bin", ".pkl", ".safetensors")
_LIST = "python -m solo_jax.convert --list"


def load(text: str) -> store.Checkpoint:
  """Returns the checkpoint that a user names.

  Args:
    text: See the top of this file.

  Returns:
    The checkpoint.

  Raises:
    UserError: If it does not exist or cannot be downloaded, converted or read.
  """
  return store.load(find_folder(text))


def load_model(text: str) -> Model:
  """Returns the model of the checkpoint that a user names.

  Args:
    text: See the top of this file.

  Returns:
    The model.

  Raises:
    UserError: See `load`.
  """
  checkpoint = load(text)
  if not checkpoint.class_names:
    raise UserError(
      f"{text} is a backbone without a head; train on it with "
      f"--config.training.init_from={text}"
    )
  for line in checkpoint.warnings():
    _say(line)
  model = build_model(
    checkpoint.config,
    checkpoint.variables,
    class_names=checkpoint.class_names,
    category_ids=checkpoint.category_ids,
  )
  return dataclasses.replace(model, exif=checkpoint.exif or "ignore")


def find_folder(text: str) -> str:
  """Returns the folder of a checkpoint, downloaded and converted if need be.

  Checks the cache first, which needs no network.

  Args:
    text: See the top of this file.

  Returns:
    The folder; it may not exist if the text is a path.

  Raises:
    UserError: If the text is neither a path nor a name, or the file cannot be
      downloaded or converted.
  """
  if _is_path(text):
    is_file = text.endswith(_ENDINGS) and epath.Path(text).is_file()
    if is_file or transformers_config.is_folder(text):
      return _converted(text)
    return text
  row = published.find(text)
  if row is None and not hub.is_address(text):
    raise _unknown(text)
  if row is not None and row.config is None:
    raise UserError(
      f"{text} is a backbone without a head; train on it with "
      f"--config.backbone.weights={text}"
    )
  folder = cache_folder() / "checkpoints" / key(text, row)
  return str(fill_once(folder, functools.partial(_fetch, text, row)) / "run")


def find_file(text: str) -> str:
  """Returns the path of a file of weights, downloaded if need be.

  Args:
    text: A path, a name of `published.py` or an address; any other text is
      returned unchanged.

  Returns:
    The path.

  Raises:
    UserError: If the file cannot be downloaded, or is not a backbone.
  """
  row = None if epath.Path(text).exists() else published.find(text)
  if row is None and not hub.is_address(text):
    return text
  if row is not None and row.config is not None:
    raise UserError(
      f"{text} is a whole network, not a backbone; start from it with "
      f"--config.training.init_from={text}"
    )
  folder = cache_folder() / "files" / key(text, row)
  fill_once(
    folder,
    lambda part: _download(text, row, _find_remote(text, row), part),
  )
  return str(next(folder.iterdir()))


def convert_file(
  path: str,
  out: str,
  *,
  config: ml_collections.ConfigDict | None,
  origin: dict[str, Any],
  **options: Any,
) -> tuple[str, ...]:
  """Returns a report after converting a foreign file to a checkpoint.

  Args:
    path: The file.
    out: Folder for the checkpoint; must be new or empty.
    config: Config of the network; None raises an error that names it.
    origin: Saved with the checkpoint, with additions of the conversion.
    **options: See `converter.convert_checkpoint`.

  Returns:
    Lines for the user.

  Raises:
    UserError: See `converter.convert_checkpoint`. Nothing is written then.
  """
  if config is not None:
    check_config(config)
  conversion = convert_checkpoint(path, config, find_shapes, **options)
  try:
    converted.save_converted(
      out,
      variables=conversion.variables,
      config=config,
      class_names=tuple(name for _, name in conversion.classes),
      category_ids=tuple(number for number, _ in conversion.classes),
      origin={**conversion.origin, **origin},
    )
  except (OSError, UserError):
    raise
  except Exception as error:  # Orbax, for example on a full disk
    raise UserError(f"{out} cannot be written ({reason(error)})") from error
  return conversion.lines


def convert_folder(
  folder: str, out: str, origin: dict[str, Any]
) -> tuple[str, ...]:
  """Converts a folder of transformers, whose files describe the network.

  Args:
    folder: With the weights, config.json and preprocessor_config.json.
    out: See `convert_file`.
    origin: See `convert_file`.

  Returns:
    Lines for the user.

  Raises:
    UserError: See `transformers_config.read` and `convert_file`.
  """
  described = transformers_config.read(folder)
  config = load_config(described.config)
  with config.unlocked():
    config.update_from_flattened_dict(described.fields)
  lines = convert_file(
    str(described.weights),
    out,
    config=config,
    origin=origin,
    class_names=described.class_names,
    is_other_input=True,
  )
  return *lines, *(f"           {note}" for note in described.notes)


def load_config(text: str) -> ml_collections.ConfigDict:
  """Returns one of this project's configs.

  Args:
    text: File in configs/ with its argument after a colon.

  Returns:
    The configuration, locked.
  """
  name, _, argument = text.partition(":")
  path = config_folder() / name
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(argument)


def find_shapes(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the shapes of the variables of a config's network."""
  return variable_shapes(
    build_method(config).network, image_size=config.transforms.image_size
  )


def _is_path(text: str) -> bool:
  """Returns whether a text can only be a path, which is never sent."""
  if hub.is_address(text):
    return False
  looks_like_one = re.search(r"[/\\]|^[.~]", text) is not None
  return looks_like_one or epath.Path(text).exists()


def _unknown(text: str) -> UserError:
  nearest = published.nearest(text)
  hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
  return UserError(
    f"no checkpoint at {absolute(text)}: the folder does not exist, and "
    f"{text!r} does not name published weights{hint}\n{_LIST} shows the names; "
    "train a checkpoint with python -m solo_jax.train --config=... "
    "--workdir=..."
  )


def _fetch(text: str, row: Published | None, part: pathlib.Path) -> None:
  """Downloads and converts into an empty folder; deletes the files."""
  remote = _find_remote(text, row)
  files = part / "files"
  files.mkdir()
  origin = _download(text, row, remote, files)
  for name, content in remote.companions.items():
    (files / name).write_bytes(content)
  if row is None and transformers_config.is_folder(str(files)):
    _convert(str(files), part / "run", None, origin)
  else:
    path = str(files / remote.file_name)
    _convert(path, part / "run", row and row.config, origin)
  shutil.rmtree(files)


def _find_remote(text: str, row: Published | None) -> hub.Remote:
  """Returns the file of a row or of an address."""
  if row is None:
    return hub.find_remote(text)
  if row.source is None:
    raise UserError(
      f"{row.name}: its file {row.published_as} is only offered on a web page, "
      f"{row.page}; download it there (licence: {row.licence}), then run\n"
      f"python -m solo_jax.convert --checkpoint=FILE "
      f"--config=configs/{row.config} --out=checkpoints/{row.name}"
    )
  return hub.find_remote(row.source, row.digest)


def _download(
  text: str, row: Published | None, remote: hub.Remote, part: pathlib.Path
) -> dict[str, Any]:
  """Downloads a file, prints its source and licence, and returns them."""
  licence = row.licence if row is not None else remote.licence
  _say(f"name       {text}")
  _say(f"source     {remote.address}")
  _say(f"licence    {licence or 'not stated; ask where you got the address'}")
  origin = hub.download(remote, part)
  origin |= dict(licence=licence, name=row and row.name)
  if row is not None:
    origin |= dict(page=row.page, published_ap=row.ap)
  return origin


def _converted(text: str) -> str:
  """Returns the folder of a user's own file, or transformers folder, converted.

  The content is the key: a file that was changed is converted again.
  """
  path = pathlib.Path(text)
  digest = hashlib.sha256(repr(VERSION).encode())
  for file in sorted(path.iterdir()) if path.is_dir() else [path]:
    if file.is_file():
      with open(file, "rb") as content:
        digest.update(hashlib.file_digest(content, "sha256").digest())
  name = f"{path.absolute().stem}-{digest.hexdigest()[:8]}"

  def make(part):
    _say(f"converting {text}")
    _convert(text, part / "run", None, {"source": path.name})

  folder = cache_folder() / "checkpoints" / name
  return str(fill_once(folder, make) / "run")


def _convert(
  path: str, out: pathlib.Path, config: str | None, origin: dict[str, Any]
) -> None:
  """Converts with a config in configs/, or with one derived from the files."""
  if pathlib.Path(path).is_dir():
    lines = convert_folder(path, str(out), origin)
  else:
    made = load_config(config) if config else _guess_config(path)
    lines = convert_file(path, str(out), config=made, origin=origin)
  for line in lines:
    _say(line)


def _guess_config(path: str) -> ml_collections.ConfigDict:
  """Returns the config that fits a file, for its number of classes."""
  arrays = checkpoint_file.read(path).arrays
  family = find_family(None, arrays)
  network = recognize(family, arrays)
  if network.method is None:
    raise UserError(
      f"{path} is a backbone without a head; train on it with "
      f"--config.backbone.weights={path}"
    )
  text = suggest_config(family, network).removeprefix("configs/")
  config = load_config(text)
  _say(f"config     configs/{text}")
  with config.unlocked():
    config.dataset.num_classes = network.num_classes
  return config


def _say(line: str) -> None:
  print(printable(line), file=sys.stderr, flush=True)
