"""Tests of solo_jax/data/builder.py."""

import dataclasses
import json
import pathlib

import cv2
import numpy as np
import pytest

from solo_jax.data import builder, examples
from solo_jax.data.findings import Findings
from solo_jax.data.records import find_prepared, open_records, read_sample
from solo_jax.errors import UserError

PNG = cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes()
# Two of the 24 pixels, the second column's first two, as COCO counts 4 2 18.
RLE = b"42b0"


@dataclasses.dataclass
class Numbered:
  """Images 10, 11, ... with as many objects as their number minus ten."""

  length: int
  error_at: int | None = None
  unusable: tuple[int, ...] = ()

  def __len__(self):
    return self.length

  def __getitem__(self, index):
    if index == self.error_at:
      raise KeyboardInterrupt
    if index in self.unusable:
      line = f"{index}.png: float pixels."
      raise examples.UnusableImage("float pixels", line, index)
    objects = [
      examples.ObjectRecord(
        annotation_id=100 * index + k,
        label=k % 2,
        is_crowd=k == 2,
        rle=RLE,
        area=0.1 + k,
        box_xywh=(1.1, 0, 1, 2),
      )
      for k in range(index)
    ]
    return PNG, examples.ImageRecord(
      image_id=10 + index,
      file_name=f"{index}.png",
      height=4,
      width=6,
      objects=objects,
    )


class Toy(builder.RecordsBuilder, skip_registration=True):
  def __init__(
    self, data_dir, splits, name="", problems=(), is_strict=False, max_lost=0.9
  ):
    tolerance = builder.Tolerance(is_strict=is_strict, max_lost=max_lost)
    super().__init__(data_dir=str(data_dir), name=name, tolerance=tolerance)
    self._toy = splits
    self._told = Findings()
    for problem in problems:
      self._told.problems.add("of the source", problem)

  def read_splits(self, dl_manager):
    self.announce("reading")
    self.describe(
      builder.Description(
        class_names=("a", "b"),
        category_ids=(3, 9),
        source="toys",
        findings=self._told,
        num_images=sum(map(len, self._toy.values())),
      )
    )
    return self._toy


def test_records_come_back_in_order_over_shards(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(builder, "_SHARD_LENGTH", 2)
  path = Toy(tmp_path, {"train": Numbered(5)}, name="x").prepare()
  assert path == tmp_path / "toy" / "x" / "1.0.0"
  assert len([*path.glob("*.array_record-*")]) == 3
  records = open_records(tmp_path, "toy/x", "train")
  assert [records[i]["image_id"] for i in range(5)] == [10, 11, 12, 13, 14]
  np.testing.assert_array_equal(records.image_ids, np.arange(10, 15))
  np.testing.assert_array_equal(records.num_objects, [0, 1, 2, 2, 3])
  np.testing.assert_array_equal(records.num_crowds, [0, 0, 0, 1, 1])
  shown = capsys.readouterr().out
  assert "reading" in shown and "5/5" in shown and "ownload" not in shown


def test_fields_are_exact(tmp_path):
  Toy(tmp_path, {"train": Numbered(4)}).prepare()
  sample = read_sample(open_records(tmp_path, "toy", "train")[3])
  np.testing.assert_array_equal(sample.areas, [0.1, 1.1, 2.1])  # as float64
  np.testing.assert_array_equal(sample.boxes_xyxy[0], [1.1, 0, 2.1, 2])
  np.testing.assert_array_equal(sample.annotation_ids, [300, 301, 302])
  np.testing.assert_array_equal(sample.labels, [0, 1, 0])
  np.testing.assert_array_equal(sample.is_crowd, [False, False, True])
  # Counts 4, 2, 18 down the columns: two pixels at the top of column 1.
  expected = np.zeros((4, 6), bool)
  expected[:2, 1] = True
  np.testing.assert_array_equal(sample.masks[0], expected)


def test_interrupted_run_leaves_nothing_that_looks_prepared(tmp_path):
  splits = {"train": Numbered(3), "validation": Numbered(3, error_at=2)}
  with pytest.raises(KeyboardInterrupt):
    Toy(tmp_path, splits).prepare()
  assert find_prepared(tmp_path, "toy") is None
  with pytest.raises(UserError, match="No prepared dataset 'toy'"):
    open_records(tmp_path, "toy", "train")


def test_killed_run_is_not_mistaken_for_a_dataset(tmp_path):
  path = Toy(tmp_path, {"train": Numbered(3)}).prepare()
  path.rename(path.with_name("incomplete.ABCDEF_1.0.0"))  # as TFDS names it
  assert find_prepared(tmp_path, "toy") is None


def test_split_without_images(tmp_path):
  with pytest.raises(UserError, match="split 'train' has no images"):
    Toy(tmp_path, {"train": Numbered(0)}).prepare()


def test_problems_are_kept_or_refused(tmp_path):
  problems = ["one.", "two."]
  with pytest.raises(
    UserError, match=r"toys has 2 problems(.*\n)+In full:\n  one.\n  two"
  ):
    Toy(tmp_path, {"train": Numbered(1)}, "x", problems, True).prepare()
  assert find_prepared(tmp_path, "toy/x") is None
  path = Toy(tmp_path, {"train": Numbered(1)}, "x", problems).prepare()
  metadata = json.loads(pathlib.Path(path, "metadata.json").read_text())
  assert metadata["num_problems"] == 2
  assert metadata["problems"] == problems
  assert metadata["num_images_skipped"] == 0
  assert metadata["options"] == {}


def test_unusable_images_are_left_out_and_counted(tmp_path, monkeypatch):
  monkeypatch.setattr(builder, "_SHARD_LENGTH", 2)
  splits = {
    "train": Numbered(7, unusable=(2, 4, 5)),  # 4 and 5: a whole shard
    "validation": Numbered(2),
  }
  Toy(tmp_path, splits, problems=["one."]).prepare({"seed": 3})
  records = open_records(tmp_path, "toy", "train")
  assert [records[i]["image_id"] for i in range(4)] == [10, 11, 13, 16]
  np.testing.assert_array_equal(records.image_ids, [10, 11, 13, 16])
  np.testing.assert_array_equal(records.num_objects, [0, 1, 2, 5])
  metadata = records.metadata
  assert metadata["num_problems"] == 4
  # Those of the most frequent kind first.
  assert metadata["problems"][0] == "2.png: float pixels."
  assert metadata["problems"][3] == "one."
  assert metadata["kinds"]["problems"] == [
    ["float pixels", 3, "2.png: float pixels."],
    ["of the source", 1, "one."],
  ]
  assert metadata["num_images_skipped"] == 3
  assert metadata["num_annotations_skipped"] == 2 + 4 + 5
  assert metadata["options"] == {"seed": 3}


def test_strict_refuses_unusable_images(tmp_path):
  splits = {"train": Numbered(4, unusable=(1, 3))}
  with pytest.raises(UserError, match=r"2 problems(.*\n)+  1.png.*\n  3.png"):
    Toy(tmp_path, splits, is_strict=True).prepare()
  assert find_prepared(tmp_path, "toy") is None


def test_split_of_unusable_images_only(tmp_path):
  splits = {"train": Numbered(2, unusable=(0, 1))}
  with pytest.raises(UserError, match="2 of 2 images cannot(.*\n)+.*: 0.png"):
    Toy(tmp_path, splits).prepare()
  assert find_prepared(tmp_path, "toy") is None


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "\ud800", "\0"])
def test_name_that_leads_out_of_the_data_directory(tmp_path, name):
  with pytest.raises(
    UserError, match="is not a valid folder name below data_dir"
  ):
    Toy(tmp_path / "data", {}, name=name)
  assert not [*tmp_path.iterdir()]


def test_ratio_is_deterministic_and_independent_of_order():
  keys = [f"image{i}" for i in range(50)]
  splits = builder.split_by_ratio(keys, 0.2)
  assert list(splits.values()).count("validation") == 10
  assert builder.split_by_ratio(keys[::-1], 0.2) == splits
  few = builder.split_by_ratio(["a", "b"], 0.01)
  assert sorted(few.values()) == ["train", "validation"]
  assert builder.split_by_ratio(["a", "b", "a"], 0.5) in (
    {"a": "train", "b": "validation"},
    {"a": "validation", "b": "train"},
  )


@pytest.mark.parametrize(
  ("keys", "fraction"), [(["a"], 0.1), (["a", "b"], 0), (["a", "b"], 1)]
)
def test_ratio_out_of_range(keys, fraction):
  with pytest.raises(UserError, match="Need 2 images and a validation frac"):
    builder.split_by_ratio(keys, fraction)


@pytest.mark.parametrize(
  ("totals", "lost", "is_refused"),
  [
    ((4, 16), (0, 0), False),
    ((4, 16), (2, 8), False),  # no more than half
    ((4, 16), (0, 9), True),
    ((4, 16), (3, 0), True),
    ((4, 16), (0, 16), True),
    ((4, 0), (1, 7), False),  # annotations that are not counted beforehand
    ((0, 0), (0, 0), False),
  ],
)
def test_losing_too_much_is_an_error(totals, lost, is_refused):
  findings = Findings()
  for i in range(3):
    findings.problems.add("often", f"{i}: often.")
  findings.problems.add("rare", "x: rare.")
  arguments = "DIR", totals, lost, findings
  if not is_refused:
    builder.check_loss(*arguments, builder.TOLERANT)
    return
  with pytest.raises(UserError) as caught:
    builder.check_loss(*arguments, builder.TOLERANT)
  message = str(caught.value)
  assert f"{max(lost)} of" in message and message.startswith("DIR: ")
  assert message.index("3 x often") < message.index("1 x rare")
  all_lost = lost[1] == totals[1]
  assert ("--max_lost=" in message) == (not all_lost)


def test_all_is_too_much_whatever_is_tolerated():
  with pytest.raises(UserError, match="4 of 4 images cannot be used"):
    builder.check_loss(
      "DIR", (4, 0), (4, 0), Findings(), builder.Tolerance(max_lost=1.0)
    )


def test_split_that_cannot_be_made_shows_the_problems(tmp_path):
  class Held(Toy):
    def read_splits(self, dl_manager):
      super().read_splits(dl_manager)
      return self.hold_out(["only"], 0.5)

  toy = Held(tmp_path, {"train": Numbered(2)}, problems=["a.png: lost."])
  with pytest.raises(UserError, match=r"Need 2 images(.*\n)+.*a.png: lost\."):
    toy.prepare()


def test_fingerprint_is_of_the_content(tmp_path):
  def fingerprint(name, length, **options):
    Toy(tmp_path, {"train": Numbered(length)}, name=name, **options).prepare()
    return open_records(tmp_path, f"toy/{name}", "train").fingerprint

  first = fingerprint("a", 4)
  assert fingerprint("b", 4) == first  # the same again, elsewhere
  assert fingerprint("c", 5) != first
  assert fingerprint("d", 4, problems=["told."]) == first
