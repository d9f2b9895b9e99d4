r"""Takes the pictures of an evaluation report that docs/evaluation.md shows.

python docs/screenshot.py reports/nuclei/report.html docs/images

Needs Playwright (the extra `test`) and Chromium.
"""

import io
import pathlib
import shutil
import sys

import PIL.Image
from playwright.sync_api import Page, sync_playwright


def save(page: Page, path: pathlib.Path, **options) -> None:
  """Saves a screenshot as a PNG file of 256 colours, a third of the size."""
  image = PIL.Image.open(io.BytesIO(page.screenshot(**options)))
  image.convert("RGB").quantize(256, dither=0).save(path, optimize=True)


def main(report: str, folder: str) -> None:
  """Takes the page in light and the viewer of an image in dark."""
  url, out = pathlib.Path(report).resolve().as_uri(), pathlib.Path(folder)
  with sync_playwright() as driver:
    browser = driver.chromium.launch(
      executable_path=shutil.which("chromium"), args=["--no-sandbox"]
    )
    for scheme in ("light", "dark"):
      page = browser.new_page(
        viewport=dict(width=1120, height=800), color_scheme=scheme
      )
      page.goto(url)
      if scheme == "light":
        bottom = page.locator("#curves").bounding_box()
        height = bottom["y"] + bottom["height"] + 60
        clip = dict(x=0, y=0, width=1120, height=height)
        save(page, out / "report.png", full_page=True, clip=clip)
        continue
      page.locator(".card").nth(2).click()
      page.wait_for_function(
        "[...document.querySelectorAll('.frame img')].every(x => x.complete)"
      )
      save(page, out / "report_viewer.png")
    browser.close()


if __name__ == "__main__":
  main(*sys.argv[1:])
