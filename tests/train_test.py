"""Tests of solo_jax/train.py."""

import json
import pathlib
import sys

import pytest
from absl import flags

from solo_jax import cli, train

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "solov2_shapes.py"


def parse(monkeypatch, *arguments):
  """Parses a command line into separate flags."""
  values = flags.FlagValues()
  train.define_flags(values)
  # The config flag looks for its overrides in sys.argv itself.
  monkeypatch.setattr(sys, "argv", ["train", *arguments])
  values(sys.argv)
  monkeypatch.setattr(train.flags, "FLAGS", values)


def test_flags_reach_the_run_and_metrics_end_the_output(monkeypatch, capsys):
  def train_and_evaluate(config, workdir, *, change_batch_size, change_data):
    assert not change_batch_size and not change_data
    assert config.training.num_steps == 7 and config.is_locked
    assert config.backbone.widths == (8, 8, 8, 8)
    assert workdir == "somewhere"
    return {"mask_AP": 0.5, "mask_AP_L": None}

  monkeypatch.setattr(train, "train_and_evaluate", train_and_evaluate)
  parse(
    monkeypatch,
    f"--config={CONFIG}:steps=7",
    "--workdir=somewhere",
    "--config.backbone.widths=(8,8,8,8)",
  )
  train.main()
  last = capsys.readouterr().out.splitlines()[-1]
  assert json.loads(last) == {"mask_AP": 0.5, "mask_AP_L": None}


def test_misspelt_field_is_corrected(monkeypatch):
  with pytest.raises(AttributeError, match='Did you mean.*"num_classes"'):
    parse(
      monkeypatch,
      f"--config={CONFIG}",
      "--workdir=somewhere",
      "--config.dataset.num_clases=3",
    )


def test_misspelt_argument_of_the_config(monkeypatch):
  with pytest.raises(Exception, match="unknown config argument 'step'"):
    parse(monkeypatch, f"--config={CONFIG}:step=7", "--workdir=somewhere")
    print(train.flags.FLAGS.config)


def test_value_of_the_wrong_type(monkeypatch):
  with pytest.raises(flags.IllegalFlagValueError, match="learning_rate"):
    parse(
      monkeypatch,
      f"--config={CONFIG}",
      "--workdir=somewhere",
      "--config.optimizer.learning_rate=fast",
    )


@pytest.mark.parametrize(
  ("given", "address"),
  [
    ((), None),
    (("--distributed",), (None, None, None)),
    (("--process_id=0",), (None, None, 0)),
    (
      ("--coordinator=host:1", "--num_processes=2", "--process_id=1"),
      ("host:1", 2, 1),
    ),
  ],
)
def test_flags_say_which_process_this_is(monkeypatch, given, address):
  parse(monkeypatch, f"--config={CONFIG}", "--workdir=somewhere", *given)
  assert cli.process_address(train.flags.FLAGS) == address


@pytest.mark.parametrize("missing", ["config", "workdir"])
def test_both_flags_are_required(monkeypatch, missing):
  given = {"config": f"--config={CONFIG}", "workdir": "--workdir=somewhere"}
  del given[missing]
  with pytest.raises(flags.IllegalFlagValueError, match=missing):
    parse(monkeypatch, *given.values())


def test_config_is_locked(monkeypatch):
  parse(monkeypatch, f"--config={CONFIG}", "--workdir=somewhere")
  with pytest.raises(AttributeError, match="Did you mean"):
    train.flags.FLAGS.config.optimizer.learning_rat = 1.0


def test_what_follows_the_start_is_printed(monkeypatch, capsys):
  monkeypatch.setattr(train, "train_and_evaluate", lambda *_, **__: {})
  asked = []
  monkeypatch.setattr(
    train, "follow", lambda *given: asked.append(given) or ["a=1, as in x"]
  )
  parse(
    monkeypatch,
    f"--config={CONFIG}",
    "--workdir=somewhere",
    "--config.training.init_from=x",
  )
  train.main()
  assert "a=1, as in x (set it to keep another value)" in (
    capsys.readouterr().out
  )
  ((config, workdir, given),) = asked
  assert config.training.init_from == "x" and workdir == "somewhere"
  assert list(given) == ["training.init_from"]
