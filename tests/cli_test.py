"""Tests of solo_jax/cli.py: mistakes are explained, bugs are shown."""

import io
import os
import pathlib
import subprocess
import sys

import ml_collections
import numpy as np
import pytest
from absl import app, flags
from rich.console import Console

from solo_jax import cli, parallel, train
from solo_jax.config import config_folder
from solo_jax.errors import UserError
from solo_jax.losses.dice import dice_loss
from solo_jax.parallel import check_batch_size

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "solov2_coco.py"


def catch(function, *args):
  with pytest.raises(Exception) as caught:  # noqa: B017
    function(*args)
  return caught.value


def test_a_users_error_is_its_message():
  assert "does not split evenly" in cli.explain(catch(check_batch_size, 1, 100))

  def fail():
    try:
      int("many")
    except ValueError as error:
      raise UserError("steps='many' is not a int") from error

  assert cli.explain(catch(fail)) == "steps='many' is not a int"


def test_control_characters_of_files_do_not_reach_the_terminal(tmp_path):
  """In messages and in lines of the log."""
  program = tmp_path / "program.py"
  program.write_text(
    "from absl import logging\n"
    "from solo_jax import cli\n"
    "from solo_jax.errors import UserError\n"
    "def main():\n"
    "  logging.error('name %s', 'a\\x1b[31m')\n"
    "  raise UserError('file \\x1b]0;x\\x07\\udcff.png:\\nsecond line')\n"
    "cli.run(main)\n"
  )
  done = subprocess.run(
    [sys.executable, program],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )
  assert done.returncode == 1 and "\x1b" not in done.stderr
  assert "name a\\x1b[31m" in done.stderr
  assert "file \\x1b]0;x\\x07\\udcff.png:\nsecond line" in done.stderr


def test_files_that_the_system_refuses_are_named(tmp_path):
  path = tmp_path / "missing" / "results.json"
  assert cli.explain(catch(open, path, "w")) == (
    f"{path}: No such file or directory"
  )


@pytest.mark.parametrize(
  "bug",
  [
    lambda: np.zeros(3).reshape(2, 2),  # ValueError in a library
    lambda: dice_loss(np.zeros(3), np.zeros(4)),
    lambda: ml_collections.ConfigDict({"a": 1}).b,
    lambda: check_batch_size(1),
    lambda: exec("raise OSError('of no file')"),
  ],
)
def test_bugs_are_not_explained(bug):
  assert cli.explain(catch(bug)) is None


def test_the_end_of_another_process_is_explained(monkeypatch):
  def fail():
    try:
      raise ValueError("UNKNOWN: Gloo AllGather failed: Read error\nmore")
    except ValueError as error:
      raise RuntimeError("the checkpoint cannot be written") from error

  error = catch(fail)
  assert cli.explain(error) is None  # one process alone has no others
  monkeypatch.setattr("jax.distributed.is_initialized", lambda: True)
  message = cli.explain(error)
  assert message.startswith("another process of this run has exited")
  assert message.endswith(
    "This process got: UNKNOWN: Gloo AllGather failed: Read error"
  )
  assert cli.explain(catch(lambda: np.zeros(3).reshape(2, 2))) is None


def parse(monkeypatch, *arguments):
  """Parses a command line of train into separate flags."""
  values = flags.FlagValues()
  train.define_flags(values)
  monkeypatch.setattr(sys, "argv", ["train", *arguments])
  monkeypatch.setattr(flags, "FLAGS", values)
  return cli.parse_flags(sys.argv)


def test_flags_are_parsed(monkeypatch):
  rest = parse(
    monkeypatch, f"--config={CONFIG}:backbone=r101", "--workdir=w", "more"
  )
  assert rest == ["train", "more"]
  assert flags.FLAGS.workdir == "w"


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--config=nowhere.py"], r"^--config: .*No such file.*'nowhere.py'$"),
    (
      ["--config=nowhere.py", "--config.seed=3"],
      r"^--config: .*No such file.*'nowhere.py'$",
    ),
    (
      [f"--config={CONFIG}:backbon=r50"],
      r"^--config: unknown config argument 'backbon'; known: [^\n]*$",
    ),
    (
      [f"--config={CONFIG}", "--config.dataset.nam=a"],
      r'^--config: \'nam\'. Did you mean "name" instead of "nam"\?$',
    ),
  ],
)
def test_mistakes_about_the_config_are_one_line(
  monkeypatch, arguments, message
):
  with pytest.raises(UserError, match=message) as caught:
    parse(monkeypatch, *arguments, "--workdir=w")
  assert cli.explain(caught.value) == str(caught.value)


def test_other_mistakes_in_flags_end_with_a_line(monkeypatch):
  with pytest.raises(SystemExit, match="num_classes=many.*'many'"):
    parse(
      monkeypatch,
      f"--config={CONFIG}",
      "--workdir=w",
      "--config.dataset.num_classes=many",
    )
  with pytest.raises(SystemExit, match="Unknown command line flag 'work'"):
    parse(monkeypatch, f"--config={CONFIG}", "--workdir=w", "--work=w")


def test_a_bug_in_a_config_file_keeps_its_traceback(monkeypatch, tmp_path):
  path = tmp_path / "config.py"
  path.write_text(
    "import ml_collections\n"
    "def get_config():\n"
    "  return ml_collections.ConfigDict({'name': 1}).nam\n"
  )
  with pytest.raises(AttributeError, match="nam") as caught:
    parse(monkeypatch, f"--config={path}", "--workdir=w")
  assert cli.explain(caught.value) is None


def test_run_exits_with_the_message_or_raises_the_bug(monkeypatch):
  monkeypatch.setattr(sys, "argv", ["solo_jax/eval.py"])
  monkeypatch.setattr(app, "run", lambda main, flags_parser: main(["eval"]))
  with pytest.raises(SystemExit) as caught:
    cli.run(lambda: check_batch_size(1, 100))
  assert caught.value.code.startswith("eval: training.batch_size=1 does not")
  with pytest.raises(ZeroDivisionError):
    cli.run(lambda: 1 / 0)


def test_a_shape_mistake_in_a_loss_keeps_its_traceback(monkeypatch):
  """The loss itself says what is wrong, and the caller wants to see where."""
  monkeypatch.setattr(app, "run", lambda main, flags_parser: main(["train"]))

  def my_loss():
    return dice_loss(np.zeros((2, 3)), np.zeros((2, 4)))

  with pytest.raises(ValueError, match="must have one shape") as caught:
    cli.run(my_loss)
  names = [entry.name for entry in caught.traceback]
  assert names[-2:] == ["my_loss", "dice_loss"]


def test_arguments_that_a_command_does_not_take_are_refused(monkeypatch):
  asked = []
  monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
  with pytest.raises(app.UsageError, match="unexpected arguments: a.png b.png"):
    cli.start(asked.append, ["convert", "a.png", "b.png"])
  assert not asked
  cli.start(asked.append, ["predict", "a.png"], takes_arguments=True)
  cli.start(lambda: asked.append("nothing"), ["train"])
  assert asked == ["a.png", "nothing"]


def test_one_of_several_processes_is_connected_first(monkeypatch):
  values, events = flags.FlagValues(), []
  cli.define_process_flags(values)
  monkeypatch.setattr(flags, "FLAGS", values)
  monkeypatch.setattr(parallel, "connect", lambda *x: events.append(x))
  for given in ([], ["--coordinator=a:1", "--num_processes=2"]):
    values(["train", *given])
    cli.start(lambda: events.append("command"), ["train"])
  assert events == ["command", ("a:1", 2, None), "command"]


def test_progress_shows_images_per_second():
  console = Console(file=io.StringIO(), width=120, force_terminal=True)
  with cli.make_progress(console) as progress:
    task = progress.add_task("predicting [x]", total=4)
    assert "images/s" not in console.file.getvalue()
    progress.advance(task)
  shown = console.file.getvalue()
  assert "predicting [x]" in shown and "1/4" in shown and "images/s" in shown


def test_a_name_that_the_terminal_cannot_write_stops_no_run():
  script = "import sys; from absl import flags; from solo_jax import cli; "
  script += "cli.run(lambda: print('\\u6838 \\ud800'))"
  result = subprocess.run(
    [sys.executable, "-c", script],
    capture_output=True,
    env=os.environ | {"PYTHONIOENCODING": "ascii"},
  )
  assert result.stdout == b"\\u6838 \\ud800\n", result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      [
        *("train", f"--config={ROOT / 'configs' / 'solov2_shapes.py'}"),
        *("--workdir=w", "--config.dataset.data_dir=nowhere"),
      ],
      "train: No prepared dataset 'shapes' in data_dir 'nowhere'",
    ),
    (["eval", "--checkpoint=nowhere"], "eval: no checkpoint at "),
    (["predict", "--checkpoint=x", "--out=y"], "predict: nothing to predict"),
    (["prepare", "--dataset=labeled_images", "--source=x"], "prepare: x/image"),
  ],
)
def test_commands_exit_with_a_message(tmp_path, arguments, message):
  result = subprocess.run(
    [sys.executable, "-m", f"solo_jax.{arguments[0]}", *arguments[1:]],
    capture_output=True,
    text=True,
    cwd=tmp_path,
  )
  assert result.returncode == 1
  assert result.stderr.startswith(message)
  assert len(result.stderr.splitlines()) <= 2  # no traceback above or below


def test_a_command_line_can_be_typed_again():
  module = str(pathlib.Path(cli.__file__).with_name("eval.py"))
  line = cli.command_line([module, "--checkpoint=a b", "--report=r"])
  assert line == "python -m solo_jax.eval '--checkpoint=a b' --report=r"
  assert cli.command_line(["/x/bin/tool", "-v"]) == "tool -v"


def test_configs_of_the_project_are_found_from_any_folder(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  folder = config_folder()
  assert cli.find_config("--config=configs/solov2_coco.py:backbone=r50") == (
    f"--config={folder / 'solov2_coco.py'}:backbone=r50"
  )
  assert cli.find_config("-config=solov2_coco.py") == (
    f"-config={folder / 'solov2_coco.py'}"
  )
  for other in ("--config=mine.py", "--config.seed=1", "solov2_coco.py", "x"):
    assert cli.find_config(other) == other
  (tmp_path / "solov2_coco.py").touch()  # what is here wins
  assert cli.find_config("--config=solov2_coco.py") == "--config=solov2_coco.py"
