"""Tests of solo_jax/published.py, and of the documents that show its rows."""

import pathlib

import pytest

from solo_jax import published
from solo_jax.published import PUBLISHED
from solo_jax.weights import load_config

ZOO = pathlib.Path(__file__).parents[1] / "docs" / "model_zoo.md"


def test_names_and_sources_are_of_one_row_each():
  for values in ([r.name for r in PUBLISHED], [r.source for r in PUBLISHED]):
    given = [x for x in values if x is not None]
    assert len(given) == len(set(given))
  for row in PUBLISHED:
    assert published.find(row.name) is row
    assert row.source is None or published.find(row.source) is row
    assert row.licence and row.page.startswith("https://")
    assert row.source is None or row.source.startswith(("https://", "hf:"))
  assert published.find("nothing") is None


def test_digests_are_those_in_the_names_of_files():
  row = published.find("solov2_r50_3x")
  assert row.source == (
    "https://download.openmmlab.com/mmdetection/v2.0/solov2/"
    "solov2_r50_fpn_3x_coco/solov2_r50_fpn_3x_coco_20220512_125856-"
    "fed092d4.pth"
  )
  assert row.digest == "fed092d4"
  assert published.find("resnet50_torchvision").digest == "0676ba61"
  assert published.find("solov2_r50_3x_official").digest is None
  for row in PUBLISHED:  # what has no digest is checked by size and etag
    if row.code_base in ("torchvision", "mmdetection 3") and row.source:
      assert row.digest


def test_near_names_are_offered():
  assert "solov2_r50_3x" in published.nearest("SOLOv2_R50_3x")
  assert published.nearest("zzzz") == []


@pytest.mark.parametrize(
  "text", sorted({row.config for row in PUBLISHED if row.config})
)
def test_every_config_is_here(text):
  assert load_config(text).is_locked


def test_the_model_zoo_lists_every_row():
  shown, is_named = [], False
  for line in ZOO.read_text().splitlines():
    if line.startswith("| name |"):
      is_named = True
    elif is_named and line.startswith("| `"):
      shown.append(tuple(x.strip(" `") for x in line.strip("|").split("|")))
    elif not line.startswith("|"):
      is_named = False
  assert shown == [
    (
      *(r.name, r.original, r.published_as, r.config, str(r.ap)),
      f"{r.megabytes / 4:.0f}" if r.megabytes else "",
    )
    for r in PUBLISHED
    if r.config is not None
  ]
