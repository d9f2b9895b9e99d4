"""Tests of solo_jax/evaluation/page.py."""

import datetime
import json
import re
from importlib import metadata

from solo_jax.evaluation import page

EVIL = '</script><b>{{body}}</b> & "dog"'


def test_names_cannot_become_markup():
  text = page.build(
    page.Heading(title=EVIL, command=f"run --name='{EVIL}'"),
    "<p>{{title}}</p>",
    data=dict(name=EVIL),
  )
  assert "<b>" not in text
  assert text.count("<p>{{title}}</p>") == 1  # not filled in again
  (content,) = re.findall(r'id="data">(.*?)</script>', text)
  assert json.loads(content) == dict(name=EVIL)


def test_the_page_shows_when_and_by_which_version_it_was_made():
  before = datetime.datetime.now(datetime.UTC)
  text = page.build(page.Heading(title="T", command="a --b"), "")
  day, time = re.search(r"Made (\S+) (\S+) UTC by solo_jax", text).groups()
  made = datetime.datetime.fromisoformat(f"{day}T{time}+00:00")
  assert abs((made - before).total_seconds()) < 120
  assert f"solo_jax {metadata.version('solo_jax')}<" in text
  assert "<code>a --b</code>" in text and "<title>T</title>" in text
