"""Tests of solo_jax/media/pictures.py."""

import io

import numpy as np
import PIL.Image
import pytest

from solo_jax.data.records import open_records, read_sample, to_coco
from solo_jax.data.shapes import Shapes
from solo_jax.evaluation.report_images import Shown
from solo_jax.media import pictures


@pytest.fixture(scope="module")
def records(tmp_path_factory):
  data_dir = str(tmp_path_factory.mktemp("data"))
  Shapes(data_dir=data_dir, num_train=1, num_validation=4).prepare()
  return open_records(data_dir, "shapes", "validation")


def shown(records, index, *, found=(), is_large=True):
  """An image of a report with its objects and some detections."""
  image_id = int(records.image_ids[index])
  return Shown(
    entry=dict(image_id=image_id),
    objects=[
      a["segmentation"]
      for a in to_coco(records)["annotations"]
      if a["image_id"] == image_id
    ],
    found=[*found],
    is_large=is_large,
  )


def test_pictures_of_chosen_images(records):
  images = [shown(records, i) for i in (3, 1)]
  images[0].found.extend(images[0].objects[:1])
  drawn = pictures.draw_images(records, images)
  assert list(drawn) == [int(records.image_ids[i]) for i in (3, 1)]
  for image, index in zip(images, (3, 1), strict=True):
    sample = read_sample(records[index])
    picture = drawn[sample.image_id]
    assert picture.name == sample.file_name and picture.unit == 4
    decoded = np.asarray(PIL.Image.open(io.BytesIO(picture.jpeg)))
    assert decoded.shape == (128, 128, 3)
    assert np.abs(decoded.astype(int) - sample.image).mean() < 6
    assert len(picture.objects) == len(image.objects) == len(sample.masks)
  picture = drawn[images[0].image_id]
  assert picture.found == picture.objects[:1]


def test_large_pictures_are_shrunk(records, monkeypatch):
  monkeypatch.setattr(pictures, "MAX_SIDE", 100)
  monkeypatch.setattr(pictures, "SMALL_SIDE", 50)
  for index, is_large, side in ((0, True, 100), (1, False, 50)):
    image = shown(records, index, is_large=is_large)
    (picture,) = pictures.draw_images(records, [image]).values()
    assert PIL.Image.open(io.BytesIO(picture.jpeg)).size == (side, side)


def test_the_last_colour_is_that_of_what_is_no_object():
  *colors, unmatched = pictures.palette()
  assert len(colors) == len(set(colors)) > 10 and unmatched not in colors
  assert all(len(x) == 7 and int(x[1:], 16) >= 0 for x in colors)


def test_truth_leaves_crowds_out(records):
  sample = read_sample(records[0])
  sample.is_crowd[0] = True
  truth = pictures.truth_of(sample)
  assert len(truth) == len(sample.labels) - 1
  np.testing.assert_array_equal(truth.masks, sample.masks[1:])
  assert set(truth.scores) <= {1.0}


def test_what_does_not_fit_into_memory_is_left_out_and_reported(
  records, monkeypatch, caplog
):
  sample = read_sample(records[3])
  num_objects = int(np.sum(~sample.is_crowd))
  assert num_objects > 2
  monkeypatch.setattr(pictures, "MAX_PICTURE_PIXELS", 2 * 128 * 128 + 1)
  assert len(pictures.truth_of(sample)) == 2
  assert f"shows the first 2 of {num_objects} annotated objects" in caplog.text
