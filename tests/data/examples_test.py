"""Tests of solo_jax/data/examples.py."""

import numpy as np

from solo_jax.data.examples import ImageRecord, ObjectRecord, to_example
from solo_jax.data.prepared_folder import make_features


def test_examples_are_what_the_features_take():
  item = ObjectRecord(
    annotation_id=2**62,
    label=1,
    is_crowd=False,
    rle=b"42b0",
    area=0.1,
    box_xywh=(0.1, 2, 3, 4),
  )
  image = ImageRecord(
    image_id=-7, file_name="é.png", height=4, width=6, objects=[item]
  )
  png = bytes.fromhex("89504e470d0a1a0a")
  example = to_example(png, image)
  assert example["image"] == png and example["file_name"] == "é.png"
  (row,) = example["objects"]
  assert np.frombuffer(row["area"], np.float64) == 0.1
  assert np.frombuffer(row["bbox"], np.float64).tolist() == [0.1, 2, 3, 4]
  features = make_features()
  assert set(example) == set(features) and set(row) == set(
    features["objects"].feature
  )
