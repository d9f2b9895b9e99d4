"""Tests of solo_jax/data/pipeline.py."""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import signal
import sys

import cloudpickle
import cv2
import jax
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from solo_jax.data import pipeline
from solo_jax.errors import UserError

NUM_IMAGES = 10
CORRUPT = 3
EMPTY = (5, 6)
PORTRAIT = (1, 4, 6)
RESIZED = (
  ("orient", dict(flip=0.5)),
  ("resize_short_side", dict(short_sides=(24, 32), max_side=64)),
)
TRANSFORMS = dict(
  image_size=(32, 64),
  augment=(*RESIZED, ("color_jitter", dict(strength=0.2))),
  mask_frame="image",
  mask_stride=2,
  mask_rule="coverage",
  max_instances=3,
  min_mask_area=1.0,
  max_crowds=0,
)
READING = pipeline.Reading(
  batch_size=4,
  seed=0,
  num_workers=0,
  transforms=TRANSFORMS,
  keep_empty=True,
  group_by_orientation=False,
)


def make_batches(source, step=0, process_index=0, process_count=1, **changed):
  return pipeline.train_batches(
    source,
    dataclasses.replace(READING, **changed),
    step=step,
    process_index=process_index,
    process_count=process_count,
  )


class SceneRecords:
  """Stands in for `Records`: one grey level per image, 10 * (index + 1).

  Each image has one square, except the `EMPTY` ones.
  """

  path, split = "scenes", "train"

  def __init__(self, *indices):
    self.rows = [make_record(index) for index in indices]
    self.heights = np.array([row["height"] for row in self.rows])
    self.widths = np.array([row["width"] for row in self.rows])
    self.num_objects = np.array([index not in EMPTY for index in indices])

  def __len__(self):
    return len(self.rows)

  def __getitem__(self, index):
    return self.rows[index]


# Grain's workers are other processes that cannot import a test module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def make_record(index):
  height, width = (48, 24) if index in PORTRAIT else (24, 48)
  image = np.full((height, width, 3), 10 * (index + 1), np.uint8)
  encoded = cv2.imencode(".png", image)[1].tobytes()
  mask = np.zeros((height, width), np.uint8, order="F")
  mask[4:12, 6:16] = 1
  objects = dict(
    annotation_id=[index + 1],
    label=[index],
    is_crowd=[False],
    rle=[coco_mask.encode(mask)["counts"]],
    area=[np.float64(80).tobytes()],
    bbox=[np.array([6.0, 4.0, 10.0, 8.0]).tobytes()],
  )
  if index in EMPTY:
    objects = {field: [] for field in objects}
  return dict(
    image=encoded[:-30] if index == CORRUPT else encoded,
    image_id=100 + index,
    file_name=b"%d.png" % index,
    height=height,
    width=width,
    objects=objects,
  )


@pytest.fixture(scope="module")
def scenes():
  return SceneRecords(*range(NUM_IMAGES))


def take(source, num, **options):
  """The first batches, as lists of (field, array)."""
  batches = make_batches(source, **options)
  try:
    return [next(batches) for _ in range(num)]
  finally:
    batches.close()


def assert_equal(first, second):
  assert len(first) == len(second)
  for one, two in zip(first, second, strict=True):
    jax.tree.map(np.testing.assert_array_equal, one, two)


def indices(batches):
  """Which scene each row shows (color jitter off), -1 for the corrupt one."""
  found = []
  for batch in batches:
    grey = batch.image[:, 0, 0, 0].astype(int)
    found += [
      x // 10 - 1 if ok else -1
      for x, ok in zip(grey, batch.image_valid, strict=True)
    ]
  return found


PLAIN = TRANSFORMS | dict(augment=RESIZED)


def test_batch_by_hand(scenes):
  (batch,) = take(scenes, 1, batch_size=10, transforms=PLAIN)
  assert batch.image.shape == (10, 32, 64, 3)
  assert batch.masks.data.shape == (10, 3, 16, 32)
  assert (batch.masks.encoding, batch.masks.stride) == ("coverage", 2)
  for row, index in enumerate(indices([batch])):
    has_object = index not in (-1, *EMPTY)
    np.testing.assert_array_equal(batch.valid[row], [has_object, False, False])
    if has_object:
      assert batch.labels[row, 0] == index


def test_every_epoch_covers_each_image_once_in_another_order(scenes):
  # 10 images in batches of 4: epochs end within a batch.
  order = indices(take(scenes, 10, transforms=PLAIN))
  epochs = [tuple(order[i : i + 10]) for i in range(0, 40, 10)]
  expected = sorted(set(range(10)) - {CORRUPT} | {-1})
  assert all(sorted(epoch) == expected for epoch in epochs)
  assert len(set(epochs)) == 4


def test_augmentation_differs_between_epochs_and_seeds(scenes):
  def flips_and_sizes(**options):
    batches = take(scenes, 2, batch_size=10, **options)
    return [
      sorted(zip(indices([b]), b.image_size[:, 0].tolist(), strict=True))
      for b in batches
    ]

  first, second = flips_and_sizes(transforms=PLAIN)
  assert first != second
  assert flips_and_sizes(transforms=PLAIN, seed=1) != [first, second]


def test_starting_at_a_step_gives_the_tail(scenes):
  stream = take(scenes, 6)
  for step in (1, 4):
    assert_equal(take(scenes, 6 - step, step=step), stream[step:])


@pytest.mark.parametrize("group", [False, True])
def test_processes_read_a_block_each_of_the_global_batch(scenes, group):
  options = dict(group_by_orientation=group)
  whole = take(scenes, 5, **options)
  halves = [
    take(scenes, 5, process_index=i, process_count=2, **options)
    for i in range(2)
  ]
  for batch, *parts in zip(whole, *halves, strict=True):
    assert batch.row.tolist() == [0, 1, 2, 3]
    for i, part in enumerate(parts):
      rows = jax.tree.map(lambda x, i=i: x[2 * i : 2 * i + 2], batch)
      jax.tree.map(np.testing.assert_array_equal, part, rows)


PASTE = PLAIN | dict(
  augment=[
    ("resize_short_side", dict(short_sides=(24, 32), max_side=64)),
    ("copy_paste", dict(probability=0.8)),
  ]
)


def test_pasted_images_are_others_of_the_split(scenes):
  """A pixel that is not the image's own grey is that of the pasted label."""
  num_pasted = 0
  for batch in take(scenes, 6, transforms=PASTE):
    for row, own in enumerate(indices([batch])):
      labels = batch.labels[row][batch.valid[row]]
      pasted = [label for label in labels if label != own]
      assert CORRUPT not in labels and not set(labels) & set(EMPTY)
      height, width = batch.image_size[row]
      greys = set(np.unique(batch.image[row, :height, :width]).tolist())
      if own != -1:
        assert greys - {0} == {10 * (i + 1) for i in (own, *pasted)}
      num_pasted += len(pasted)
  assert num_pasted > 3


def test_pasting_is_the_same_for_workers_processes_and_restarts(scenes):
  options = dict(transforms=PASTE, group_by_orientation=True)
  stream = take(scenes, 5, **options)
  assert_equal(take(scenes, 5, num_workers=2, **options), stream)
  assert_equal(take(scenes, 3, step=2, **options), stream[2:])
  halves = [
    take(scenes, 5, process_index=i, process_count=2, **options)
    for i in range(2)
  ]
  for batch, *parts in zip(stream, *halves, strict=True):
    jax.tree.map(
      lambda x, *xs: np.testing.assert_array_equal(np.concatenate(xs), x),
      batch,
      *parts,
    )


def test_masks_are_drawn_in_boxes_where_the_settings_ask_for_it(scenes):
  boxed = PLAIN | dict(mask_frame="box", box_mask_size=14)
  (batch,) = take(scenes, 1, batch_size=10, transforms=boxed)
  assert batch.masks.data.shape == (10, 3, 14, 14)
  assert (batch.masks.unpack()[batch.valid] == 1).all()  # filled rectangles


def test_any_number_of_workers_gives_the_same_stream(scenes, caplog):
  stream = take(scenes, 11)
  assert_equal(take(scenes, 5, num_workers=1), stream[:5])
  caplog.clear()
  tail = take(scenes, 10, num_workers=2, step=1)  # four epochs
  assert_corrupt_record_is_named_once(caplog)
  assert_equal(tail, stream[1:])
  assert type(tail[0].image) is np.ndarray  # not a view of shared memory
  assert not multiprocessing.active_children()


def test_killed_worker_is_replaced_and_the_stream_continues(scenes, caplog):
  expected = take(scenes, 30)
  batches = make_batches(scenes, num_workers=1)
  found = [next(batches)]
  # All: the first may be one that an earlier test has left to end.
  for worker in multiprocessing.active_children():
    os.kill(worker.pid, signal.SIGKILL)
  with concurrent.futures.ThreadPoolExecutor() as executor:  # for the timeout
    for _ in expected[1:]:
      found.append(executor.submit(next, batches).result(timeout=600))
  batches.close()
  assert_equal(found, expected)
  (line,) = [x for x in caplog.messages if "a data worker was killed" in x]
  assert "restarted at batch " in line
  assert not multiprocessing.active_children()


def test_workers_that_are_killed_again_and_again_are_an_error(scenes):
  class Dead:
    closed = False

    def __next__(self):
      raise RuntimeError("Worker process was terminated unexpectedly")

    def close(self):
      self.closed = True

  started = {}
  dead = Dead()
  batches = pipeline._stream(
    lambda step: started.setdefault(step, Dead()), 7, scenes, 0, dead
  )
  with pytest.raises(UserError, match="killed twice at batch 7; .*lower"):
    next(batches)
  assert dead.closed and started[7].closed and len(started) == 1


@pytest.mark.parametrize("num", [8, 4, 1])
def test_fewer_images_than_a_batch_repeat_within_it(num):
  source = SceneRecords(*range(num))
  batches = take(source, 3, batch_size=8, transforms=PLAIN)
  order = indices(batches)
  for start in range(0, 24 // num * num, num):
    assert len(set(order[start : start + num])) == num


def test_corrupt_record_does_not_end_the_stream(scenes):
  batches = take(scenes, 5)
  valid = np.concatenate([batch.image_valid for batch in batches])
  assert (~valid).sum() == 2  # once in each of two epochs


def test_corrupt_record_is_named_once(scenes, caplog):
  batches = take(scenes, 10)  # four epochs
  assert not hasattr(batches[0], "record")
  assert_corrupt_record_is_named_once(caplog)


def assert_corrupt_record_is_named_once(caplog):
  lines = [line for line in caplog.messages if "cannot be decoded" in line]
  (line,) = lines
  assert line.startswith("train: image 103 (3.png) cannot be decoded")
  assert line.endswith("corrupt images so far: 1")


def test_images_without_objects_can_be_left_out(scenes):
  order = indices(take(scenes, 4, keep_empty=False, transforms=PLAIN))
  assert not set(order) & set(EMPTY)
  assert sorted(order[:8]) == sorted(order[8:])


def test_portrait_images_have_batches_of_their_own(scenes):
  batches = take(scenes, 20, group_by_orientation=True, transforms=PLAIN)
  shapes = [batch.image.shape[1:3] for batch in batches]
  for batch in batches:
    is_portrait = batch.image.shape[1:3] == (64, 32)
    for index in indices([batch]):
      assert (index in PORTRAIT) == is_portrait
  # 3 of 10 images are portraits, so 6 of 20 batches.
  assert shapes.count((64, 32)) == 6 and shapes.count((32, 64)) == 14
  tail = take(scenes, 5, step=15, group_by_orientation=True, transforms=PLAIN)
  assert_equal(tail, batches[15:])


def test_images_of_one_orientation_form_one_group():
  source = SceneRecords(1)
  (batch,) = take(source, 1, group_by_orientation=True)
  assert batch.image.shape == (4, 64, 32, 3)


def test_nothing_to_train_on_is_refused():
  source = SceneRecords(5, 6)
  with pytest.raises(UserError, match="2 images, all of them without inst"):
    take(source, 1, keep_empty=False)
  with pytest.raises(UserError, match="split 'train' at scenes has 0 images"):
    take(SceneRecords(), 1)


def test_batch_size_must_suit_the_processes(scenes):
  with pytest.raises(ValueError, match="batch_size 4 .* processes, 3"):
    take(scenes, 1, process_count=3)


def test_bad_mask_rule_reaches_the_caller(scenes):
  bad = TRANSFORMS | dict(mask_rule="polygon")
  with pytest.raises(ValueError, match="mask_rule must be one of"):
    take(scenes, 1, transforms=bad)
