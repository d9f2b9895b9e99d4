"""Tests of solo_jax/eval.py, the command."""

import json
import types

from solo_jax import eval as eval_command
from solo_jax.evaluation.coco_metrics import Metrics


def test_last_line_is_json_of_the_metrics(monkeypatch, capsys):
  metrics = Metrics(
    mask_AP=0.25,
    mask_AP50=0.5,
    mask_AP75=0.2,
    mask_AP_S=0.1,
    mask_AP_M=0.3,
    mask_AP_L=None,
    mask_AR=0.4,
    box_AP=0.26,
    class_mask_AP={"cat": 0.25, "dog": None},
    class_mask_AP50={"cat": 0.5, "dog": None},
    extra={"dsb_AP": 0.375, "abs_DiC": 1.25},
    box_source="predicted",
  )
  asked = []
  monkeypatch.setattr(
    eval_command,
    "evaluate_checkpoint",
    lambda request, progress: asked.append(request) or metrics,
  )
  monkeypatch.setattr(
    eval_command,
    "FLAGS",
    types.SimpleNamespace(
      checkpoint="run",
      data_dir=None,
      split=None,
      set=["decode.score_threshold=0.1", "decode.max_detections=9"],
      out=None,
      report=None,
      metrics=[],
      score_threshold=0.3,
      scale=[1.0, 1.5],
      flip=True,
    ),
  )
  monkeypatch.setattr(eval_command, "use_compilation_cache", lambda: None)
  eval_command.main()
  (request,) = asked
  assert request.scales == [1.0, 1.5] and request.flip
  assert (
    request.overrides == "decode.score_threshold=0.1,decode.max_detections=9"
  )
  lines = capsys.readouterr().out.splitlines()
  assert json.loads(lines[-1]) == {
    "mask_AP": 0.25,
    "mask_AP50": 0.5,
    "mask_AP75": 0.2,
    "mask_AP_S": 0.1,
    "mask_AP_M": 0.3,
    "mask_AP_L": None,
    "mask_AR": 0.4,
    "box_AP": 0.26,
    "dsb_AP": 0.375,
    "abs_DiC": 1.25,
  }
  assert any(x.split() == ["cat", "25.0", "50.0"] for x in lines)
  assert any(x.split() == ["dog", "-", "-"] for x in lines)
  assert any(x.split() == ["mask,", "large", "-"] for x in lines)
  assert any(x.split() == ["dsb_AP", "37.5"] for x in lines)
  assert any(x.split() == ["abs_DiC", "1.25"] for x in lines)
  assert any(x.split() == ["predicted", "box", "26.0"] for x in lines)
