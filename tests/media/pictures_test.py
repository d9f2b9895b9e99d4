"""Tests of solo_jax/media/pictures.py."""

import io

import numpy as np
import PIL.Image
import pytest

from solo_jax.data.records import open_records, read_sample, to_coco
from solo_jax.data.shapes import Shapes
from solo_jax.media import pictures


@pytest.fixture(scope="module")
def records(tmp_path_factory):
  data_dir = str(tmp_path_factory.mktemp("data"))
  Shapes(data_dir=data_dir, num_train=1, num_validation=4).prepare()
  return open_records(data_dir, "shapes", "validation")


def decode(jpeg):
  return np.asarray(PIL.Image.open(io.BytesIO(jpeg))).astype(int)


def perfect(records, score):
  return [
    dict(a, score=score)
    for a in to_coco(records)["annotations"]
    if not a["iscrowd"]
  ]


def test_perfect_detections_look_like_the_truth(records):
  wanted = [int(records.image_ids[i]) for i in (3, 1)]
  results = perfect(records, 0.9)
  drawn = pictures.draw_images(records, results, wanted, score_threshold=0.9)
  assert list(drawn) == wanted
  for index in (3, 1):
    sample = read_sample(records[index])
    picture = drawn[sample.image_id]
    assert picture.name == sample.file_name
    truth, found = decode(picture.truth), decode(picture.found)
    assert truth.shape == found.shape == (512, 512, 3)
    # The same, but for the scores on the labels.
    assert np.mean(np.abs(truth - found).max(2) < 30) > 0.9


def test_detections_below_the_threshold_are_not_drawn(records):
  (image_id,) = records.image_ids[:1].tolist()
  plain, low = (
    decode(
      pictures.draw_images(records, results, [image_id], score_threshold=0.5)[
        image_id
      ].found
    )
    for results in ([], perfect(records, 0.4))
  )
  np.testing.assert_array_equal(plain, low)


def test_large_pictures_are_shrunk(records, monkeypatch):
  monkeypatch.setattr(pictures, "MAX_SIDE", 100)
  (image_id,) = records.image_ids[:1].tolist()
  drawn = pictures.draw_images(records, [], [image_id], score_threshold=0.5)
  assert decode(drawn[image_id].truth).shape == (100, 100, 3)


def test_truth_leaves_crowds_out(records):
  sample = read_sample(records[0])
  sample.is_crowd[0] = True
  truth = pictures.truth_of(sample)
  assert len(truth) == len(sample.labels) - 1
  np.testing.assert_array_equal(truth.masks, sample.masks[1:])
  assert set(truth.scores) <= {1.0}


def test_what_does_not_fit_into_memory_is_left_out_and_told(
  records, monkeypatch, caplog
):
  sample = read_sample(records[3])
  num_objects = int(np.sum(~sample.is_crowd))
  assert num_objects > 2
  monkeypatch.setattr(pictures, "MAX_PICTURE_PIXELS", 2 * 128 * 128 + 1)
  assert len(pictures.truth_of(sample)) == 2
  pictures.draw_images(
    records, perfect(records, 0.9), [sample.image_id], score_threshold=0.5
  )
  for what in ("annotated objects", "detections"):
    assert f"shows the first 2 of {num_objects} {what}" in caplog.text
