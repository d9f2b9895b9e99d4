"""The inputs of predict (files, folders, cameras) and the names of outputs."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TextIO

from solo_jax.errors import UserError
from solo_jax.media import video

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
  """The inputs to find instances in.

  Attributes:
    images: Image files.
    videos: Video files.
    cameras: Numbers of cameras.
  """

  images: Sequence[pathlib.Path] = ()
  videos: Sequence[pathlib.Path] = ()
  cameras: Sequence[int] = ()

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
  paths, cameras = [], []
  for argument in arguments:
    path = pathlib.Path(argument)
    if argument == "-":
      paths += [pathlib.Path(x) for line in listed if (x := line.strip())]
    elif argument.isdecimal() and not path.exists():
      cameras.append(int(argument))
    elif path.is_dir():
      paths += _find_files(path)
    else:
      paths.append(path)
  is_video = [path.suffix.lower() in video.SUFFIXES for path in paths]
  inputs = Inputs(
    images=[p for p, moves in zip(paths, is_video, strict=True) if not moves],
    videos=[p for p, moves in zip(paths, is_video, strict=True) if moves],
    cameras=cameras,
  )
  if not len(inputs):
    raise UserError(
      f"nothing to predict in {' '.join(arguments) or '(no arguments)'}: name "
      "images, videos, folders, the number of a camera, or - for a list of "
      "paths on the standard input"
    )
  return inputs


def _find_files(folder: pathlib.Path) -> list[pathlib.Path]:
  suffixes = (*SUFFIXES, *video.SUFFIXES)
  found = sorted(
    path
    for path in folder.iterdir()
    if path.suffix.lower() in suffixes and path.is_file()
  )
  if not found:
    raise UserError(
      f"no images or videos in {folder} (sub-folders are not searched): "
      f"expected files with {', '.join(suffixes)}"
    )
  return found


def unique_names(paths: Sequence[pathlib.Path]) -> list[str]:
  """Returns the output name of each file: its stem, numbered if repeated.

  Args:
    paths: Input files.

  Returns:
    One name per file, all different: 'a', 'b', 'a_2'.
  """
  names = {}  # in order
  for path in paths:
    name, number = path.stem, 1
    while name in names:
      number += 1
      name = f"{path.stem}_{number}"
    names[name] = None
  return list(names)
