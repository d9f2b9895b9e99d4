"""Limits requests of visitors to the server of the web page.

Gradio fetches any address that a visitor names (in a path, or as the file of a
call), stores the result whatever its size, and limits uploads by file, not by
request. Here, requests that name an address or are too long are rejected before
they reach Gradio.
"""

import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

NO_ADDRESSES = "No address is fetched for a visitor: upload the file."
# Bytes of a request in addition to its file: boundaries of forms, thresholds.
_MAX_EXTRA_BYTES = 2**16
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class Guard:
  """An ASGI application in front of another one."""

  def __init__(self, app: Callable, *, max_bytes: int):
    """Wraps an application.

    Args:
      app: The application.
      max_bytes: Longest body of a request, without the overhead of forms.
    """
    self._app = app
    self._max_bytes = max_bytes + _MAX_EXTRA_BYTES

  async def __call__(
    self, scope: dict[str, Any], receive: Callable, send: _Send
  ) -> None:
    """Answers a request, or passes it on."""
    if scope["type"] != "http":
      await self._app(scope, receive, send)
    elif names_address(scope["path"]):
      await _refuse(send, 403, NO_ADDRESSES)
    elif _declared_bytes(scope) > self._max_bytes:
      await _refuse(send, 413, "too large")
    else:
      await self._app(scope, self._bounded(receive), send)

  def _bounded(self, receive: Callable) -> Callable:
    """Returns a receiver that aborts a request that becomes too long."""
    left = self._max_bytes

    async def receive_part():
      nonlocal left
      part = await receive()
      left -= len(part.get("body", b""))
      return part if left >= 0 else {"type": "http.disconnect"}

    return receive_part


def names_address(path: str) -> bool:
  """Returns whether a path asks the server to fetch an address.

  Args:
    path: Path of a request, decoded or not.

  Returns:
    True for '/file=https://...' and '/proxy=...' in any spelling.
  """
  for _ in range(3):  # encoded more than once
    path = urllib.parse.unquote(path)
  path = path.replace("\\", "/").lower()
  return "proxy=" in path or any(
    f"{name}:" in path for name in ("http", "https", "ftp")
  )


def refuse_addresses(component: Any, error: Exception) -> None:
  """Makes a component accept only uploaded files, no addresses.

  Args:
    component: A Gradio component that takes a file.
    error: Raised for an address.
  """
  move = component.async_move_resource_to_block_cache

  async def move_uploaded(name):
    if name is not None and names_address(str(name)):
      raise error
    return await move(name)

  component.async_move_resource_to_block_cache = move_uploaded


def _declared_bytes(scope: dict[str, Any]) -> int:
  length = dict(scope["headers"]).get(b"content-length", b"0")
  return int(length) if length.isdigit() else 0


async def _refuse(send: _Send, status: int, text: str) -> None:
  headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
  await send(
    {"type": "http.response.start", "status": status, "headers": headers}
  )
  await send({"type": "http.response.body", "body": text.encode()})
