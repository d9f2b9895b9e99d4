"""A server on the loopback interface: plays the Hub and plain file hosts."""

import dataclasses
import hashlib
import http.server
import json
import threading


@dataclasses.dataclass
class Answer:
  """What the server sends for a path.

  Attributes:
    body: The file.
    status: Of the answer.
    headers: More headers.
    cuts: After how many bytes the connection ends, for each of the first
      requests.
    takes_ranges: Whether the rest of a file can be asked for.
    etag: None: no such header.
  """

  body: bytes = b""
  status: int = 200
  headers: dict[str, str] = dataclasses.field(default_factory=dict)
  cuts: list[int] = dataclasses.field(default_factory=list)
  takes_ranges: bool = True
  etag: str | None = '"v1"'


class FileServer:
  """Serves `answers` until it is closed.

  Attributes:
    answers: By path.
    requests: (path, headers) of each request so far.
    address: Without a slash at the end.
  """

  def __init__(self, context=None):
    self.answers, self.requests = {}, []
    server = self

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_GET(self):
        server._answer(self)

      def log_message(self, *_):
        pass

    self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    self._server.daemon_threads = True
    self._server.handle_error = lambda *_: None  # a client that hangs up
    if context is not None:
      self._server.socket = context.wrap_socket(
        self._server.socket, server_side=True
      )
    kind = "http" if context is None else "https"
    self.address = f"{kind}://127.0.0.1:{self._server.server_port}"
    threading.Thread(
      target=self._server.serve_forever, args=(0.02,), daemon=True
    ).start()

  def close(self):
    self._server.shutdown()
    self._server.server_close()

  def add(self, path, body, **options):
    """Returns the address of a new file."""
    self.answers[path] = Answer(body=body, **options)
    return self.address + path

  def add_model(self, repository, files, *, licence="mit", commit="c0ffee"):
    """Adds a model as the Hub lists it, with its files."""
    siblings = [
      dict(
        rfilename=name,
        size=len(body),
        lfs=dict(sha256=hashlib.sha256(body).hexdigest(), size=len(body)),
      )
      for name, body in files.items()
    ]
    model = dict(sha=commit, siblings=siblings, cardData=dict(license=licence))
    for revision in ("main", commit):
      self.add(
        f"/api/models/{repository}/revision/{revision}?blobs=true",
        json.dumps(model).encode(),
      )
    for name, body in files.items():
      self.add(f"/cdn/{name}", body)
      self.add(
        f"/{repository}/resolve/{commit}/{name}",
        b"",
        status=302,
        headers={"Location": f"{self.address}/cdn/{name}"},
      )

  def _answer(self, handler):
    self.requests.append((handler.path, dict(handler.headers)))
    answer = self.answers.get(handler.path, Answer(status=404))
    body, status, headers = answer.body, answer.status, dict(answer.headers)
    wanted = handler.headers.get("Range")
    is_same = handler.headers.get("If-Range") == answer.etag
    if wanted and answer.takes_ranges and is_same:
      start = int(wanted.removeprefix("bytes=").rstrip("-"))
      headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
      body, status = body[start:], 206
    if answer.etag:
      headers["ETag"] = answer.etag
    handler.send_response(status)
    for name, value in ({"Content-Length": len(body)} | headers).items():
      handler.send_header(name, value)
    handler.end_headers()
    if answer.cuts:
      body = body[: answer.cuts.pop(0)]
      handler.close_connection = True
    handler.wfile.write(body)
