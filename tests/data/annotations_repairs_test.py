"""Tests of solo_jax/data/annotations.py: what is read with a repair."""

import numpy as np
import pytest

from tests.data.annotations_test import annotation, decode


@pytest.mark.parametrize(
  ("fields", "repair"),
  [
    (dict(bbox=[25, 3, 10, 6]), "box outside its image, made from its mask"),
    (dict(bbox=[3, -4, 10, 6]), "box outside its image, made from its mask"),
    (dict(bbox=[3, 4, 1e308, 5]), "box outside its image, made from its mask"),
    (dict(bbox=[3, 4, 0, 6]), "box without extent, made from its mask"),
    (dict(bbox=[3, 4, 5]), "box that is not four numbers, made from its mask"),
    (dict(bbox=[3, 4, 5, float("nan")]), "box that is not four numbers, made"),
    (dict(bbox=[3, 4, 5, 10**400]), "box that is not four numbers, made from"),
    (dict(bbox="x"), "box that is not four numbers, made from its mask"),
    (dict(area="1"), "area that is not a number above 0, made from its mask"),
    (dict(area=0), "area that is not a number above 0, made from its mask"),
    (
      dict(area=10**400),
      "area that is not a number above 0, made from its mask",
    ),
    (
      dict(area=float("inf")),
      "area that is not a number above 0, made from its",
    ),
  ],
)
def test_fields_that_repeat_the_mask_do_not_condemn_it(read, fields, repair):
  annotations = read(annotation(**fields))
  assert not len(annotations.findings.problems)
  ((name, count, line),) = annotations.findings.repairs.kinds()
  assert name.startswith(repair) and count == 1
  assert line == "a.json: image 7: annotation 90"
  image = annotations.images[1]
  found = image.objects[0]
  rows, columns = np.nonzero(decode(image, found))
  if "bbox" in fields:
    sides = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert found.box_xywh == (columns.min(), rows.min(), *sides)
    assert found.area == 61.1
  else:
    assert found.area == len(rows) and found.box_xywh == (2.1, 3.0, 10.4, 6.25)


@pytest.mark.parametrize(
  "fields",
  [
    dict(id="90", image_id=7.0, category_id="44"),
    dict(id=90.0, category_id=44.0),
    dict(iscrowd=False),
    dict(iscrowd="0"),
    dict(iscrowd=None),
  ],
)
def test_numbers_written_otherwise(read, fields):
  annotations = read(annotation(**fields))
  assert not len(annotations.findings.problems)
  ids = [item.annotation_id for item in annotations.images[1].objects]
  assert ids == [90, 12, 13, 14]
  found = annotations.images[1].objects[0]
  assert found.label == 1 and not found.is_crowd


def test_annotations_without_ids_are_numbered(read):
  def forget(content):
    for item in content["annotations"][:2]:
      del item["id"]

  annotations = read(forget)
  ids = [item.annotation_id for item in annotations.images[1].objects]
  assert ids == [15, 16, 13, 14]
  ((_, count, _),) = annotations.findings.repairs.kinds()
  assert count == 2
