r"""Converts a dataset to records and prints a summary.

Drawn scenes, which need no source (some are written to data/shapes/examples as
images to try):

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

Panoptic data in COCO's format, JSON and PNG; for your own, pass
--train_annotations, --train_segments (the PNG files; label images and
classes.json if the annotations are instances) and --train_images:

python -m solo_jax.prepare --dataset=coco_panoptic --source=DIR

Pairs of images/ and labels/ whose values are classes, with classes.json:

python -m solo_jax.prepare --dataset=semantic_images --source=DIR --name=streets

Everything skipped, repaired or suspicious is counted by kind. Skipping all
images, or more than --max_lost, is an error.
"""

import functools
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from absl import app, flags

from solo_jax import cli
from solo_jax.data import (
  coco_instances,
  coco_panoptic,
  exif,
  label_pairs,
  labeled_images,
  panoptic_files,
  semantic_images,
  shapes,
  stuff_maps,
)
from solo_jax.data.builder import TOLERANT, RecordsBuilder, Tolerance
from solo_jax.data.file_tree import FileTree
from solo_jax.data.records import Records, find_prepared, list_splits
from solo_jax.data.summary import print_summary
from solo_jax.errors import UserError
from solo_jax.terminal import Console, plural

_DATASETS = (
  "shapes",
  "coco_instances",
  "coco_panoptic",
  "labeled_images",
  "semantic_images",
)
# Flags of each split of your own annotations.
_PARTS = {
  "coco_instances": ("annotations", "images"),
  "coco_panoptic": ("annotations", "segments", "images"),
}

NUM_EXAMPLES = 4  # pictures of drawn scenes
_SPLITS = ("train", "validation")

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the flags, not on import, so that commands can share a process."""
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
    "Name for the dataset. Default: 2017 for COCO, the name of the source "
    "folder for label images, none for shapes.",
  )
  flags.DEFINE_bool(
    "strict",
    False,
    "Fail on any problem instead of skipping the affected data.",
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
    "Whether to rotate photographs by their orientation tag (and store them as "
    "PNG) or use them as stored. Default: as stored; images with a tag are "
    "counted; those whose annotations fit the rotated image are problems.",
  )
  flags.DEFINE_bool(
    "split_pieces",
    False,
    "For labeled_images: treat each connected piece of a value as an object, "
    "for example in foreground masks of 0 and 255.",
  )
  flags.DEFINE_string(
    "stuff_maps",
    None,
    "Folder or zip file of COCO-stuff's maps (stuffthingmaps_trainval2017.zip) "
    "with a PNG for each image; HTC's semantic branch is trained on them.",
  )
  flags.DEFINE_integer("seed", 0, "Seed of the drawn scenes.")
  cli.define_max_pixels_flag(
    "Skip images whose header declares more pixels: they would fill the memory."
  )
  flags.DEFINE_string("class_name", "object", "Class name for labeled_images.")
  flags.DEFINE_float(
    "validation_fraction",
    0.1,
    "Share of the images to hold out for validation, for labeled_images "
    "without index.json and for --train_annotations without "
    "--validation_annotations (where 0 means none).",
  )
  _define_split_flags()


def _define_split_flags() -> None:
  """Defines the flags that name the files of each split."""
  for split in _SPLITS:
    flags.DEFINE_string(
      f"{split}_annotations", None, f"COCO annotation file of {split}."
    )
    flags.DEFINE_string(
      f"{split}_images", None, f"Folder or zip file with the images of {split}."
    )
    flags.DEFINE_string(
      f"{split}_segments",
      None,
      f"For coco_panoptic: folder or zip file with the PNG files of {split}.",
    )


def _custom_flags(split: str) -> dict[str, str | None]:
  """Returns the flags of a split of your own, by part."""
  return {
    part: FLAGS[f"{split}_{part}"].value
    for part in _PARTS["coco_panoptic"]  # has them all
  }


def _find_custom() -> dict[str, Any]:
  """Returns the sources that flags name; a split may be left out."""
  parts, splits = _PARTS.get(FLAGS.dataset, ()), {}
  find = dict(
    coco_instances=coco_instances.find_custom,
    coco_panoptic=panoptic_files.find_custom,
  )
  for split in _SPLITS:
    given = {k: x for k, x in _custom_flags(split).items() if x is not None}
    if given and set(given) != set(parts):
      needed = " and ".join(f"--{split}_{part}" for part in parts)
      raise app.UsageError(f"{needed} go together.")
    if given:
      splits[split] = find[FLAGS.dataset](
        *(given[part] for part in parts), FLAGS.max_pixels
      )
  return splits


def _is_custom() -> bool:
  return any(any(_custom_flags(split).values()) for split in _SPLITS)


def _pick_name() -> str:
  """Returns the dataset's name below its kind."""
  if FLAGS.name is not None:
    return FLAGS.name
  if FLAGS.dataset in _PARTS:
    if _is_custom():
      raise app.UsageError("Your own annotations need a --name=...")
    return "2017"
  if FLAGS.dataset != "shapes" and FLAGS.source:
    return pathlib.Path(FLAGS.source).resolve().name
  return ""


def _make_builder(name: str) -> RecordsBuilder:
  """Returns the builder that the flags describe, with its source open."""
  common = dict(data_dir=FLAGS.data_dir, name=name)
  tolerance = Tolerance(is_strict=FLAGS.strict, max_lost=FLAGS.max_lost)
  if FLAGS.dataset == "shapes":
    return shapes.Shapes(**common, seed=FLAGS.seed)
  if _is_custom() and (FLAGS.source or FLAGS.dataset not in _PARTS):
    raise app.UsageError(
      f"--train_annotations and so on go with --dataset={' or '.join(_PARTS)} "
      "and take the place of --source."
    )
  if not FLAGS.source and not _is_custom():
    raise app.UsageError(f"--dataset={FLAGS.dataset} needs a --source=...")
  if FLAGS.dataset in _PARTS:
    return _make_coco_builder(
      exif_choice=FLAGS.exif, **common, tolerance=tolerance
    )
  source = label_pairs.find_source(
    FLAGS.source, FLAGS.max_pixels, FLAGS.exif, FLAGS.split_pieces
  )
  common |= dict(
    source=source,
    validation_fraction=FLAGS.validation_fraction,
    tolerance=tolerance,
  )
  if FLAGS.dataset == "semantic_images":
    return semantic_images.SemanticImages(**common)
  return labeled_images.LabeledImages(**common, class_name=FLAGS.class_name)


def _make_coco_builder(**common: Any) -> RecordsBuilder:
  """Returns the builder of a dataset in COCO's format."""
  splits = _find_custom() if _is_custom() else None
  if FLAGS.dataset == "coco_panoptic":
    if splits is None:
      splits = panoptic_files.find_coco(FLAGS.source, FLAGS.max_pixels)
    return coco_panoptic.CocoPanoptic(**common, splits=splits)
  if splits is None and FLAGS.source != "download":
    splits = coco_instances.find_coco(FLAGS.source, FLAGS.max_pixels)
  fraction = FLAGS.validation_fraction if _is_custom() else 0.0
  return coco_instances.CocoInstances(
    **common, splits=splits, validation_fraction=fraction
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
    case "semantic_images":
      options["validation_fraction"] = FLAGS.validation_fraction
  if FLAGS.train_annotations and not FLAGS.validation_annotations:
    options["validation_fraction"] = FLAGS.validation_fraction
  custom = [f"{x}_{y}" for x in _SPLITS for y in _PARTS["coco_panoptic"]]
  for flag in ("source", *custom):
    value = FLAGS[flag].value
    if value is not None and value != "download":
      value = str(pathlib.Path(value).resolve())
    options[flag] = value
  return options


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
  """Writes the first held-out scenes as image files, as examples.

  Args:
    path: Folder of the prepared dataset.
    folder: Parent of the folder `examples`.

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
    problems.append(f"{number}, which --strict does not allow")
  if problems:
    raise UserError(
      f"{path} exists already, made with {'; '.join(problems)}. Give the "
      "new dataset another --name, or delete that folder to build it again."
    )


def _add_stuff_maps(path: pathlib.Path, console: Console) -> None:
  tree = FileTree(FLAGS.stuff_maps, FLAGS.max_pixels)
  missing = stuff_maps.add_stuff_maps(path, tree)
  classes = max(stuff_maps.count_classes(Records(path, x)) for x in missing)
  console.print(
    "Maps of stuff added; images without one: "
    + ", ".join(f"{number} of {split}" for split, number in missing.items())
    + f". Set network.semantic_classes={classes} (HTC) or more.",
    highlight=False,
  )


def main() -> None:
  """Prepares a dataset unless it is already prepared."""
  if "://" in FLAGS.data_dir:
    raise UserError(
      f"--data_dir={FLAGS.data_dir}: records are written to a local disk; "
      "prepare them there and copy the folder, for example with "
      f"gcloud storage cp --recursive data {FLAGS.data_dir}"
    )
  console = Console()
  print_plain = functools.partial(
    console.print, markup=False, highlight=False, soft_wrap=True
  )
  name = _pick_name()
  full_name = "/".join(filter(None, (FLAGS.dataset, name)))
  path = find_prepared(FLAGS.data_dir, full_name)
  if path:
    check_same_request(path, _options(), FLAGS.strict)
    if "options" not in Records(path, list_splits(path)[0]).metadata:
      console.print("Its options were not recorded, so they are not compared.")
    print_plain(f"Already prepared: {path} (delete it to build it again).")
  else:
    path = _make_builder(name).prepare(_options())
  if FLAGS.stuff_maps:
    _add_stuff_maps(path, console)
  print_summary(path, console)
  if FLAGS.dataset == "shapes":
    folder = write_examples(path, pathlib.Path(FLAGS.data_dir) / full_name)
    print_plain(f"Pictures to predict on: {folder}")
  console.print("Train on it with:")
  for flag in config_flags(path, FLAGS.data_dir, full_name):
    print_plain(f"  {shlex.quote(flag)}")


if __name__ == "__main__":
  define_flags()
  cli.run(main)
