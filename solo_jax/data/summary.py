"""Prints a summary of a prepared dataset."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import rich.console

from solo_jax.data.findings import list_kinds
from solo_jax.data.records import Records, list_splits
from solo_jax.errors import printable
from solo_jax.terminal import make_table, plural

_NUM_LISTED = 20  # problems shown; the dataset's metadata keeps more


def print_summary(path: pathlib.Path, console: rich.console.Console) -> None:
  """Prints the contents of a prepared dataset and the skipped data.

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
  is_thing = splits[0].is_thing
  if is_thing:
    number = sum(is_thing)
    print_plain(
      f"Of them {number} of things, {len(is_thing) - number} of stuff"
    )
  for line in metadata.get("values", ()):  # of label images only
    print_plain(printable(line), soft_wrap=True)
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
