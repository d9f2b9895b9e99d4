"""The inputs of predict (files, folders, cameras) and the names of outputs."""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TextIO

from solo_jax.data import image_files
from solo_jax.data.file_tree import is_left_behind
from solo_jax.errors import UserError
from solo_jax.media import video

SUFFIXES = (*image_files.SUFFIXES, *video.SUFFIXES)
_MAX_DIGITS = 3  # of the number of a camera


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
  """The inputs to find instances in.

  Attributes:
    images: Image files.
    videos: Video files.
    cameras: Numbers of cameras.
    skipped: How many files of the folders are of other kinds, by suffix.
  """

  images: Sequence[pathlib.Path] = ()
  videos: Sequence[pathlib.Path] = ()
  cameras: Sequence[int] = ()
  skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.images) + len(self.videos) + len(self.cameras)


def find_inputs(arguments: Sequence[str], listed: TextIO) -> Inputs:
  """Returns the inputs that the arguments name.

  Args:
    arguments: Files, folders (their images and videos by suffix, without
      sub-folders), numbers of cameras, and '-'.
    listed: Stream from which '-' reads more paths, one per line.

  Returns:
    The inputs, in the order of the arguments, files of a folder by name. A file
    with the suffix of a video is a video, any other an image.

  Raises:
    UserError: If there are no inputs, or a folder has no such files.
  """
  paths, cameras, skipped = [], [], collections.Counter()
  for argument in arguments:
    path = pathlib.Path(argument)
    if argument == "-":
      paths += _read_list(listed.read())
    elif (
      argument.isdecimal()
      and len(argument) <= _MAX_DIGITS
      and not path.exists()
    ):
      cameras.append(int(argument))
    elif path.is_dir():
      paths += _find_files(path, skipped)
    else:
      paths.append(path)
  is_video = [path.suffix.lower() in video.SUFFIXES for path in paths]
  inputs = Inputs(
    images=[p for p, moves in zip(paths, is_video, strict=True) if not moves],
    videos=[p for p, moves in zip(paths, is_video, strict=True) if moves],
    cameras=cameras,
    skipped=skipped,
  )
  if not len(inputs):
    raise UserError(
      f"nothing to predict in {' '.join(arguments) or '(no arguments)'}: name "
      "images, videos, folders, the number of a camera, or - for a list of "
      "paths on the standard input"
    )
  return inputs


def _read_list(text: str) -> list[pathlib.Path]:
  """Returns the paths of a list, one per line or as of `find -print0`."""
  lines = text.split("\0") if "\0" in text else text.splitlines()
  return [pathlib.Path(x) for line in lines if (x := line.strip())]


def _find_files(
  folder: pathlib.Path, skipped: collections.Counter[str]
) -> list[pathlib.Path]:
  """Returns images and videos of a folder by name; counts all others."""
  found = []
  for path in sorted(folder.iterdir()):
    if is_left_behind(path.name) or not path.is_file():
      continue
    if path.suffix.lower() in SUFFIXES:
      found.append(path)
    else:
      skipped[path.suffix.lower() or "(no suffix)"] += 1
  if not found:
    others = describe_others(skipped)
    raise UserError(
      f"no images or videos in {folder} (sub-folders are not searched): "
      f"expected files with {', '.join(SUFFIXES)}"
      + (f"; found {others}" if others else "")
    )
  return found


def describe_others(skipped: Mapping[str, int]) -> str:
  """Returns the ignored files in words: '3 .heic, 1 .txt'."""
  items = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
  text = ", ".join(f"{count} {suffix}" for suffix, count in items[:10])
  if len(items) > 10:
    text += f", {sum(count for _, count in items[10:])} others"
  if not {".heic", ".heif"}.isdisjoint(skipped):
    text += " (HEIC photographs are not read: convert them to JPEG or PNG)"
  return text
