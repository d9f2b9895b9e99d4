"""Finds the file that an annotation refers to by a different name.

Exporters write paths of their own system or server: with backslashes, percent
signs, extra folders, or in another Unicode form or letter case. A file is
accepted if it is the only match.
"""

import collections
import pathlib
import re
import unicodedata
import urllib.parse
from typing import NamedTuple

from solo_jax.data.file_tree import FileTree, is_outside, is_text, split_suffix
from solo_jax.errors import UserError


class Match(NamedTuple):
  """A file of a tree.

  Attributes:
    name: Its name there.
    difference: How the written name differs; None if it does not.
  """

  name: str
  difference: str | None


class NameFinder:
  """Finds files of a tree by the names that exporters write."""

  def __init__(self, files: FileTree):
    """Makes the finder; it lists the tree when a name differs.

    Args:
      files: The tree.
    """
    self._files = files
    self._by_last: dict[str, list[str]] | None = None

  def find(self, name: str) -> Match:
    """Returns the file that a name refers to.

    Args:
      name: The name in the annotations.

    Returns:
      The only file that matches.

    Raises:
      UserError: If none or several match; the message begins with 'file'.
    """
    if is_text(name) and name in self._files:
      return Match(name, None)
    shown = _show(name)
    if not is_text(name) or "\0" in name or len(name) > 4096:
      raise UserError(f"file {shown} is missing in {self._files}")
    parts = _split(name)
    if (below := self._below(name)) is not None:
      return Match(below, "an absolute path")
    fitting = self._fitting(parts)
    if len(fitting) == 1:
      return Match(fitting[0], _difference(name, fitting[0]))
    if fitting:
      listed = ", ".join(map(_show, fitting[:3]))
      raise UserError(
        f"file {shown} matches {len(fitting)} files in {self._files}: {listed}"
      )
    raise UserError(self._explain(name, parts))

  def _below(self, name: str) -> str | None:
    """Returns the relative name of an absolute path below the tree."""
    for root in {self._files.path.absolute(), self._files.path.resolve()}:
      path = pathlib.Path(name)
      if path.is_absolute() and path.is_relative_to(root):
        below = path.relative_to(root).as_posix()
        return below if below in self._files else None
    return None

  def _list(self) -> dict[str, list[str]]:
    """Returns the files by the normalised last part of their name."""
    if self._by_last is None:
      self._by_last = collections.defaultdict(list)
      for name in self._files.list_names():
        if is_text(name):
          for last in _split(name)[-1:]:
            self._by_last[last].append(name)
    return self._by_last

  def _fitting(self, parts: list[str]) -> list[str]:
    """Returns the files one of whose names ends with the other."""
    if not parts:
      return []
    found = collections.defaultdict(list)
    folder = _split(str(pathlib.Path(self._files.path).absolute()))
    for name in self._list().get(parts[-1], ()):
      own = _split(name)
      if parts in (own, folder + own):
        return self._exact_case(parts, name)
      number = min(len(own), len(parts))
      if own[-number:] == parts[-number:]:
        found[number].append(name)
    return found[max(found)] if found else []

  def _exact_case(self, parts: list[str], name: str) -> list[str]:
    """Returns all files with the same normalised name."""
    own = _split(name)
    return [x for x in self._list()[parts[-1]] if _split(x) == own]

  def _explain(self, name: str, parts: list[str]) -> str:
    """Returns the message for a name without a matching file."""
    shown = _show(name)
    if is_outside(name):
      return (
        f"file {shown} is not below {self._files}; only files below it are read"
      )
    near = self._list().get(parts[-1] if parts else "", ())
    if not near:
      stem = split_suffix(parts[-1])[0] if parts else ""
      near = [
        y
        for last, names in self._list().items()
        if stem and split_suffix(last)[0] == stem
        for y in names
      ]
    hint = f"; there is {_show(near[0])}" if near else ""
    return f"file {shown} is missing in {self._files}{hint}"


def _split(name: str) -> list[str]:
  """Returns the normalised parts of a path, for comparison."""
  if address := re.match(r"[a-z][a-z0-9+.-]+://[^/]*([^?#]*)", name, re.I):
    name = address[1]
  name = name.partition("/data/local-files/?d=")[2] or name  # Label Studio
  name = urllib.parse.unquote(name).replace("\\", "/")
  name = unicodedata.normalize("NFC", name).casefold()
  # Only files of the tree are ever read: parts that point outside are dropped.
  name = re.split(r"(?:^|/)\.\.(?:/|$)", name)[-1]
  return [part for part in name.split("/") if part not in ("", ".")]


def _difference(written: str, name: str) -> str:
  """Returns how a written name differs from that of its file."""
  differences = []
  if "://" in written or "/data/local-files/?d=" in written:
    differences.append("a server address")
  elif "\\" in written and "\\" not in name:
    differences.append("backslashes")
  if "%" in written and "%" not in name:
    differences.append("percent-encoded letters")
  count, own = len(_split(written)), len(_split(name))
  if count > own:
    differences.append("a different folder")
  elif count < own:
    differences.append("no folder")
  last = lambda x: re.split(r"[/\\]", urllib.parse.unquote(x))[-1]  # noqa: E731
  if last(written) != last(name):
    form = lambda x: unicodedata.normalize("NFC", last(x))  # noqa: E731
    is_form = form(written) == form(name)
    differences.append(
      "another Unicode form" if is_form else "different letter case"
    )
  return " and ".join(differences) or "another spelling"


def _show(name: str) -> str:
  return (
    repr(name) if len(repr(name)) < 90 else f"{name[:30]!r}...{name[-30:]!r}"
  )
