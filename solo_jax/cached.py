"""Names of downloads and converted weights in the cache."""

import hashlib
import pathlib
import re

from solo_jax import published
from solo_jax.cache import cache_folder
from solo_jax.conversion.converter import VERSION
from solo_jax.errors import UserError
from solo_jax.published import Published

_KINDS = ("checkpoints", "files")  # folders in the cache


def key(text: str, row: Published | None) -> str:
  """Returns the name of the folder of a row or an address in the cache.

  The name includes everything that a conversion depends on, so that a change
  leads to a new conversion.

  Args:
    text: The address.
    row: The row, None for an address.

  Returns:
    A file name that ends with eight digits.
  """
  if row is None:
    words = re.sub(r"[^\w.-]+", "-", text.split("://")[-1])[-60:].strip("-.")
    source = (text,)
  else:
    words, source = row.name, (row.source, row.digest, row.config)
  digest = hashlib.sha256(repr((VERSION, source)).encode()).hexdigest()
  return f"{words}-{digest[:8]}"


def is_cached(row: Published) -> pathlib.Path | None:
  """Returns the folder in the cache that holds a row, None if there is none."""
  kind = "files" if row.config is None else "checkpoints"
  folder = cache_folder() / kind / key(row.name, row)
  return folder if folder.exists() else None


def others() -> list[pathlib.Path]:
  """Returns all other folders: of addresses, files, older versions of rows."""
  root = cache_folder()
  rows = {is_cached(row) for row in published.PUBLISHED}
  folders = (x for kind in _KINDS for x in (root / kind).glob("[!.]*"))
  return sorted(x for x in folders if x not in rows)


def find_cached(text: str) -> list[pathlib.Path]:
  """Returns the folders in the cache that belong to a text.

  Args:
    text: A name, an address, the name of a folder in the cache, or 'all' for
      everything, programs included.

  Returns:
    Folders, those of older versions of a row included.

  Raises:
    UserError: If there is nothing.
  """
  root = cache_folder()
  if text == "all":
    found = [x for x in root.glob("*") if not x.name.startswith(".")]
  else:
    stem = re.escape(key(text, published.find(text))[: -len("-01234567")])
    kept = re.compile(rf"{stem}-[0-9a-f]{{8}}|{re.escape(text)}")
    folders = [x for kind in _KINDS for x in (root / kind).glob("*")]
    found = [x for x in folders if kept.fullmatch(x.name)]
  if not found:
    raise UserError(f"nothing of {text!r} is in the cache, {root}")
  return sorted(found)
