"""Tests of solo_jax/visitors.py, without Gradio; webapp_test.py has it."""

import asyncio

import pytest

from solo_jax import visitors


async def _app(scope, receive, send):
  """Answers with the number of bytes that came."""
  total = 0
  while True:
    part = await receive()
    if part["type"] == "http.disconnect":
      return
    total += len(part["body"])
    if not part.get("more_body"):
      break
  await send({"type": "http.response.start", "status": 200, "headers": []})
  await send({"type": "http.response.body", "body": str(total).encode()})


def ask(path, *, parts=(b"",), length=None):
  """Returns (status, body) of an answer; (None, b"") if there is none."""
  guard = visitors.Guard(_app, max_bytes=1000)
  headers = [] if length is None else [(b"content-length", length)]
  parts, sent = list(parts), []

  async def receive():
    body = parts.pop(0)
    return {"type": "http.request", "body": body, "more_body": bool(parts)}

  async def send(message):
    sent.append(message)

  scope = {"type": "http", "path": path, "headers": headers}
  asyncio.run(guard(scope, receive, send))
  if not sent:
    return None, b""
  return sent[0]["status"], sent[1]["body"]


def test_requests_pass():
  assert ask("/upload", parts=[b"ab", b"c"], length=b"3") == (200, b"3")
  assert ask("/gradio_api/file=/tmp/gradio/ab/a.png")[0] == 200


@pytest.mark.parametrize(
  "path",
  [
    "/file=http://10.0.0.1/x.png",
    "/gradio_api/file=https://x.example/a",
    "/file=HTTP%3A//x.example/a",
    "/file=http%253A%252F%252Fx.example",
    "/file=http:\\\\x.example",
    "/gradio_api/proxy=https://x.hf.space/file",
    "/proxy%3Dx",
    "/file=ftp://x.example/a",
  ],
)
def test_no_address_is_fetched(path):
  assert ask(path) == (403, visitors.NO_ADDRESSES.encode())


@pytest.mark.parametrize("length", [b"100000", b"99999999999999999999"])
def test_a_long_request_is_refused_before_it_is_read(length):
  assert ask("/upload", parts=[], length=length) == (413, b"too large")


def test_a_request_that_hides_its_length_is_cut():
  part = bytes(2**14)
  assert ask("/upload", parts=[part] * 4)[0] == 200
  assert ask("/upload", parts=[part] * 6) == (None, b"")
  assert ask("/upload", parts=[part] * 6, length=b"-5") == (None, b"")


def test_components_take_uploaded_files_only():
  class Component:
    async def async_move_resource_to_block_cache(self, name):
      return f"moved {name}"

  component = Component()
  visitors.refuse_addresses(component, ValueError("no"))
  move = component.async_move_resource_to_block_cache
  assert asyncio.run(move("/tmp/a.png")) == "moved /tmp/a.png"
  assert asyncio.run(move(None)) == "moved None"
  with pytest.raises(ValueError, match="no"):
    asyncio.run(move("http://x.example/a.png"))
