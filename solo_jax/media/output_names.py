"""Names of the outputs: similar to the inputs, and unique.

No name points outside of its folder, none is longer than file systems allow,
and none is the folder of another one: videos and stacks have their own folder.
"""

import collections
import hashlib
import os
import pathlib
import unicodedata
from collections.abc import Sequence

# Bytes of a part of a name that is kept unchanged: most file systems allow 255,
# including a number and a suffix.
_MAX_BYTES = 200


def output_names(paths: Sequence[pathlib.Path]) -> list[str]:
  """Returns the name of each input's outputs.

  Args:
    paths: Input files.

  Returns:
    The path below the folder that all inputs share, without its suffix: 'a' or
    'day 1/a'. With the suffix if another input differs only in it ('a.png',
    'a.jpg') or lies in a folder with this name; numbered if an input is
    repeated.
  """
  absolute = [pathlib.Path(os.path.abspath(path)) for path in paths]
  if not absolute:
    return []
  shared = os.path.commonpath([path.parent for path in absolute])
  short, full = [], []
  for path in absolute:
    parents = path.relative_to(shared).parts[:-1]
    short.append("/".join(map(_shorten, (*parents, _stem(path)))))
    full.append("/".join(map(_shorten, (*parents, path.name))))
  counts = collections.Counter(map(_key, short))
  folders = {folder for name in short for folder in _folders(_key(name))}
  names, taken, numbers = {}, set(folders), collections.Counter()
  alone = [counts[_key(name)] == 1 for name in short]
  # Names that need their suffix come first.
  for i in sorted(range(len(absolute)), key=lambda i: alone[i]):
    name = short[i]
    if not alone[i] or _key(name) in taken:
      name = full[i]
    while _key(name) in taken:
      numbers[full[i]] += 1
      name = f"{full[i]}_{numbers[full[i]] + 1}"
    taken |= {_key(name), *_folders(_key(name))}
    names[i] = name
  return [names[i] for i in range(len(absolute))]


def _stem(path: pathlib.Path) -> str:
  """Returns a name without suffix, but never '..', as '...png' would give."""
  return path.stem if path.stem.strip(".") else f"_{path.name}"


def _shorten(part: str) -> str:
  encoded = os.fsencode(part)
  if len(encoded) <= _MAX_BYTES:
    return part
  digest = hashlib.sha256(encoded).hexdigest()[:16]
  return f"{part[: _MAX_BYTES // 5]}_{digest}"


def _key(name: str) -> str:
  """Returns a form in which names that any file system equates are equal."""
  return unicodedata.normalize("NFC", name).casefold()


def _folders(name: str) -> list[str]:
  parts = name.split("/")
  return ["/".join(parts[:count]) for count in range(1, len(parts))]
