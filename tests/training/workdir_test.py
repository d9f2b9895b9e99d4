"""Tests of solo_jax/training/workdir.py."""

import errno
import fcntl
import os

import pytest

from solo_jax.errors import UserError
from solo_jax.training import workdir
from solo_jax.training.workdir import claim


def test_second_run_is_refused_until_the_first_has_ended(tmp_path):
  folder = str(tmp_path / "runs" / "one")
  with claim(folder):
    message = f"in use by another run .process {os.getpid()} on .*, started 2"
    with pytest.raises(UserError, match=message), claim(folder):
      pytest.fail("must not run")
  with claim(folder), claim(str(tmp_path / "runs" / "two")):
    pass


def test_failed_run_lets_go(tmp_path):
  with pytest.raises(ZeroDivisionError), claim(str(tmp_path)):
    raise ZeroDivisionError
  with claim(str(tmp_path)):
    pass


def test_file_left_by_another_run_is_no_lock(tmp_path):
  (tmp_path / workdir.LOCK).write_text("process 1 on elsewhere")
  with claim(str(tmp_path)):
    assert f"process {os.getpid()} on " in (tmp_path / workdir.LOCK).read_text()


@pytest.mark.parametrize("kind", ["symbolic", "hard", "dangling", "pipe"])
def test_lock_that_is_another_file_is_not_touched(tmp_path, kind):
  other, lock = tmp_path / "thesis.txt", tmp_path / "run" / workdir.LOCK
  lock.parent.mkdir()
  if kind != "dangling":
    other.write_text("years of work")
  if kind == "pipe":
    os.mkfifo(lock)
  elif kind == "hard":
    lock.hardlink_to(other)
  else:
    lock.symlink_to(other)
  with pytest.raises(UserError, match="run.lock is a"), claim(str(lock.parent)):
    pytest.fail("must not run")
  assert not other.exists() or other.read_text() == "years of work"
  assert other.exists() == (kind != "dangling")


def test_folder_with_brackets_is_refused_at_once(tmp_path):
  folder = str(tmp_path / "run[2]")
  with pytest.raises(UserError, match="has .* in 'run.2.'"), claim(folder):
    pytest.fail("must not run")
  assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_made(tmp_path):
  (tmp_path / "file").touch()
  folder = str(tmp_path / "file" / "run")
  message = f"--workdir={folder} cannot be written .*Not a directory.*choose"
  with pytest.raises(UserError, match=message), claim(folder):
    pytest.fail("must not run")


def test_where_there_are_no_locks_there_is_a_warning(
  tmp_path, monkeypatch, caplog
):
  def flock(file, how):
    raise OSError(errno.ENOTSUP, "Operation not supported")

  with claim("gs://bucket/run"):
    assert "gs://bucket/run cannot be locked (a bucket" in caplog.messages[-1]
  monkeypatch.setattr(fcntl, "flock", flock)
  with claim(str(tmp_path)):
    assert "(Operation not supported): nothing stops" in caplog.messages[-1]


def test_every_process_hears_that_the_folder_is_taken(tmp_path, monkeypatch):
  """Process 1 takes no lock; it gets the answer of process 0."""
  monkeypatch.setattr(workdir.jax, "process_index", lambda: 1)
  monkeypatch.setattr(
    workdir.parallel, "gather_json", lambda value: ["in use", value]
  )
  with pytest.raises(UserError, match="^in use$"), claim(str(tmp_path)):
    pytest.fail("must not run")
  assert not list(tmp_path.iterdir())


def test_log_folder_of_a_local_workdir_is_the_workdir(tmp_path):
  folder = workdir.LogFolder(str(tmp_path / "run"))
  assert folder.path == tmp_path / "run" and folder.path.is_dir()
  folder.upload()
  folder.close()
  assert list(folder.path.iterdir()) == []


def test_log_folder_of_a_bucket_copies_what_changed(bucket, monkeypatch):
  folder = workdir.LogFolder("gs://bucket/run")
  (folder.path / "below").mkdir()
  (folder.path / "below" / "a").write_text("one")
  (folder.path / "b").write_text("two")
  folder.upload(every_seconds=1000)  # not yet
  assert not (bucket / "run").exists()
  folder.upload()
  assert (bucket / "run" / "below" / "a").read_text() == "one"
  (bucket / "run" / "b").write_text("of the bucket")
  (folder.path / "below" / "a").write_text("one more")
  folder.close()
  assert (bucket / "run" / "below" / "a").read_text() == "one more"
  assert (bucket / "run" / "b").read_text() == "of the bucket"
  assert not folder.path.exists()


def test_failed_copy_is_logged_and_tried_again(bucket, monkeypatch, caplog):
  folder = workdir.LogFolder("gs://bucket/run")
  (folder.path / "a").write_text("one")
  with monkeypatch.context() as patch:
    patch.setattr(workdir.epath.Path, "write_bytes", lambda *_: 1 / 0)
    folder.upload()
  assert "gs://bucket/run/a cannot be written (division" in caplog.text
  folder.close()
  assert (bucket / "run" / "a").read_text() == "one"
