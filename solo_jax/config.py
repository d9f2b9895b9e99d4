"""Reading and checking configurations.

A config file is plain Python: `get_config(arg)` returns a locked
`ml_collections.ConfigDict` in which every field is present. `parse_arg` turns
the text after the colon of `--config=file.py:backbone=r50,schedule=3x` into
typed values; `validate` reports every problem of a configuration in one error.
"""

import types
from typing import Any

import ml_collections


def parse_arg(arg: str, **defaults: Any) -> types.SimpleNamespace:
  """Parses `key=value,key=value` into values typed by their defaults.

  Args:
    arg: The text after the colon of the config flag; may be empty or None.
    **defaults: Every known key with its default. Its type (str, int, float or
      bool) is the type of the value.

  Returns:
    A namespace with one attribute per default.

  Raises:
    ValueError: On an unknown key or a value that is not of the key's type.
  """
  values = dict(defaults)
  for item in (arg or '').split(','):
    if not item:
      continue
    key, _, text = item.partition('=')
    if key not in defaults:
      known = ', '.join(f'{k}={v!r}' for k, v in defaults.items())
      raise ValueError(f'unknown config argument {key!r}; known: {known}')
    kind = type(defaults[key])
    try:
      if kind is bool:
        values[key] = {'true': True, '1': True, 'false': False, '0': False}[
          text.lower()
        ]
      else:
        values[key] = kind(text)
    except (KeyError, ValueError) as error:
      raise ValueError(
        f'config argument {key}={text!r} is not a {kind.__name__}'
      ) from error
  return types.SimpleNamespace(**values)
