"""Tests of solo_jax/checkpoints/hub.py, against a server of this process."""

import errno
import hashlib
import shutil
import ssl
import subprocess

import pytest
from file_server import FileServer

from solo_jax.checkpoints import hub
from solo_jax.errors import UserError

BODY = bytes(range(256)) * 16_000  # 4 MB
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
  for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(name.lower(), raising=False)
  for name in ("SOLO_JAX_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(hub, "WAIT_SECONDS", 0.0)


@pytest.fixture
def server(monkeypatch):
  server = FileServer()
  monkeypatch.setenv("HF_ENDPOINT", server.address)
  yield server
  server.close()


def fetch(text, folder, digest=None):
  return hub.download(hub.find_remote(text, digest), folder)


def test_a_file_is_whole_checked_and_described(server, tmp_path):
  address = server.add("/a/net%20one-1234.pth?x=1", BODY)
  found = fetch(address, tmp_path, digest=SHA[:8])
  assert (tmp_path / "net one-1234.pth").read_bytes() == BODY
  assert found == dict(
    source=address,
    file="net one-1234.pth",
    sha256=SHA,
    bytes=len(BODY),
    etag='"v1"',
  )
  assert len(server.requests) == 1


@pytest.mark.parametrize("share", [0.1, 0.99])
def test_a_cut_connection_is_taken_up_where_it_ended(server, tmp_path, share):
  cut = int(share * len(BODY))
  address = server.add("/x.pth", BODY, cuts=[cut])
  assert fetch(address, tmp_path)["sha256"] == SHA
  (_, first), (_, second) = server.requests
  assert "Range" not in first
  assert 0 < int(second["Range"][len("bytes=") : -1]) <= cut


@pytest.mark.parametrize("options", [dict(takes_ranges=False), dict(etag=None)])
def test_without_ranges_a_cut_download_starts_again(server, tmp_path, options):
  address = server.add("/x.pth", BODY, cuts=[1_000_000], **options)
  assert fetch(address, tmp_path)["sha256"] == SHA
  assert len(server.requests) == 2


def test_a_file_that_changes_between_two_pieces_is_started_again(
  server, tmp_path
):
  address = server.add("/x.pth", BODY[::-1], cuts=[1_000_000])
  remote = hub.find_remote(address)
  opened = hub._open

  def change(*arguments):
    if server.requests:
      server.add("/x.pth", BODY, etag='"v2"')
    return opened(*arguments)

  hub._open = change
  try:
    assert hub.download(remote, tmp_path)["sha256"] == SHA
  finally:
    hub._open = opened
  assert server.requests[1][1]["If-Range"] == '"v1"'


def test_a_connection_that_is_always_cut_gives_up(server, tmp_path):
  address = server.add("/x.pth", BODY, takes_ranges=False, cuts=[1000] * 9)
  with pytest.raises(UserError, match="was cut .*nothing was kept"):
    fetch(address, tmp_path)
  assert len(server.requests) == hub.ATTEMPTS


def test_one_wrong_byte_of_the_same_size_is_refused(server, tmp_path):
  address = server.add("/x.pth", b"!" + BODY[1:])
  with pytest.raises(UserError, match=f"expected {SHA[:8]}.*Nothing was kept"):
    fetch(address, tmp_path, digest=SHA[:8])


def test_a_model_on_the_hub(server, tmp_path, monkeypatch):
  server.add_model(
    "owner/net",
    {"README.md": b"", "pytorch_model.bin": b"2", "model.safetensors": BODY},
  )
  monkeypatch.setenv("HF_TOKEN", "secret")
  remote = hub.find_remote("hf:owner/net")
  assert remote.licence == "mit" and remote.digest == SHA
  assert remote.source == "hf:owner/net@c0ffee"
  found = hub.download(remote, tmp_path)
  assert found["source"] == "hf:owner/net@c0ffee" and found["sha256"] == SHA
  assert server.requests[0][1]["Authorization"] == "Bearer secret"
  # The commit is pinned: another one gives other addresses.
  assert server.requests[1][0] == "/owner/net/resolve/c0ffee/model.safetensors"
  server.answers["/cdn/model.safetensors"].body = BODY[:-1]
  with pytest.raises(UserError, match=f"{len(BODY) - 1} bytes, expected"):
    fetch("hf:owner/net", tmp_path)


def test_what_is_no_model_of_the_hub(server):
  server.add_model("owner/two", {"a.pth": b"1", "b.pth": b"2"})
  with pytest.raises(UserError, match="found a.pth, b.pth"):
    hub.find_remote("hf:owner/two")
  server.add("/api/models/o/m/revision/main?blobs=true", b"<html>")
  with pytest.raises(
    UserError, match="did not answer like the Hugging Face Hub"
  ):
    hub.find_remote("hf:o/m")
  server.add("/api/models/o/m/revision/main?blobs=true", b"[]")
  with pytest.raises(
    UserError, match="did not answer like the Hugging Face Hub"
  ):
    hub.find_remote("hf:o/m")
  for text in ("hf:net", "hf:a/b/c", "hf:/x"):
    with pytest.raises(UserError, match="expected hf:owner/model"):
      hub.find_remote(text)


@pytest.mark.parametrize(
  ("status", "words"),
  [
    (401, "private or misspelled; set HF_TOKEN"),
    (403, "agree to its licence"),
    (404, "does not exist"),
    (407, "HTTPS_PROXY"),
  ],
)
def test_refusals_have_a_message_each(server, tmp_path, status, words):
  address = server.add("/x.pth", b"", status=status)
  with pytest.raises(UserError, match=words):
    fetch(address, tmp_path)
  assert len(server.requests) == 1


@pytest.mark.parametrize(
  ("asked", "seconds"),
  [("0", 0.1), ("nan", 20), ("Mon, 30 Nov 2026 02:05:00 GMT", 20)],
)
def test_a_busy_server_is_waited_for_within_a_bound(
  server, tmp_path, monkeypatch, asked, seconds
):
  busy = {"Retry-After": asked}
  address = server.add("/x.pth", b"", status=429, headers=busy)

  def sleep(seconds):
    slept.append(seconds)
    if len(slept) == 2:
      server.add("/x.pth", BODY)

  slept = []
  monkeypatch.setattr(hub.time, "sleep", sleep)
  assert fetch(address, tmp_path)["sha256"] == SHA
  assert slept == [seconds, seconds]
  server.add("/x.pth", b"", status=429, headers={"Retry-After": "3600"})
  with pytest.raises(UserError, match="too many requests"):
    fetch(address, tmp_path)
  assert len(slept) == 2


def test_a_page_in_place_of_a_file_is_refused(server, tmp_path):
  page = {"Content-Type": "text/html; charset=utf-8"}
  address = server.add("/x.pth", b"<html>log in</html>", headers=page)
  with pytest.raises(UserError, match="sent a web page, not a file"):
    fetch(address, tmp_path)


def test_servers_that_cannot_be_reached_are_named(server, tmp_path):
  address = server.add("/x.pth", BODY)
  server.close()
  with pytest.raises(UserError, match="cannot be reached.*pass the file"):
    fetch(address, tmp_path)
  with pytest.raises(UserError, match="cannot be reached"):
    hub.find_remote("hf:owner/net")
  with pytest.raises(UserError, match="nowhere.invalid is unknown"):
    fetch("https://nowhere.invalid/x.pth", tmp_path)


@pytest.mark.parametrize("name", ["SOLO_JAX_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked(server, tmp_path, monkeypatch, name):
  address = server.add("/x.pth", BODY)
  monkeypatch.setenv(name, "1")
  with pytest.raises(UserError, match=f"{name} forbids .*{address}"):
    fetch(address, tmp_path)
  assert not server.requests
  monkeypatch.setenv(name, "0")
  assert fetch(address, tmp_path)["sha256"] == SHA


def test_proxies(server, tmp_path, monkeypatch):
  proxy = FileServer()
  address = "http://files.invalid/x.pth"
  proxy.answers[address] = server.answers.setdefault("", None) or _answer(407)
  monkeypatch.setenv("HTTP_PROXY", proxy.address)
  with pytest.raises(UserError, match="the proxy needs user and password"):
    fetch(address, tmp_path)
  proxy.answers[address] = _answer(200)
  assert fetch(address, tmp_path)["sha256"] == SHA
  proxy.close()
  with pytest.raises(UserError, match="the proxy refused.*HTTPS_PROXY"):
    fetch(address, tmp_path)


def _answer(status):
  from file_server import Answer

  return Answer(body=BODY if status == 200 else b"", status=status)


def test_certificates_are_verified(tmp_path, monkeypatch):
  if shutil.which("openssl") is None:
    pytest.skip("needs openssl")
  key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
  subprocess.run(
    f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
    f"-keyout {key} -out {certificate} -days 2 -subj /CN=127.0.0.1 "
    "-addext subjectAltName=IP:127.0.0.1".split(),
    check=True,
    capture_output=True,
  )
  context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
  context.load_cert_chain(certificate, key)
  server = FileServer(context)
  address = server.add("/x.pth", BODY)
  monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
  monkeypatch.delenv("SSL_CERT_FILE", raising=False)
  with pytest.raises(UserError, match="cannot be verified.*SSL_CERT_FILE"):
    fetch(address, tmp_path)
  monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
  assert fetch(address, tmp_path)["sha256"] == SHA
  plain = FileServer()
  server.add(
    "/x.pth", b"", status=302, headers={"Location": plain.add("/y.pth", BODY)}
  )
  with pytest.raises(UserError, match="which is not secure"):
    fetch(address, tmp_path)
  plain.close()
  server.close()


def test_too_little_space_is_seen_before_the_first_byte(
  server, tmp_path, monkeypatch
):
  address = server.add("/x.pth", BODY)
  monkeypatch.setattr(
    hub.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 10**6)
  )
  with pytest.raises(UserError, match="needs 8 MB .* 1 MB are free"):
    fetch(address, tmp_path)
  assert (tmp_path / "x.pth").stat().st_size == 0


def test_a_full_disk_is_an_error_of_the_system(server, tmp_path, monkeypatch):
  address = server.add("/x.pth", BODY)

  class Full:
    name = str(tmp_path / "x.pth")
    seek = truncate = staticmethod(lambda *_: None)

    def write(self, _):
      raise OSError(errno.ENOSPC, "No space left on device")

  copy = hub._Copy(hub.find_remote(address), Full(), lambda *_: None)
  with pytest.raises(OSError, match="No space left"):
    copy.run()
