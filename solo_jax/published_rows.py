"""What a row of the table of published checkpoints holds; see published.py."""

import dataclasses
import re

_OPENMMLAB = "https://download.openmmlab.com/mmdetection/v2.0/"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """A row of the table.

  Attributes:
    name: What a user writes.
    code_base: Who published it, the heading in docs/model_zoo.md.
    original: Name of its config there.
    published_as: The file, or the name in the code base's list of models.
    config: File in configs/ with its argument; None of a backbone alone, which
      is for `backbone.weights`.
    ap: Published figure; None of a backbone alone.
    licence: Of the weights.
    source: Address of the file, or hf:owner/model; None: only a page has it.
    page: Where a person finds it.
    megabytes: Of its float32 weights; None if not known.
  """

  name: str
  code_base: str
  original: str
  published_as: str
  config: str | None
  ap: float | None
  licence: str
  source: str | None
  page: str
  megabytes: int | None

  @property
  def digest(self) -> str | None:
    """Returns the first digits of its SHA-256 that the file's name carries."""
    found = re.search(r"-([0-9a-f]{8})\.pth$", self.published_as)
    return found and found[1]


def make_rows(code_base, licence, page, make_source, rows):
  """Returns the rows of a code base."""
  return tuple(
    Published(
      name=name,
      code_base=code_base,
      original=original,
      published_as=published_as,
      config=config,
      ap=ap,
      licence=licence,
      source=make_source(published_as),
      page=page,
      megabytes=megabytes,
    )
    for name, original, published_as, config, ap, megabytes in rows
  )


def in_openmmlab(folder):
  """Returns the addresses of mmdetection: a folder is a name without a date."""

  def address(file):
    return f"{_OPENMMLAB}{folder}/{re.split('_20|-', file)[0]}/{file}"

  return address
