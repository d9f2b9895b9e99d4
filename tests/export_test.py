"""Tests of solo_jax/export.py, the command."""

import json
from types import SimpleNamespace

import pytest

from solo_jax import export
from solo_jax.errors import UserError


def test_sizes_are_height_x_width():
  assert export.parse_size("800x1344") == (800, 1344)
  for text in ("800", "800x", "0x5", "axb", "5x5x5"):
    with pytest.raises(UserError, match="is not a size; expected HEIGHTxWIDTH"):
      export.parse_size(text)


@pytest.mark.parametrize(
  ("tile_size", "is_limited"), [(None, True), (64, False)]
)
def test_flags_reach_the_export_and_files_are_listed(
  tmp_path, monkeypatch, capsys, tile_size, is_limited
):
  def export_checkpoint(checkpoint, out, **options):
    assert checkpoint == "loaded run"
    assert options == dict(
      input_sizes=[(64, 96)],
      image_size=(90, 85),
      batch_size=2,
      platforms=["cpu", "tpu"],
      onnx=False,
    )
    manifest = dict(
      preprocessing=dict(tile_size=tile_size),
      programs=[dict(canvas_size=(90, 88))],
    )
    (out / "manifest.json").write_text(json.dumps(manifest))

  monkeypatch.setattr(export, "export_checkpoint", export_checkpoint)
  monkeypatch.setattr(export.weights, "load", lambda path: f"loaded {path}")
  monkeypatch.setattr(
    export,
    "FLAGS",
    SimpleNamespace(
      checkpoint="run",
      out=str(tmp_path),
      input_size=["64x96"],
      image_size="90x85",
      batch_size=2,
      platforms=["cpu", "tpu"],
      onnx=False,
    ),
  )
  export.main()
  printed = capsys.readouterr().out
  assert f"MB  {tmp_path / 'manifest.json'}" in printed
  assert ("images of up to 90 x 88 pixels" in printed) == is_limited
