"""The published checkpoints with a short name: the rows of published.csv.

A name without a suffix stands for weights that anyone may download. Names of
weights that are only available through a web page, and of methods that several
code bases published, have their code base as suffix. AP is the figure that the
code base reports; this project did not measure any of them.
"""

import csv
import dataclasses
import difflib
import pathlib
import re

COCO = "COCO val2017 mask AP"
_ACADEMIC = "BSD-2-Clause, academic use only"
# Licence of the weights, and their web page.
CODE_BASES = {
  "WXinlong/SOLO": (_ACADEMIC, "https://github.com/WXinlong/SOLO"),
  "AdelaiDet": (_ACADEMIC, "https://github.com/aim-uofa/AdelaiDet"),
  "dbolya/yolact": ("MIT", "https://github.com/dbolya/yolact"),
  "mmdetection 3": (
    "Apache-2.0",
    "https://github.com/open-mmlab/mmdetection",
  ),
  "Mask2Former on the Hugging Face Hub": (
    "CC-BY-NC-4.0",
    "https://huggingface.co/facebook",
  ),
  "facebookresearch/Mask2Former": (
    "CC-BY-NC-4.0",
    "https://github.com/facebookresearch/Mask2Former",
  ),
  "hustvl/QueryInst": ("MIT", "https://github.com/hustvl/QueryInst"),
  "detectron2": (
    "CC-BY-SA-3.0",
    "https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md",
  ),
  "Swin Transformer": (
    "MIT",
    "https://github.com/microsoft/Swin-Transformer",
  ),
  "torchvision": (
    "BSD-3-Clause",
    "https://docs.pytorch.org/vision/stable/models.html",
  ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """A row of the table.

  Attributes:
    name: Name for users.
    code_base: Who published it, the heading in docs/model_zoo.md.
    original: Name of its config there.
    published_as: The file, or the name in the code base's list of models.
    config: File in configs/ with its argument; None for a single backbone, to
      be used as `backbone.weights`.
    ap: Published figure; None for a single backbone.
    licence: Licence of the weights.
    source: Address of the file, or hf:owner/model; None if it is only on a web
      page.
    page: Web page of the file.
    megabytes: Size of its float32 weights; None if unknown.
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


def _read() -> tuple[Published, ...]:
  """Returns the rows of published.csv."""
  path = pathlib.Path(__file__).with_suffix(".csv")
  with open(path, newline="", encoding="utf-8") as file:
    return tuple(_to_row(values) for values in csv.DictReader(file))


def _to_row(values: dict[str, str]) -> Published:
  licence, page = CODE_BASES[values["code_base"]]
  ap, megabytes = values["ap"], values["megabytes"]
  return Published(
    name=values["name"],
    code_base=values["code_base"],
    original=values["original"],
    published_as=values["published_as"],
    config=values["config"] or None,
    ap=float(ap) if ap else None,
    licence=licence,
    source=values["source"] or None,
    page=page,
    megabytes=int(megabytes) if megabytes else None,
  )


PUBLISHED = _read()
_BY_TEXT = {row.name: row for row in PUBLISHED}
_BY_TEXT |= {row.source: row for row in PUBLISHED if row.source is not None}


def find(text: str) -> Published | None:
  """Returns the row of a name or of an address, None if there is none."""
  return _BY_TEXT.get(text)


def nearest(text: str) -> list[str]:
  """Returns up to three names that resemble a text, the nearest first."""
  names = [row.name for row in PUBLISHED]
  return difflib.get_close_matches(text.lower(), names, n=3, cutoff=0.4)
