r"""Converts a dataset to records and prints a summary.

Drawn scenes, which need no source; data/shapes/examples has some to try:

python -m solo_jax.prepare --dataset=shapes --data_dir=data

COCO 2017 (folders or the official zip archives; `--source=download` fetches
them, 19 GB):

python -m solo_jax.prepare --dataset=coco_instances --source=DIR --data_dir=data

Any COCO-format files:

python -m solo_jax.prepare --dataset=coco_instances --name=my_data \
    --train_annotations=a.json --train_images=DIR_OR_ZIP \
    --validation_annotations=b.json --validation_images=DIR_OR_ZIP

Without the last line, a tenth of the images is held out for validation.

Pairs of images/ and labels/, split by index.json or by ratio:

python -m solo_jax.prepare --dataset=labeled_images --source=DIR --name=nuclei

Everything skipped, repaired or suspicious is counted by kind. Skipping all
images, or more than --max_lost, is an error.
"""

import functools
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import rich.console
from absl import app, flags

from solo_jax import cli
from solo_jax.data import (
  coco_instances,
  exif,
  label_pairs,
  labeled_images,
  shapes,
)
from solo_jax.data.builder import TOLERANT, RecordsBuilder, Tolerance
from solo_jax.data.file_tree import MAX_PIXELS, PIXELS_LIMIT
from solo_jax.data.findings import list_kinds
from solo_jax.data.records import Records, find_prepared, list_splits
from solo_jax.errors import UserError, printable
from solo_jax.terminal import make_table, plural

_DATASETS = ("shapes", "coco_instances", "labeled_images")
_NUM_LISTED = 20  # problems shown; the dataset's metadata keeps more

NUM_EXAMPLES = 4  # pictures of drawn scenes
_SPLITS = ("train", "validation")

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the flags: when run, so that commands can be imported together."""
  flags.DEFINE_enum(
    "dataset", None, _DATASETS, "Kind of the source.", required=True
  )
  flags.DEFINE_string(
    "source", None, "Folder of the source; 'download' fetches COCO."
  )
  flags.DEFINE_string("data_dir", "data", "Folder of all prepared datasets.")
  flags.DEFINE_string(
    "name",
    None,
    "Name for the dataset. Default: 2017 for coco_instances, the "
    "name of the source folder for labeled_images, none for shapes.",
  )
  flags.DEFINE_bool(
    "strict", False, "Fail on any problem instead of skipping what it concerns."
  )
  flags.DEFINE_float(
    "max_lost",
    TOLERANT.max_lost,
    "Share of the images and of the annotations that may be skipped; skipping "
    "all is always an error.",
    lower_bound=0.0,
    upper_bound=1.0,
  )
  flags.DEFINE_enum(
    "exif",
    None,
    exif.CHOICES,
    "Whether to turn photographs as their orientation tag says (and store them "
    "as PNG) or use them as stored. Default: as stored; images with a tag are "
    "counted; those whose annotations fit the turned image are problems.",
  )
  flags.DEFINE_bool(
    "split_pieces",
    False,
    "For labeled_images: treat each piece of a value as an object, as in "
    "foreground masks of 0 and 255.",
  )
  flags.DEFINE_integer("seed", 0, "Seed of the drawn scenes.")
  flags.DEFINE_integer(
    "max_pixels",
    MAX_PIXELS,
    "Skip images whose header declares more pixels: they would fill "
    "the memory.",
    lower_bound=1,
    upper_bound=PIXELS_LIMIT,
  )
  flags.DEFINE_string("class_name", "object", "Class name for labeled_images.")
  flags.DEFINE_float(
    "validation_fraction",
    0.1,
    "Share of the images to hold out for validation: of labeled_images without "
    "index.json, and of --train_annotations without --validation_annotations "
    "(0 there: none).",
  )
  for split in _SPLITS:
    flags.DEFINE_string(
      f"{split}_annotations", None, f"COCO annotation file of {split}."
    )
    flags.DEFINE_string(
      f"{split}_images", None, f"Folder or zip file with the images of {split}."
    )


def _custom_flags(split: str) -> tuple[str | None, str | None]:
  """Returns the flags of a split's annotations and images."""
  return FLAGS[f"{split}_annotations"].value, FLAGS[f"{split}_images"].value


def _find_custom() -> dict[str, coco_instances.SplitFiles]:
  """Returns the sources that flags name; a split may be left out."""
  splits = {}
  for split in _SPLITS:
    annotations, images = _custom_flags(split)
    if bool(annotations) != bool(images):
      raise app.UsageError(
        f"--{split}_annotations and --{split}_images go together."
      )
    if annotations:
      splits[split] = coco_instances.find_custom(
        annotations, images, FLAGS.max_pixels
      )
  return splits


def _is_custom() -> bool:
  return any(value for split in _SPLITS for value in _custom_flags(split))


def _pick_name() -> str:
  """Returns the dataset's name below its kind."""
  if FLAGS.name is not None:
    return FLAGS.name
  if FLAGS.dataset == "coco_instances":
    if _is_custom():
      raise app.UsageError("Your own annotations need a --name=...")
    return "2017"
  if FLAGS.dataset == "labeled_images" and FLAGS.source:
    return pathlib.Path(FLAGS.source).resolve().name
  return ""


def _make_builder(name: str) -> RecordsBuilder:
  """Returns the builder that the flags describe, with its source open."""
  common = dict(data_dir=FLAGS.data_dir, name=name)
  tolerance = Tolerance(is_strict=FLAGS.strict, max_lost=FLAGS.max_lost)
  if FLAGS.dataset == "shapes":
    return shapes.Shapes(**common, seed=FLAGS.seed)
  if _is_custom():
    if FLAGS.source or FLAGS.dataset != "coco_instances":
      raise app.UsageError(
        "--train_annotations and so on go with --dataset=coco_instances and "
        "take the place of --source."
      )
    return coco_instances.CocoInstances(
      **common,
      splits=_find_custom(),
      validation_fraction=FLAGS.validation_fraction,
      exif_choice=FLAGS.exif,
      tolerance=tolerance,
    )
  if not FLAGS.source:
    raise app.UsageError(f"--dataset={FLAGS.dataset} needs a --source=...")
  if FLAGS.dataset == "labeled_images":
    return labeled_images.LabeledImages(
      **common,
      source=label_pairs.find_source(
        FLAGS.source, FLAGS.max_pixels, FLAGS.exif, FLAGS.split_pieces
      ),
      class_name=FLAGS.class_name,
      validation_fraction=FLAGS.validation_fraction,
      tolerance=tolerance,
    )
  splits = None
  if FLAGS.source != "download":
    splits = coco_instances.find_coco(FLAGS.source, FLAGS.max_pixels)
  return coco_instances.CocoInstances(
    **common, splits=splits, exif_choice=FLAGS.exif, tolerance=tolerance
  )


def _options() -> dict[str, Any]:
  """Returns the requested options, with sources as full paths."""
  options = {"max_pixels": FLAGS.max_pixels, "exif": FLAGS.exif}
  match FLAGS.dataset:
    case "shapes":
      return {"seed": FLAGS.seed}
    case "labeled_images":
      options["split_pieces"] = FLAGS.split_pieces
      options["class_name"] = FLAGS.class_name
      options["validation_fraction"] = FLAGS.validation_fraction
  if FLAGS.train_annotations and not FLAGS.validation_annotations:
    options["validation_fraction"] = FLAGS.validation_fraction
  custom = [f"{x}_{y}" for x in _SPLITS for y in ("annotations", "images")]
  for flag in ("source", *custom):
    value = FLAGS[flag].value
    if value is not None and value != "download":
      value = str(pathlib.Path(value).resolve())
    options[flag] = value
  return options


def print_summary(path: pathlib.Path, console: rich.console.Console) -> None:
  """Prints what a prepared dataset holds and what was skipped.

  Args:
    path: Folder of the prepared dataset.
    console: Where to print.
  """
  splits = [Records(path, split) for split in list_splits(path)]
  # Names may contain text that rich reads as markup, such as [/b].
  print_plain = functools.partial(
    console.print, markup=False, highlight=False, emoji=False
  )
  print_plain(str(path), soft_wrap=True)
  table = make_table("", *(records.split for records in splits))
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
  names = [printable(name) for name in splits[0].class_names]
  shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
  metadata = splits[0].metadata
  print_plain(f"{plural(len(names), 'class')}: {shown}", soft_wrap=True)
  print_plain(f"Made from {printable(metadata['source'])}", soft_wrap=True)
  for line in list_findings(metadata):
    print_plain(line, soft_wrap=True)
  if metadata["num_problems"]:
    print_plain(f"All of them: {path / 'metadata.json'}", soft_wrap=True)


def list_findings(metadata: Mapping[str, Any]) -> list[str]:
  """Returns what was found while a dataset was prepared.

  Args:
    metadata: Metadata of its records.

  Returns:
    Lines: problems, then repairs and notes, each kind with its count.
  """
  line = f"{plural(metadata['num_problems'], 'problem')}, skipped"
  if "num_images_skipped" in metadata:  # not recorded in older datasets
    images = plural(metadata["num_images_skipped"], "image")
    annotations = plural(metadata["num_annotations_skipped"], "annotation")
    line += f": {images}, {annotations}"
  lines = [line]
  if "kinds" not in metadata:  # nor are the kinds
    return lines + [
      f"  {printable(x)}" for x in metadata["problems"][:_NUM_LISTED]
    ]
  kinds = metadata["kinds"]
  lines += list_kinds(kinds["problems"])
  for name, title in (
    ("repairs", "repaired"),
    ("notes", "worth checking"),
  ):
    if kinds[name]:
      number = sum(count for _, count, _ in kinds[name])
      lines += [f"{number:,} {title}", *list_kinds(kinds[name])]
  return lines


def config_flags(path: pathlib.Path, data_dir: str, name: str) -> list[str]:
  """Returns the flags of the train command that choose a prepared dataset.

  Args:
    path: Folder of the prepared dataset.
    data_dir: Directory of all prepared datasets.
    name: Name of the dataset below it.

  Returns:
    Flags; the splits only if they are not called train and validation.
  """
  splits = list_splits(path)
  records = Records(path, splits[0])
  fields = {
    "data_dir": data_dir,
    "name": name,
    "num_classes": len(records.class_names),
  }
  for field, usual in (("train_split", "train"), ("eval_split", "validation")):
    if usual not in splits:
      fields[field] = splits[0]
  return [f"--config.dataset.{key}={value}" for key, value in fields.items()]


def write_examples(path: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Writes the first held-out scenes as files: there is something to try.

  Args:
    path: Folder of the prepared dataset.
    folder: Where the folder `examples` goes.

  Returns:
    The folder of the PNG files.
  """
  records = Records(path, "validation")
  folder = folder / "examples"
  folder.mkdir(exist_ok=True)
  for record in (records[i] for i in range(min(NUM_EXAMPLES, len(records)))):
    (folder / record["file_name"].decode()).write_bytes(record["image"])
  return folder


def check_same_request(
  path: pathlib.Path, options: Mapping[str, Any], is_strict: bool
) -> None:
  """Raises if a prepared dataset was made with different options.

  Args:
    path: Folder of the prepared dataset.
    options: The options requested now, by flag name; None for options not
      given.
    is_strict: Reject a dataset for which problems were skipped.

  Raises:
    UserError: Naming what differs, and what to do.
  """
  metadata = Records(path, list_splits(path)[0]).metadata
  made_with = metadata.get("options", {})
  problems = [
    f"--{key}={made_with[key]}, not --{key}={value}"
    for key, value in options.items()
    if value is not None and made_with.get(key, value) != value
  ]
  if is_strict and metadata["num_problems"]:
    number = plural(metadata["num_problems"], "problem")
    problems.append(f"{number}, not with --strict")
  if problems:
    raise UserError(
      f"{path} exists already, made with {'; '.join(problems)}. Give the "
      "new dataset another --name, or delete that folder to build it again."
    )


def main() -> None:
  """Prepares a dataset unless it is already prepared."""
  if "://" in FLAGS.data_dir:
    raise UserError(
      f"--data_dir={FLAGS.data_dir}: records are written to a local disk; "
      "prepare them there and copy the folder, for example with "
      f"gcloud storage cp --recursive data {FLAGS.data_dir}"
    )
  console = rich.console.Console()
  name = _pick_name()
  full_name = "/".join(filter(None, (FLAGS.dataset, name)))
  path = find_prepared(FLAGS.data_dir, full_name)
  if path:
    check_same_request(path, _options(), FLAGS.strict)
    if "options" not in Records(path, list_splits(path)[0]).metadata:
      console.print("Its options are not recorded: not compared.")
    console.print(
      f"Already prepared: {path} (delete it to build it again).",
      highlight=False,
      markup=False,
      soft_wrap=True,
    )
  else:
    path = _make_builder(name).prepare(_options())
  print_summary(path, console)
  if FLAGS.dataset == "shapes":
    folder = write_examples(path, pathlib.Path(FLAGS.data_dir) / full_name)
    console.print(
      f"Pictures to predict on: {folder}",
      markup=False,
      highlight=False,
      soft_wrap=True,
    )
  console.print("Train on it with:")
  for flag in config_flags(path, FLAGS.data_dir, full_name):
    console.print(
      f"  {shlex.quote(flag)}", markup=False, highlight=False, soft_wrap=True
    )


if __name__ == "__main__":
  define_flags()
  cli.run(main)
