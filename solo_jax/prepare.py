r"""Builds records from a dataset's own files and prints a summary.

python -m solo_jax.prepare --dataset=shapes --data_dir=data
"""

import collections

import numpy as np
import rich.console
import rich.table
from absl import app, flags

from solo_jax.data import shapes
from solo_jax.data.records import Records, RecordsBuilder, find_prepared

_DATASET = flags.DEFINE_enum(
  'dataset', None, ['shapes'], 'Which builder to run.', required=True
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir', 'data', 'Directory of all prepared datasets.'
)
_NAME = flags.DEFINE_string('name', '', 'Name of the dataset in its builder.')
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of drawn scenes.')


def _make_builder() -> RecordsBuilder:
  return shapes.Shapes(
    data_dir=_DATA_DIR.value, name=_NAME.value, seed=_SEED.value
  )


def print_summary(path, splits, console: rich.console.Console) -> None:
  """Prints what a prepared dataset holds, one column a split.

  Args:
    path: Folder of the prepared dataset.
    splits: Names of its splits.
    console: Where to print.
  """
  table = rich.table.Table('', *splits, title=str(path))
  columns = []
  for split in splits:
    opened = Records(path, split)
    counts = collections.Counter()
    for i in range(len(opened)):
      objects = opened[i]['objects']
      counts['crowds'] += int(np.sum(objects['is_crowd']))
    columns.append(
      {
        'images': len(opened),
        'instances': int(opened.num_objects.sum()),
        'crowds': counts['crowds'],
        'empty images': int((opened.num_objects == 0).sum()),
        'classes': len(opened.class_names),
      }
    )
  for row in columns[0]:
    table.add_row(row, *(f'{column[row]:,}' for column in columns))
  console.print(table)


def main(argv: list[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}')
  console = rich.console.Console()
  builder = _make_builder()
  name = '/'.join(filter(None, [_DATASET.value, _NAME.value]))
  path = find_prepared(_DATA_DIR.value, name)
  if path:
    console.print(f'Already prepared: {path} (delete it to build it again).')
  else:
    builder.prepare()
    path = find_prepared(_DATA_DIR.value, name)
  print_summary(path, sorted(builder.info.splits), console)


if __name__ == '__main__':
  app.run(main)
