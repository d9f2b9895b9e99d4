r"""Takes the picture of the demo page that docs/demo.md shows.

python docs/screenshot_demo.py workdirs/shapes \
    data/shapes/examples/002002.png docs/images/demo_page.png

Needs the extras `demo` and `test`, and Chromium.
"""

import io
import pathlib
import shutil
import sys

import PIL.Image
from playwright.sync_api import sync_playwright

from solo_jax import webapp
from solo_jax.api import Predictor


def main(checkpoint: str, image: str, out: str) -> None:
  """Serves a checkpoint, drops an image and saves what the page shows."""
  predictor = Predictor.from_checkpoint(checkpoint)
  page = webapp.build_page(
    predictor,
    title=webapp.make_title(checkpoint, predictor.class_names),
    score_threshold=0.3,
    max_pixels=10**7,
    examples=sorted(map(str, pathlib.Path(image).parent.glob("*.png"))),
  )
  address = webapp.launch(page, host="127.0.0.1", port=0, max_upload_mb=20)
  with sync_playwright() as driver:
    browser = driver.chromium.launch(
      executable_path=shutil.which("chromium"), args=["--no-sandbox"]
    )
    tab = browser.new_page(viewport=dict(width=1200, height=900))
    tab.set_default_timeout(600_000)
    tab.goto(address)
    tab.locator("#source input[type=file]").set_input_files(image)
    tab.locator("#count", has_text="detections").wait_for()
    tab.locator("#picture img").wait_for()
    tab.wait_for_timeout(3000)  # the picture is loaded, tables are laid out
    shot = PIL.Image.open(io.BytesIO(tab.screenshot(full_page=True)))
    shot.convert("RGB").quantize(256, dither=0).save(out, optimize=True)
    browser.close()
  page.close(verbose=False)


if __name__ == "__main__":
  main(*sys.argv[1:])
