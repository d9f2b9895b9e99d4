"""Tests of solo_jax/webapp.py; the page itself in a real browser."""

import http.server
import json
import pathlib
import socket
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from types import SimpleNamespace

import contrast
import cv2
import numpy as np
import pytest

from solo_jax import types, webapp, webapp_results
from solo_jax.evaluation import rle


class Bands:
  """Finds the top half as a dog and the lower left as a cat; black: nothing."""

  class_names = ("cat", "dog")
  category_ids = (3, 44)
  exif = "ignore"

  def __call__(self, image):
    height, width = image.shape[:2]
    masks = np.zeros((2, height, width), bool)
    masks[0, : height // 2] = True
    masks[1, height // 2 :, : width // 4] = True
    found = types.Instances(
      masks=masks,
      scores=np.array([0.9, 0.5], np.float32),
      labels=np.array([1, 0], np.int32),
      boxes_xyxy=np.array(
        [
          (0, 0, width, height // 2),
          (0, height // 2, width // 4, height),
        ],
        np.float32,
      ),
    )
    return found if image.any() else found.first(0)


def write(path, image):
  assert cv2.imwrite(str(path), image)
  return path


@pytest.fixture(scope="module")
def served():
  """Address of a page that is served to this machine."""
  pytest.importorskip("gradio", reason="needs the extra 'demo'")
  page = webapp.build_page(
    Bands(), title="# Test", score_threshold=0.3, max_pixels=10_000
  )
  address = webapp.launch(page, host="127.0.0.1", port=0, max_upload_mb=1)
  yield address
  page.close(verbose=False)


@pytest.fixture
def page(served, browser):
  page = browser.new_page()
  page.requested = []
  page.problems = []
  page.on("request", lambda request: page.requested.append(request.url))
  page.on("pageerror", lambda error: page.problems.append(str(error)))
  page.goto(served)
  page.locator("#source input[type=file]").wait_for(state="attached")
  page.set_default_timeout(600_000)
  yield page
  assert not page.problems
  page.close()


def drop(page, path):
  page.locator("#source input[type=file]").set_input_files(str(path))


def shown_picture(page):
  """Waits for the picture and returns its pixels."""
  image = page.locator("#picture img")
  image.wait_for()
  data = page.request.get(image.get_attribute("src")).body()
  return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def test_an_image_becomes_a_picture_a_table_and_json(page, tmp_path):
  assert page.locator("#json").is_disabled()
  drop(page, write(tmp_path / "street.png", np.full((40, 60, 3), 90, np.uint8)))
  page.locator("#count", has_text="2 of 2").wait_for()
  assert "60 x 40 pixels" in page.locator("#count").inner_text()
  picture = shown_picture(page)
  assert picture.shape[1] * 40 == picture.shape[0] * 60
  lower_right = picture[-20:, -20:]
  assert (np.abs(lower_right.astype(int) - 90) < 3).all()
  upper = picture[5:15, -20:]
  assert (np.abs(upper.astype(int) - 90) > 10).any()
  table = page.locator("#table")
  table.get_by_text("dog").wait_for()
  table.get_by_text("cat").wait_for()

  with page.expect_download() as download:
    page.locator("#json").click()
  dataset = json.loads(pathlib.Path(download.value.path()).read_text())
  (entry,) = dataset["images"]
  assert (entry["file_name"], entry["height"], entry["width"]) == (
    "street.png",
    40,
    60,
  )
  assert [x["category_id"] for x in dataset["annotations"]] == [44, 3]
  masks = rle.decode(
    [x["segmentation"] for x in dataset["annotations"]], (40, 60)
  )
  assert masks[0, :20].all() and masks[0].sum() == 20 * 60
  assert masks[1].sum() == 20 * 15

  # The slider leaves one, in the picture, the table and the JSON.
  page.locator("#score input[type=number]").fill("0.6")
  page.locator("#score input[type=number]").press("Enter")
  page.locator("#count", has_text="1 of 2").wait_for()
  table.get_by_text("cat").wait_for(state="detached")
  page.locator("#area input[type=number]").fill("2000")
  page.locator("#area input[type=number]").press("Enter")
  page.locator("#count", has_text="0 of 2").wait_for()
  with page.expect_download() as download:
    page.locator("#json").click()
  dataset = json.loads(pathlib.Path(download.value.path()).read_text())
  assert dataset["annotations"] == [] and len(dataset["images"]) == 1

  hosts = {urllib.parse.urlparse(url).hostname for url in page.requested}
  assert hosts - {None} == {"127.0.0.1"}  # nothing from elsewhere


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_no_faint_text(served, browser, tmp_path, scheme):
  page = browser.new_page(color_scheme=scheme)
  page.set_default_timeout(600_000)
  page.goto(served)
  page.add_style_tag(content="* { transition: none !important }")
  page.locator("#source input[type=file]").wait_for(state="attached")
  assert not contrast.find_faint_text(page)
  drop(page, write(tmp_path / "street.png", np.full((40, 60, 3), 90, np.uint8)))
  page.locator("#table").get_by_text("cat").wait_for()
  assert not contrast.find_faint_text(page)
  page.close()


def test_nothing_found_is_a_result(page, tmp_path):
  drop(page, write(tmp_path / "night.png", np.zeros((40, 60, 3), np.uint8)))
  page.locator("#count", has_text="0 of 0").wait_for()
  assert not shown_picture(page).any()


def test_what_cannot_be_used_is_reported(page, tmp_path):
  toast = page.get_by_test_id("toast-body")
  broken = tmp_path / "broken.png"
  broken.write_bytes(b"\x89PNG not an image")
  drop(page, broken)
  toast.get_by_text("not an image").first.wait_for()
  page.reload()
  drop(page, write(tmp_path / "wide.png", np.zeros((101, 100), np.uint8)))
  toast.get_by_text("more than --max_pixels=10000").first.wait_for()
  page.reload()
  noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
  large = write(tmp_path / "heavy.png", noise)
  assert large.stat().st_size > 10**6
  drop(page, large)
  page.get_by_text("exceed the maximum allowed size").first.wait_for()


def test_only_this_machine_is_answered(served):
  address = urllib.parse.urlparse(served)
  assert address.hostname == "127.0.0.1"
  with socket.create_connection((address.hostname, address.port), timeout=600):
    pass
  others = {
    info[4][0]
    for info in socket.getaddrinfo(
      socket.gethostname(), None, family=socket.AF_INET
    )
  } - {"127.0.0.1", "127.0.1.1"}
  for other in others:
    with pytest.raises(OSError):
      socket.create_connection((other, address.port), timeout=2)


def test_no_file_outlives_the_page(tmp_path, monkeypatch):
  """Each step of a slider makes a JSON file; Gradio's folders stay, empty."""
  gradio_client = pytest.importorskip("gradio_client")
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
  monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
  page = webapp.build_page(
    Bands(), title="# Test", score_threshold=0.3, max_pixels=10_000
  )
  address = webapp.launch(page, host="127.0.0.1", port=0, max_upload_mb=1)
  client = gradio_client.Client(address, verbose=False)
  image = write(tmp_path / "a.png", np.full((40, 60, 3), 90, np.uint8))
  client.predict(gradio_client.handle_file(str(image)), api_name="/detect")
  for score in (0.1, 0.6, 0.95):
    *_, found = client.predict(score, 0, ["fill"], "class", api_name="/show")
    found = found["value"] if isinstance(found, dict) else found
    assert json.loads(pathlib.Path(found).read_text())["images"]
  assert [*tmp_path.rglob("gradio/*/predictions.json")]
  assert not [*tmp_path.glob("solo_jax_demo_*")]
  page.close(verbose=False)
  left = [x for x in tmp_path.rglob("gradio/**/*") if x.is_file()]
  assert not left


def _post(address, path, body, kind="application/json"):
  """Returns (status, text) of the server's answer."""
  request = urllib.request.Request(
    address.rstrip("/") + path, body, {"Content-Type": kind}
  )
  try:
    with urllib.request.urlopen(request, timeout=600) as answer:
      return answer.status, answer.read().decode()
  except urllib.error.HTTPError as error:
    return error.code, error.read().decode()
  except OSError as error:  # the server does not wait for what is too long
    return None, str(error)


def test_server_fetches_nothing_and_stores_no_more_than_it_states(
  served, tmp_path, monkeypatch
):
  """A visitor who writes requests of their own, past the page."""
  asked = []

  class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      asked.append(self.path)
      self.send_response(200)
      self.end_headers()
      self.wfile.write(bytes(10**6))

    def log_message(self, *_):
      pass

  async def validate(hostname):
    return "127.0.0.1"  # as if its name led to a public address

  safehttpx = pytest.importorskip("safehttpx")
  monkeypatch.setattr(safehttpx, "async_validate_url", validate)
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  other = f"http://public.example:{server.server_port}/a.png"
  file = {"path": other, "meta": {"_type": "gradio.FileData"}}
  calls = [{"data": [file]}, {"data": [{**file, "path": "x", "url": other}]}]
  for call in calls:
    _, text = _post(
      served, "/gradio_api/call/detect", json.dumps(call).encode()
    )
    event = json.loads(text)["event_id"]
    with urllib.request.urlopen(
      f"{served.rstrip('/')}/gradio_api/call/detect/{event}", timeout=600
    ) as answer:
      assert "event: error" in answer.read().decode()
  for path in (f"/gradio_api/file={other}", f"/gradio_api/proxy={other}"):
    assert _post(served, path, None)[0] == 403
  form = (
    b"--x\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"
    + bytes(3 * 10**6)
    + b"\r\n--x--\r\n"
  )
  kind = "multipart/form-data; boundary=x"
  assert _post(served, "/gradio_api/upload", form, kind)[0] in (413, None)
  server.shutdown()
  assert not asked


def test_thresholds_and_table():
  predictor = Bands()
  found = predictor(np.full((40, 60, 3), 9, np.uint8))
  assert len(webapp_results.select(found, 0.0, 0)) == 2
  assert webapp_results.select(found, 0.6, 0).labels.tolist() == [1]
  assert webapp_results.select(found, 0.0, 301).labels.tolist() == [1]
  assert webapp_results.select(found, 0.95, 0).masks.shape == (0, 40, 60)
  rows = webapp_results.describe(predictor, found)
  assert [tuple(row.values()) for row in rows] == [
    (1, "dog", "0.900", 1200, "0, 0 to 60, 20"),
    (2, "cat", "0.500", 300, "0, 20 to 15, 40"),
  ]
  assert webapp_results.to_html([]) == ""
  assert "<td>&lt;b&gt;</td>" in webapp_results.to_html([{"class": "<b>"}])


def test_command_serves_the_checkpoint(monkeypatch, capsys, tmp_path):
  served = {}
  monkeypatch.setattr(webapp, "use_compilation_cache", lambda: None)
  monkeypatch.setattr(
    webapp.Predictor,
    "from_checkpoint",
    lambda path, **_: SimpleNamespace(class_names=[f"c{i}" for i in range(15)]),
  )

  def build_page(predictor, **options):
    served.update(options)
    return SimpleNamespace(block_thread=lambda: None)

  def launch(page, **options):
    served.update(options)
    return "http://127.0.0.1:7860/"

  monkeypatch.setattr(webapp, "build_page", build_page)
  monkeypatch.setattr(webapp, "launch", launch)
  monkeypatch.setattr(
    webapp,
    "FLAGS",
    SimpleNamespace(
      checkpoint="run",
      compare="another",
      host="127.0.0.1",
      port=7860,
      score_threshold=0.25,
      max_upload_mb=20,
      max_pixels=2_000_000,
      examples=str(tmp_path),
    ),
  )
  for name in "abcdefghi":
    (tmp_path / f"{name}.png").touch()
  webapp.main()
  assert "open http://127.0.0.1:7860/" in capsys.readouterr().out
  title = served.pop("title")
  names = ", ".join(f"c{i}" for i in range(12))
  assert title.startswith(f"# Find {names} and 3 more\n") and "`run`" in title
  assert title.endswith("Model: `run`, next to `another`")
  assert served.pop("other").class_names[1] == "c1"
  assert served == dict(
    examples=[str(tmp_path / f"{name}.png") for name in "abcdefgh"],
    score_threshold=0.25,
    max_pixels=2_000_000,
    host="127.0.0.1",
    port=7860,
    max_upload_mb=20,
  )


def test_two_checkpoints_find_side_by_side(browser, tmp_path):
  pytest.importorskip("gradio", reason="needs the extra 'demo'")
  other = Bands()
  other.class_names = ("another cat", "another dog")
  page = webapp.build_page(
    Bands(), title="# T", score_threshold=0.3, max_pixels=10_000, other=other
  )
  address = webapp.launch(page, host="127.0.0.1", port=0, max_upload_mb=1)
  try:
    shown = browser.new_page()
    shown.goto(address)
    path = write(tmp_path / "a.png", np.full((40, 60, 3), 128, np.uint8))
    shown.locator("#source input[type=file]").set_input_files(path)
    shown.locator("#table").get_by_text("cat").first.wait_for()
    shown.locator("#table_other").get_by_text("another cat").first.wait_for()
    for name in ("#picture", "#picture_other"):
      shown.locator(f"{name} img").wait_for()
    shown.close()
  finally:
    page.close(verbose=False)
