"""Tests of solo_jax/evaluation/report_images.py."""

import base64

import pytest
from etils import epath

from solo_jax.evaluation import coco_metrics, errors, report_images
from solo_jax.evaluation.operating_point import judge_images


def describe(built, score_threshold=0.3):
  """The images of a scene, all of them large."""
  masks, _ = coco_metrics.compare(
    built.dataset, built.results, max_detections=100
  )
  outcomes = errors.find_outcomes(masks)
  return [
    report_images.describe(
      image,
      masks,
      outcomes,
      score_threshold=score_threshold,
      is_large=image.image_id == 1,
    )
    for image in judge_images(masks.truth.images, outcomes, score_threshold)
  ]


def test_objects_and_detections_of_an_image(scenes):
  built = scenes("cat", "dog").image(1).image(2)
  built.truth("dog", (0, 0, 5, 5), 1).found("dog", (0, 0, 5, 5), 0.9, 1)
  built.truth("cat", (0, 0, 32, 32), 2).truth("dog", (40, 0, 10, 10), 2)
  built.truth("cat", (0, 40, 40, 20), 2, iscrowd=1)
  built.found("cat", (40, 0, 10, 9), 0.6, 2)  # on the dog
  built.found("cat", (0, 0, 32, 31), 0.8, 2)
  built.found("cat", (60, 40, 9, 9), 0.4, 2)  # nothing there
  built.found("cat", (0, 45, 20, 10), 0.5, 2)  # in the crowd
  built.found("dog", (40, 0, 10, 10), 0.2, 2)  # below the threshold
  _, image = describe(built)
  entry = image.entry
  assert (entry["width"], entry["height"]) == (80, 60)
  assert entry["objects"] == [
    dict(label=0, size=1),  # 32 x 32 is medium, as in the table of sizes
    dict(label=1, size=0),
  ]
  rows = [
    (d["label"], d["score"], d["kind"], d["object"], d["match"])
    for d in entry["found"]
  ]
  assert rows == [
    (0, 0.8, "correct", 0, 0),
    (0, 0.6, "class", 1, 1),
    (0, 0.5, "ignored", -1, -1),
    (0, 0.4, "background", -1, -1),
  ]
  assert len(image.objects) == 2 and len(image.found) == 4
  assert image.found[0]["counts"] == built.results[2]["segmentation"]["counts"]


@pytest.mark.parametrize("limit", [10, 100])
def test_pictures_beyond_the_limit_lie_next_to_the_page(
  scenes, tmp_path, monkeypatch, limit
):
  monkeypatch.setattr(report_images, "MAX_BYTES", limit)
  large_id = 2**60 + 7  # more than a browser's numbers hold exactly
  built = (
    scenes("cat").image(1).image(large_id).truth("cat", (0, 0, 5, 5), large_id)
  )
  shown = describe(built)
  outline = report_images.Outline(
    path="M0 0z", box=(0, 0, 5, 5), deepest=(2, 2)
  )
  pictures = {
    image.image_id: report_images.Picture(
      name=f"{image.image_id}.png",
      jpeg=b"picture" + bytes([image.image_id % 256]),
      unit=1,
      objects=[outline] * len(image.objects),
      found=[],
    )
    for image in shown
  }
  first, second = report_images.join(shown, pictures, epath.Path(tmp_path))
  assert [first["image_id"], second["image_id"]] == ["1", str(large_id)]
  kind, _, content = first["picture"].partition(",")
  assert kind == "data:image/jpeg;base64"
  assert base64.b64decode(content) == b"picture\x01"
  assert second["objects"] == [
    dict(label=0, size=0, path="M0 0z", box=(0, 0, 5, 5), deepest=(2, 2))
  ]
  if limit == 100:
    assert second["picture"].startswith("data:")
    assert not [*tmp_path.iterdir()]
  else:  # what is looked at first is in the page all the same
    assert (tmp_path / second["picture"]).read_bytes() == b"picture\x07"
