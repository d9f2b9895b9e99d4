r"""Builds records from a dataset's own files and prints a summary.

Drawn scenes, no source needed:

python -m solo_jax.prepare --dataset=shapes --data_dir=data

COCO 2017 (folders or the official zip archives; `--source=download` fetches
them, 19 GB):

python -m solo_jax.prepare --dataset=coco_instances --source=DIR --data_dir=data

Any COCO-format files:

python -m solo_jax.prepare --dataset=coco_instances --name=my_data \
    --train_annotations=a.json --train_images=DIR_OR_ZIP \
    --validation_annotations=b.json --validation_images=DIR_OR_ZIP

Pairs of images/ and labels/, split by index.json or by ratio:

python -m solo_jax.prepare --dataset=labeled_images --source=DIR --name=nuclei
"""

import pathlib

import rich.console
import rich.table
from absl import app, flags, logging

from solo_jax import command
from solo_jax.data import coco_instances, labeled_images, shapes
from solo_jax.data.builder import RecordsBuilder
from solo_jax.data.records import Records, find_prepared, list_splits

_DATASETS = ("shapes", "coco_instances", "labeled_images")
_NUM_LISTED = 20  # problems shown; the dataset's metadata keeps more

_DATASET = flags.DEFINE_enum(
  "dataset", None, _DATASETS, "Kind of the source.", required=True
)
_SOURCE = flags.DEFINE_string(
  "source", None, "Folder of the source; for coco_instances also 'download'."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", "data", "Directory of all prepared datasets."
)
_NAME = flags.DEFINE_string(
  "name",
  None,
  "Name of the dataset below its kind. Default: 2017 for coco_instances, the "
  "name of the source folder for labeled_images, none for shapes.",
)
_STRICT = flags.DEFINE_bool(
  "strict", False, "Refuse a source with problems instead of skipping them."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the drawn scenes.")
_CLASS_NAME = flags.DEFINE_string(
  "class_name", "object", "Name of the class of labeled images."
)
_VALIDATION_FRACTION = flags.DEFINE_float(
  "validation_fraction", 0.1, "For labeled images without an index.json."
)
_CUSTOM = {
  split: (
    flags.DEFINE_string(
      f"{split}_annotations", None, f"COCO annotation file of {split}."
    ),
    flags.DEFINE_string(
      f"{split}_images", None, f"Folder or zip of the images of {split}."
    ),
  )
  for split in ("train", "validation")
}


def _find_custom() -> dict[str, coco_instances.SplitFiles]:
  """Opens the pairs that flags name; a split may be left out."""
  splits = {}
  for split, (annotations, images) in _CUSTOM.items():
    if bool(annotations.value) != bool(images.value):
      raise app.UsageError(
        f"--{split}_annotations and --{split}_images come together."
      )
    if annotations.value:
      splits[split] = coco_instances.find_custom(
        annotations.value, images.value
      )
  return splits


def _is_custom() -> bool:
  return any(flag.value for pair in _CUSTOM.values() for flag in pair)


def _pick_name() -> str:
  """Returns the dataset's name below its kind."""
  if _NAME.value is not None:
    return _NAME.value
  if _DATASET.value == "coco_instances":
    if _is_custom():
      raise app.UsageError("Annotations of your own need a --name=...")
    return "2017"
  if _DATASET.value == "labeled_images" and _SOURCE.value:
    return pathlib.Path(_SOURCE.value).resolve().name
  return ""


def _make_builder(name: str) -> RecordsBuilder:
  """Makes the builder that the flags describe; opens its source."""
  common = dict(data_dir=_DATA_DIR.value, name=name)
  if _DATASET.value == "shapes":
    return shapes.Shapes(**common, seed=_SEED.value)
  if _is_custom():
    if _SOURCE.value or _DATASET.value != "coco_instances":
      raise app.UsageError(
        "--train_annotations and so on go with --dataset=coco_instances and "
        "take the place of --source."
      )
    return coco_instances.CocoInstances(
      **common, splits=_find_custom(), is_strict=_STRICT.value
    )
  if not _SOURCE.value:
    raise app.UsageError(f"--dataset={_DATASET.value} needs a --source=...")
  if _DATASET.value == "labeled_images":
    return labeled_images.LabeledImages(
      **common,
      source=_SOURCE.value,
      class_name=_CLASS_NAME.value,
      validation_fraction=_VALIDATION_FRACTION.value,
      is_strict=_STRICT.value,
    )
  is_download = _SOURCE.value == "download"
  return coco_instances.CocoInstances(
    **common,
    splits=None if is_download else coco_instances.find_coco(_SOURCE.value),
    is_strict=_STRICT.value,
  )


def print_summary(path: pathlib.Path, console: rich.console.Console) -> None:
  """Prints what a prepared dataset holds and what was skipped.

  Args:
    path: Folder of the prepared dataset.
    console: Where to print.
  """
  splits = [Records(path, split) for split in list_splits(path)]
  table = rich.table.Table("", title=str(path))
  for records in splits:
    table.add_column(records.split, justify="right")
  rows = {
    "images": len,
    "instances": lambda records: records.num_objects.sum(),
    "crowds": lambda records: records.num_crowds.sum(),
    "empty images": lambda records: (records.num_objects == 0).sum(),
    "most instances": lambda records: records.num_objects.max(),
  }
  for label, count in rows.items():
    table.add_row(label, *(f"{count(records):,}" for records in splits))
  console.print(table)
  names = splits[0].class_names
  shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
  metadata = splits[0].metadata
  console.print(f"{len(names)} classes: {shown}", highlight=False)
  console.print(f"Made from {metadata['source']}", highlight=False)
  console.print(f"{metadata['num_problems']} problems, skipped")
  for line in metadata["problems"][:_NUM_LISTED]:
    console.print(f"  {line}", markup=False, highlight=False)
  if metadata["num_problems"] > _NUM_LISTED:
    console.print(f"  and more: see {path / 'metadata.json'}")


def main(argv: list[str]) -> None:
  """Prepares a dataset, or says that it is prepared already."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
  logging.set_verbosity(logging.ERROR)  # TFDS warns of every custom name
  console = rich.console.Console()
  name = _pick_name()
  full_name = "/".join(filter(None, (_DATASET.value, name)))
  path = find_prepared(_DATA_DIR.value, full_name)
  if path:
    console.print(
      f"Already prepared: {path} (delete it to build it again).",
      highlight=False,
    )
  else:
    path = _make_builder(name).prepare()
  print_summary(path, console)


if __name__ == "__main__":
  command.run(main)
