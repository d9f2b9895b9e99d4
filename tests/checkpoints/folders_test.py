"""Tests of solo_jax/checkpoints/folders.py; store_test.py reads real ones."""

import pytest

from solo_jax.checkpoints.folders import find_checkpoint
from solo_jax.errors import UserError


def test_no_checkpoint_names_what_is_there(tmp_path):
  with pytest.raises(UserError, match="does not exist; train one"):
    find_checkpoint(str(tmp_path / "missing"))
  with pytest.raises(UserError, match="found an empty folder"):
    find_checkpoint(str(tmp_path))
  (tmp_path / "photo.jpg").touch()
  with pytest.raises(UserError, match="found photo.jpg"):
    find_checkpoint(str(tmp_path))


def test_checkpoint_on_a_bucket_is_found_there(bucket):
  for step in (4, 12):
    folder = bucket / "run" / "checkpoints" / str(step)
    (folder / "state" / "a").write_text("")
    (folder / "commit_success.txt").write_text("")
  unfinished = bucket / "run" / "checkpoints" / "16"
  (unfinished / "state" / "a").write_text("")
  found = find_checkpoint("gs://bucket/run")
  assert str(found) == "gs://bucket/run/checkpoints/12"
  with pytest.raises(UserError, match="no checkpoint at gs://bucket/x"):
    find_checkpoint("gs://bucket/x")
