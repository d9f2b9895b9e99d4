"""Tests of solo_jax/training/logging.py."""

import io
import json
import math
import struct

import cv2
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from solo_jax.errors import UserError
from solo_jax.training.log_lines import Line
from solo_jax.training.logging import (
  Progress,
  RunLog,
  read_rows,
  summarize_rows,
)


def make_row(**changes):
  row = dict(
    corrupt_images_dropped=0.0,
    gradient_norm=2.0,
    learning_rate=0.1,
    loss=1.0,
    mask_loss=0.25,
    nonfinite_in_row=0.0,
    nonfinite_total=0.0,
    positives_dropped=3.0,
  )
  return row | changes


def test_closed_terminal_does_not_end_a_run(tmp_path):
  """The rows are still written, and what is read from files is escaped."""

  class Terminal(io.StringIO):
    def write(self, text):
      if "gone" in text:
        raise OSError(5, "Input/output error")
      return super().write(text)

  log = RunLog(str(tmp_path), first_step=0)
  terminal = log._console.file = Terminal()
  log.message("class \x1b]0;x")
  log.message("gone")
  log.metrics(1, {"train/loss": 0.5}, Line("step 1", "step 1"))
  log.close()
  assert terminal.getvalue() == "class \\x1b]0;x\n"
  assert len(read_rows(tmp_path / "metrics.jsonl")) == 1


def test_rows_are_summed_averaged_or_last():
  rows = [
    make_row(loss=1.0, learning_rate=0.1),
    make_row(loss=3.0, learning_rate=0.2),
  ]
  values = summarize_rows(rows)
  assert values["loss"] == 2.0
  assert values["positives_dropped"] == 6.0
  assert values["learning_rate"] == 0.2


def test_skipped_steps_do_not_enter_the_means():
  rows = [
    make_row(loss=1.0),
    make_row(loss=math.nan, gradient_norm=math.nan, nonfinite_total=1.0),
    make_row(mask_loss=9.0, gradient_norm=math.inf, nonfinite_total=2.0),
  ]
  values = summarize_rows(rows)
  assert values["loss"] == 1.0 and values["mask_loss"] == 0.25
  assert values["nonfinite_total"] == 2.0
  assert values["positives_dropped"] == 9.0
  assert math.isnan(summarize_rows(rows[1:2])["loss"])


def test_log_line_and_metrics_of_an_interval_by_hand(monkeypatch):
  clock = iter([100.0, 110.0, 110.0, 120.0, 120.0])
  monkeypatch.setattr("time.perf_counter", lambda: next(clock))
  progress = Progress(first_step=0, num_steps=1000, batch_size=8)
  progress.add_data_wait(2.5)
  row, line = progress.summarize(50, [make_row()] * 50, num_compiled=1)
  # 50 steps of 8 images in 10 s; 950 steps at 0.2 s are left.
  assert row["train/images_per_second"] == 40.0
  assert row["train/seconds_left"] == 190.0
  assert row["train/data_wait"] == 0.25
  assert row["train/positives_dropped"] == 150.0
  assert line.whole == (
    "step   50/1000  loss 1.0000  mask 0.25  gradient norm 2  lr 1.00e-01  "
    "40.0 images/s  data wait 25%  ETA 0:03:10  compiled 1  "
    "positives dropped 150"
  )
  row, line = progress.summarize(
    100, [make_row(nonfinite_total=4.0)] * 50, num_compiled=2
  )
  assert row["train/positives_dropped_total"] == 300.0
  assert row["train/data_wait"] == 0.0
  assert line.whole.endswith("positives dropped 300  non-finite steps 4")


def test_time_between_steps_does_not_count(monkeypatch):
  clock = iter([0.0, 70.0, 72.0, 72.0])
  monkeypatch.setattr("time.perf_counter", lambda: next(clock))
  progress = Progress(first_step=0, num_steps=20, batch_size=1)
  progress.start_clock(8)  # after a minute of evaluation at step 8
  row, _ = progress.summarize(10, [make_row()] * 10, num_compiled=1)
  assert row["train/images_per_second"] == 1.0


def test_files_of_a_run(tmp_path, capsys):
  log = RunLog(str(tmp_path), first_step=0)
  log.section("Training")
  log.message("[not markup] " + "long " * 40)
  log.metrics(
    5,
    {"val/mask_AP": 0.5, "val/mask_AP_L": None},
    Line("line of step 5", "line of step 5"),
  )
  image = np.zeros((4, 6, 3), np.uint8)
  image[..., 0] = 255  # red
  log.picture(5, "image", image)
  log.close()
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == "== Training"
  assert lines[1].startswith("[not markup] long") and len(lines) == 3
  assert read_rows(tmp_path / "metrics.jsonl") == [
    {"step": 5, "val/mask_AP": 0.5, "val/mask_AP_L": None}
  ]
  picture = cv2.imread(str(tmp_path / "pictures" / "000005_image.png"))
  np.testing.assert_array_equal(picture[0, 0], [0, 0, 255])  # BGR
  (path,) = (tmp_path / "tensorboard").iterdir()
  events = read_events(path)
  assert [event.step for event in events] == [0, 1, 5, 5]
  assert events[1].session_log.status == SessionLog.START
  assert events[2].summary.value[0].tag == "val/mask_AP"
  assert events[2].summary.value[0].simple_value == 0.5
  assert events[3].summary.value[0].image.width == 6


def read_events(path):
  """Reads TFRecords: length, its checksum, content, its checksum."""
  content, events = path.read_bytes(), []
  while content:
    (length,) = struct.unpack("<Q", content[:8])
    events.append(Event.FromString(content[12 : 12 + length]))
    content = content[16 + length :]
  return events


class FullDisk:
  """A file on a full disk."""

  def write(self, text):
    raise OSError(28, "No space left on device")

  close = flush = lambda self: self.write("")


def test_log_that_cannot_be_written(tmp_path):
  log = RunLog(str(tmp_path), first_step=0)
  log.metrics(1, {"a": 1.0}, Line("line", "line"))
  log._file.close()
  log._file = FullDisk()
  message = f"log in {tmp_path} cannot be written .No space left on device.;"
  with pytest.raises(UserError, match=message):
    log.metrics(2, {"a": 1.0}, Line("line", "line"))
  log.close()
  assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1]
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match="cannot be written .Not a directory"):
    RunLog(str(tmp_path / "file" / "run"), first_step=0)


def test_no_events_are_lost_if_the_clock_is_put_back(tmp_path, monkeypatch):
  monkeypatch.setattr("time.time", lambda: 1e9)
  for first_step in (0, 4):
    log = RunLog(str(tmp_path), first_step=first_step)
    log.metrics(first_step + 1, {"a": 1.0}, Line("line", "line"))
    log.close()
  paths = sorted((tmp_path / "tensorboard").iterdir())
  assert [read_events(path)[-1].step for path in paths] == [1, 5]


def test_resuming_drops_rows_after_the_checkpoint(tmp_path):
  path = tmp_path / "metrics.jsonl"
  rows = [{"step": step, "train/loss": 1.0} for step in (2, 4, 6)]
  text = "".join(json.dumps(row) + "\n" for row in rows)
  path.write_text(text + '{"step": 8, "tra')  # cut short by a kill
  log = RunLog(str(tmp_path), first_step=4)
  log.metrics(5, {"train/loss": math.inf}, Line("", ""))
  log.close()
  assert [row["step"] for row in read_rows(path)] == [2, 4, 5]
  assert read_rows(path)[-1]["train/loss"] is None


@pytest.mark.parametrize(
  "damage",
  [
    b'{"step": 4, "tr',
    b"\0" * 30,
    b"\xff{}",
    b"5",
    b'{"a": 1}',
    b'{"step": ""}',
  ],
)
def test_damaged_line_is_named_left_out_and_kept(tmp_path, caplog, damage):
  path = tmp_path / "metrics.jsonl"
  written = b'{"step": 2}\n' + damage + b'\n{"step": 6}\n'
  path.write_bytes(written)
  RunLog(str(tmp_path), first_step=7).close()
  assert "metrics.jsonl: line 2 is damaged and skipped" in caplog.messages[-1]
  assert read_rows(path) == [{"step": 2}, {"step": 6}]
  kept = tmp_path / "metrics.damaged.jsonl"
  assert kept.read_bytes() == written
  RunLog(str(tmp_path), first_step=7).close()
  assert kept.read_bytes() == written


def test_other_processes_write_nothing(tmp_path, capsys):
  log = RunLog(str(tmp_path / "run"), first_step=0, is_writer=False)
  log.message("text")
  log.metrics(1, {"a": 1.0}, Line("line", "line"))
  log.picture(1, "image", np.zeros((2, 2, 3), np.uint8))
  log.close()
  assert not list(tmp_path.iterdir())
  assert capsys.readouterr().out == ""


def test_log_on_a_bucket_continues_there(bucket):
  """Local files that grow, copied before checkpoints and at the end."""
  log = RunLog("gs://bucket/run", first_step=0)
  for step in (1, 2, 3):
    log.metrics(step, {"loss": 1.0 / step}, Line("", ""))
  log.picture(3, "7", np.zeros((4, 4, 3), np.uint8))
  log.flush()
  assert len(read_rows("gs://bucket/run/metrics.jsonl")) == 3
  log.metrics(4, {"loss": 0.25}, Line("", ""))  # killed here

  again = RunLog("gs://bucket/run", first_step=2)
  again.metrics(3, {"loss": 9.0}, Line("", ""))
  again.close()
  rows = read_rows("gs://bucket/run/metrics.jsonl")
  assert [(x["step"], x["loss"]) for x in rows] == [(1, 1), (2, 0.5), (3, 9)]
  found = {x.name for x in (bucket / "run" / "pictures").iterdir()}
  assert found == {"000003_7.png"}
  assert len(list((bucket / "run" / "tensorboard").iterdir())) == 2
  log.close()


def test_a_terminal_gets_the_short_line(tmp_path):
  log = RunLog(str(tmp_path), first_step=0)
  shown = log._console.file = io.StringIO()
  log._console._force_terminal = True
  log.metrics(1, {"a": 1.0}, Line("whole", "short"))
  log._console._force_terminal = False
  log.metrics(2, {"a": 1.0}, Line("whole", "short"))
  log.close()
  assert "short" in shown.getvalue().splitlines()[0]
  assert shown.getvalue().splitlines()[1] == "whole"
