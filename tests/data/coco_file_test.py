"""Tests of solo_jax/data/coco_file.py."""

import json

import pytest

from solo_jax.data.coco_file import parse, read_categories
from solo_jax.data.findings import Findings
from solo_jax.errors import UserError

EMPTY = {"images": [], "annotations": [], "categories": []}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_utf_encoding_is_read(encoding):
  content = EMPTY | {"info": "Schlüssel Ключ"}
  text = json.dumps(content, ensure_ascii=False).encode(encoding)
  assert parse(text, "a.json") == content


def read(*items):
  findings = Findings()
  return read_categories(items, "a.json", findings), findings.repairs


def test_names_that_several_classes_have_get_numbers():
  found, repairs = read(
    dict(id=1, name="cell"), dict(id=2, name="cell"), dict(id=5, name="leaf")
  )
  assert found.names == ("cell (id 1)", "cell (id 2)", "leaf")
  assert found.labels == {1: 0, 2: 1, 5: 2}
  assert len(repairs) == 2


def test_a_name_made_up_is_not_one_that_there_is():
  items = [(1, "a"), (2, "a"), (3, "a (id 1)")]
  found, _ = read(*(dict(id=key, name=name) for key, name in items))
  assert len(set(found.names)) == 3


def test_ids_as_text_or_floats_and_numbers_as_names():
  found, repairs = read(dict(id="2", name="b"), dict(id=1.0, name=7))
  assert found.labels == {1: 0, 2: 1} and found.names == ("7", "b")
  assert len(repairs) == 2


def test_a_category_twice_is_one():
  found, _ = read(dict(id=1, name="a"), dict(id=1, name="a"))
  assert found.names == ("a",)
  with pytest.raises(
    UserError, match="two categories have the id 1: 'a' and 'b'"
  ):
    read(dict(id=1, name="a"), dict(id=1, name="b"))
