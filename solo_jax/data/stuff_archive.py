"""The archive of a split's stuff maps: a PNG for each image that has one."""

import zipfile

from etils import epath

from solo_jax.errors import UserError

_NEXT = "copy the file again, or add the maps again (prepare --stuff_maps=...)"


def stuff_archive(path: epath.Path, split: str) -> epath.Path:
  """Returns the path of a split's stuff maps; there may be none."""
  return path / f"{split}_stuff.zip"


def open_maps(archive: epath.Path) -> zipfile.ZipFile:
  """Returns an open archive of maps.

  Args:
    archive: Its path; gs:// too.

  Raises:
    UserError: If it is damaged.
  """
  try:
    return zipfile.ZipFile(archive.open("rb"))
  except zipfile.BadZipFile as error:
    raise UserError(f"{archive} cannot be read ({error}); {_NEXT}") from error


def read_map(maps: zipfile.ZipFile, image_id: int) -> bytes:
  """Returns the encoded map of an image, b'' if there is none.

  Args:
    maps: From `open_maps`.
    image_id: Id of the image in the records.

  Raises:
    UserError: If the map is damaged.
  """
  name = f"{image_id}.png"
  if name not in maps.NameToInfo:
    return b""
  try:
    return maps.read(name)
  except zipfile.BadZipFile as error:
    raise UserError(
      f"the stuff map of image {image_id} in {maps.fp.name} is damaged "
      f"({error}); {_NEXT}"
    ) from error
