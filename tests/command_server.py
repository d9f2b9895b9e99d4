"""Runs a command again and again in forks of a process that has imported it.

python tests/command_server.py MODULE

Importing takes a second and most of a command's time. A request is a line of
JSON on the standard input: `arguments`, `environment` and the file to write
`output` and `errors` to. The answer is the exit code, on a line of its own.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile


@dataclasses.dataclass(frozen=True)
class Result:
  """The result of a command, like subprocess.run's with captured text."""

  returncode: int
  stdout: str
  stderr: str


@contextlib.contextmanager
def serve(module):
  """Yields a function that runs `python -m module` with arguments."""
  with (
    tempfile.TemporaryDirectory() as folder,
    subprocess.Popen(
      [sys.executable, __file__, module],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,  # that it forks
      text=True,
    ) as process,
  ):

    def run(*arguments, **environment):
      files = [pathlib.Path(folder) / name for name in ("output", "errors")]
      request = dict(
        arguments=arguments,
        environment=environment,
        output=str(files[0]),
        errors=str(files[1]),
      )
      print(json.dumps(request), file=process.stdin, flush=True)
      code = int(process.stdout.readline())
      return Result(code, *(x.read_text("utf-8") for x in files))

    yield run
    process.stdin.close()


def main(module):
  importlib.import_module(module)
  del sys.modules[module]  # to be run as a program
  for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if not child:
      return run_forked(module, request)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)


def run_forked(module, request):
  os.environ.update(request["environment"])
  for name, target in (("output", 1), ("errors", 2)):
    opened = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(opened, target)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  sys.argv[1:] = request["arguments"]
  runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
  main(sys.argv[1])
