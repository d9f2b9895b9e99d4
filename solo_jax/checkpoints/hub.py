"""Downloads files of weights: from any address, and from the Hugging Face Hub.

Both use the same function and the same checks: size, digest, and whether a file
was sent. An interrupted download is resumed if the server supports it,
otherwise restarted. The Hub's own two addresses are used directly: one that
lists a model's files with their digests, one that sends a file.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import requests
import rich.progress

from solo_jax.cache import VARIABLE, offline_variable
from solo_jax.checkpoints.refusals import explain, explain_status
from solo_jax.errors import UserError
from solo_jax.terminal import Console

HUB = "hf:"
ATTEMPTS = 4
WAIT_SECONDS = 1.0  # before the second attempt, twice as long each time
LONGEST_WAIT_SECONDS = 60.0  # that a server may ask for, in total
TIMEOUT_SECONDS = (10.0, 60.0)  # to connect, and between two pieces
_CHUNK = 2**16  # bytes, the most that a cut loses
# Files of weights on the Hub in the order of preference.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_COMPANIONS = ("config.json", "preprocessor_config.json")
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".pkl")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remote:
  """A file to download.

  Attributes:
    address: Address of the file.
    file_name: Name of the copy.
    source: Name that the user recognises.
    digest: First digits of its SHA-256, or None.
    size: Size in bytes, or None.
    licence: Licence of the weights, or None.
    companions: Small files next to it that describe the network, by name.
    headers: HTTP headers to send.
  """

  address: str
  file_name: str
  source: str
  digest: str | None = None
  size: int | None = None
  licence: str | None = None
  companions: dict[str, bytes] = dataclasses.field(default_factory=dict)
  headers: dict[str, str] = dataclasses.field(default_factory=dict)


def is_address(text: str) -> bool:
  """Returns whether a text is the address of a file, not a path."""
  return text.startswith((HUB, "https://", "http://"))


def find_remote(text: str, digest: str | None = None) -> Remote:
  """Returns the file of an address.

  Args:
    text: https://... or hf:owner/model, with a revision after '@' if wanted.
    digest: First digits of its SHA-256, if known.

  Returns:
    The file; for a model on the Hub, that of its newest commit, pinned.

  Raises:
    UserError: If the Hub does not answer, or the model has no file of weights.
  """
  if text.startswith(HUB):
    return _find_on_hub(text)
  name = pathlib.PurePosixPath(urllib.parse.urlsplit(text).path).name
  return Remote(
    address=text,
    file_name=urllib.parse.unquote(name),
    source=text,
    digest=digest,
  )


def _find_on_hub(text: str) -> Remote:
  repository, _, revision = text.removeprefix(HUB).partition("@")
  if repository.count("/") != 1 or not all(repository.split("/")):
    raise UserError(
      f"{text!r}: expected hf:owner/model or hf:owner/model@revision"
    )
  endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
  endpoint = endpoint.rstrip("/")
  token = os.environ.get("HF_TOKEN")
  headers = {"Authorization": f"Bearer {token}"} if token else {}
  address = f"{endpoint}/api/models/{repository}/revision/{revision or 'main'}"
  body = _read(f"{address}?blobs=true", headers, text)
  try:
    model = json.loads(body)
    files = {x["rfilename"]: x for x in model["siblings"]}
    base = f"{endpoint}/{repository}/resolve/{model['sha']}"
    card = model.get("cardData") or {}
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise UserError(
      f"{text}: {endpoint} did not answer like the Hugging Face Hub; check "
      "HF_ENDPOINT and HTTPS_PROXY"
    ) from error
  name = _choose_weights(text, list(files))
  companions = {
    x: _read(f"{base}/{x}", headers, text) for x in _COMPANIONS if x in files
  }
  return Remote(
    address=f"{base}/{name}",
    file_name=name,
    source=f"{HUB}{repository}@{model['sha']}",
    digest=(files[name].get("lfs") or {}).get("sha256"),
    size=files[name].get("size"),
    licence=card.get("license_name") or card.get("license"),
    companions=companions,
    headers=headers,
  )


def _read(address: str, headers: dict[str, str], source: str) -> bytes:
  """Returns the content of a small file."""
  try:
    with _open(address, headers, source) as response:
      return response.content
  except requests.RequestException as error:
    raise UserError(f"{source}: {explain(error, address).text}") from error


def _choose_weights(text: str, names: list[str]) -> str:
  for name in _WEIGHTS:
    if name in names:
      return name
  found = [name for name in names if name.endswith(_ENDINGS)]
  if len(found) != 1:
    listed = ", ".join(found or names[:10]) or "nothing"
    raise UserError(
      f"{text}: expected one file of weights, {' or '.join(_WEIGHTS)}; found "
      f"{listed}. Download the right one and pass the file"
    )
  return found[0]


def download(remote: Remote, folder: pathlib.Path) -> dict[str, Any]:
  """Downloads a file with a progress display, and checks it.

  Args:
    remote: The file.
    folder: Folder to write it to, named `remote.file_name`.

  Returns:
    Facts about it: source, sha256, bytes, etag.

  Raises:
    UserError: If it cannot be downloaded, or is not the expected file. The
      folder is then empty, or contains a file that the caller must delete.
    OSError: If it cannot be written.
  """
  path = folder / remote.file_name
  progress = rich.progress.Progress(
    rich.progress.TextColumn("{task.description}", markup=False),
    rich.progress.BarColumn(),
    rich.progress.DownloadColumn(),
    rich.progress.TransferSpeedColumn(),
    rich.progress.TimeRemainingColumn(),
    console=Console(stderr=True),
  )
  with progress, open(path, "wb") as file:
    task = progress.add_task(remote.file_name, total=remote.size)
    copy = _Copy(
      remote,
      file,
      lambda done, total: progress.update(task, completed=done, total=total),
    )
    copy.run()
  _check(remote, copy)
  return dict(
    source=remote.source,
    file=remote.file_name,
    sha256=copy.digest.hexdigest(),
    bytes=copy.done,
    etag=copy.etag,
  )


class _Copy:
  """A running download.

  Attributes:
    done: Bytes so far.
    total: Bytes of the whole file, None while or where it is not known.
    etag: The server's name for this version of the file, or None.
    digest: SHA-256 of the bytes so far.
  """

  def __init__(self, remote, file, report):
    self.done, self.total, self.etag = 0, remote.size, None
    self.digest = hashlib.sha256()
    self._remote, self._file, self._report = remote, file, report

  def run(self) -> None:
    """Downloads until the file is complete or a retry is pointless."""
    for attempt in range(ATTEMPTS):
      try:
        with _open(
          self._remote.address, self._headers(), self._remote.source
        ) as response:
          self._take(response)
      except requests.RequestException as error:
        reason = explain(error, self._remote.address)
        if reason.is_final or attempt == ATTEMPTS - 1:
          raise UserError(f"{self._remote.source}: {reason.text}") from error
      else:
        if self.total is None or self.done == self.total:
          return
      time.sleep(WAIT_SECONDS * 2**attempt)
    raise UserError(
      f"{self._remote.source}: the connection was cut {ATTEMPTS} times, last "
      f"after {self.done} of {self.total} bytes; nothing was kept, try again"
    )

  def _headers(self) -> dict[str, str]:
    headers = dict(self._remote.headers)
    if self.done and self.etag and not self.etag.startswith("W/"):
      headers |= {"Range": f"bytes={self.done}-", "If-Range": self.etag}
    return headers

  def _take(self, response: requests.Response) -> None:
    """Writes the data that a server sends."""
    if response.headers.get("Content-Type", "").startswith("text/html"):
      raise UserError(
        f"{self._remote.source}: {response.url} sent a web page, not a file, "
        "for example to log in or to accept a licence; open it in a browser, "
        "download the file there and pass its path"
      )
    start = f"bytes {self.done}-"
    if not (
      response.status_code == 206
      and response.headers.get("Content-Range", "").startswith(start)
    ):
      self._file.seek(0)
      self._file.truncate()
      self.done, self.digest = 0, hashlib.sha256()
    self.etag = response.headers.get("ETag")
    length = response.headers.get("Content-Length")
    if length is not None:
      self.total = self.done + int(length)
    self._check_space()
    for chunk in response.iter_content(_CHUNK):
      self._file.write(chunk)
      self.digest.update(chunk)
      self.done += len(chunk)
      self._report(self.done, self.total)

  def _check_space(self) -> None:
    """Raises if the disk has no room for the file and its converted copy."""
    folder = os.path.dirname(self._file.name)
    free = shutil.disk_usage(folder).free
    needed = 2 * (self.total or 0) - self.done
    if free < needed:
      raise UserError(
        f"{self._remote.source}: needs {needed / 1e6:.0f} MB in {folder}, "
        f"where {free / 1e6:.0f} MB are free; set {VARIABLE} to a folder with "
        "space"
      )


def _check(remote: Remote, copy: _Copy) -> None:
  """Raises if a file is not the expected one."""
  found = copy.digest.hexdigest()
  wrong = None
  if remote.size is not None and copy.done != remote.size:
    wrong = f"has {copy.done} bytes, expected {remote.size}"
  elif remote.digest is not None and not found.startswith(remote.digest):
    wrong = (
      f"has the SHA-256 {found[: len(remote.digest)]}..., expected "
      f"{remote.digest}"
    )
  if wrong:
    raise UserError(
      f"{remote.source}: the file from {remote.address} {wrong}: it was "
      "damaged on the way or replaced by its owner. Nothing was kept; try "
      "again. If the error remains, look for the new file and pass its path"
    )


@contextlib.contextmanager
def _open(
  address: str, headers: dict[str, str], source: str
) -> Iterator[requests.Response]:
  """Returns a context with a server's answer, whose body is still to come.

  Raises:
    UserError: If the network is forbidden, or the server refuses the request.
    requests.RequestException: If the server cannot be reached.
  """
  variable = offline_variable()
  if variable:
    raise UserError(
      f"{source} is not in the cache and {variable} forbids the network; "
      f"download {address} elsewhere and pass the file"
    )
  certificates = os.environ.get("SSL_CERT_FILE")
  may_replace = certificates and "REQUESTS_CA_BUNDLE" not in os.environ
  waited = 0.0
  while True:
    response = requests.get(
      address,
      headers={"Accept-Encoding": "identity", **headers},
      stream=True,
      timeout=TIMEOUT_SECONDS,
      verify=certificates if may_replace else True,
    )
    with response:
      if response.status_code < 400:
        if address.startswith("https:") and response.url.startswith("http:"):
          raise UserError(
            f"{source}: {address} leads to {response.url}, which is not secure"
          )
        yield response
        return
      wait = _requested_wait(response)
      if wait is None or waited + wait > LONGEST_WAIT_SECONDS:
        raise UserError(f"{source}: {explain_status(response)}")
    time.sleep(wait)
    waited += wait


def _requested_wait(response: requests.Response) -> float | None:
  """Returns the seconds that a busy server asks to wait, None to give up."""
  if response.status_code not in (429, 500, 502, 503, 504):
    return None
  try:
    return max(int(response.headers.get("Retry-After", "")), 0.1)
  except ValueError:  # missing, or a date
    return 20.0
