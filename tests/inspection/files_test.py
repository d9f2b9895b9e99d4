"""Tests of solo_jax/inspection/files.py; doctor_test.py has the rest."""

from solo_jax.inspection import diagnosis
from tests.config_test import load
from tests.inspection.doctor_test import run, suggesting


def test_no_picture_of_what_is_not_lost(
  scenes,
  tmp_path,
  monkeypatch,
  capsys,
):
  monkeypatch.setattr(diagnosis, "suggest", suggesting())
  config = load("solov2_shapes").unlock()
  config.dataset.data_dir = scenes.data_dir
  config.network.num_grids = (48, 24)
  out = tmp_path / "doctor"
  out.mkdir()
  (out / "lost.png").write_text("of an earlier run")
  _, printed = run(config, out, num_images=4, num_oracle_images=2)
  assert not (out / "lost.png").exists()
  assert "there is no lost.png" in printed
  assert "lost.png)" not in (out / "report.md").read_text()
  # There is no terminal: a line at the start of each stage.
  told = capsys.readouterr().err
  assert told.startswith("Reading train (4 images)\n")
  assert "\nScoring perfect masks: this config (2 images)\n" in told
