"""Runs all commands: `solo train ...` is `python -m solo_jax.train ...`.

`python -m solo_jax` does the same and, like `solo` alone, lists the commands.
"""

import importlib.util
import runpy
import sys
from collections.abc import Sequence

# Module of each command, and what it does.
COMMANDS = {
  "prepare": ("prepare", "convert a dataset to records"),
  "inspect": ("inspect_data", "what data and config allow, before training"),
  "train": ("train", "train a model"),
  "eval": ("eval", "score a checkpoint; --report writes a page"),
  "predict": ("predict", "find instances in images and videos"),
  "page": ("webapp", "a local web page to try a model"),
  "convert": ("convert", "read the weights of other code bases"),
  "export": ("export", "one program of a model, for StableHLO or ONNX"),
}


def usage() -> str:
  """Returns the list of commands."""
  lines = [f"  solo {name:8} {does}" for name, (_, does) in COMMANDS.items()]
  return "\n".join(
    [
      "solo_jax: find and outline every object in an image.",
      "",
      *lines,
      "",
      "solo COMMAND --help lists the flags of a command.",
    ]
  )


def main(argv: Sequence[str] | None = None) -> None:
  """Runs a command, or lists all.

  Args:
    argv: The program, a command and its arguments; None: those of the process.

  Raises:
    SystemExit: With the exit code of the command; 2 if there is none of that
      name.
  """
  argv = sys.argv if argv is None else argv
  if len(argv) < 2 or argv[1] in ("help", "-h", "--help"):
    print(usage())
    return
  if argv[1] not in COMMANDS:
    print(f"solo: no command {argv[1]!r}\n\n{usage()}", file=sys.stderr)
    sys.exit(2)
  module = f"solo_jax.{COMMANDS[argv[1]][0]}"
  # Like `python -m`, so that processes started by a command find its module.
  sys.argv = [importlib.util.find_spec(module).origin, *argv[2:]]
  runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
  main()
