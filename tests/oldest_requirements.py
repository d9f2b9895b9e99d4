"""Prints the lower bounds of pyproject.toml as constraints for pip."""

import pathlib
import re
import tomllib

project = tomllib.loads(
  (pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text()
)["project"]
for requirement in project["dependencies"]:
  bound = re.fullmatch(r"([\w.-]+)(\[.*\])? *>= *([\w.]+)", requirement)
  if bound is None:
    raise SystemExit(f"pyproject.toml: {requirement!r} has no lower bound")
  print(f"{bound[1]}=={bound[3]}.*")
  if bound[1] == "opencv-python-headless":
    # supervision brings opencv-python, which installs the same files.
    print(f"opencv-python=={bound[3]}.*")
