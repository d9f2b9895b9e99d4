"""Finds text of a page that cannot be read on what is behind it."""

# Colours are painted onto a canvas: CSS has many ways to write them.
_SCRIPT = """
(least) => {
  const pen = document.createElement("canvas").getContext("2d",
    { willReadFrequently: true });
  const read = (colors) => {
    pen.clearRect(0, 0, 1, 1);
    for (const color of colors) {
      pen.fillStyle = color;
      pen.fillRect(0, 0, 1, 1);
    }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((x) => x / 255).map((x) =>
      x > 0.04045 ? ((x + 0.055) / 1.055) ** 2.4 : x / 12.92);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body,
    NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (element.closest(":disabled") || !node.textContent.trim()) continue;
    if (!element.checkVisibility({ checkOpacity: true,
      checkVisibilityCSS: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const { width, height } = range.getBoundingClientRect();
    if (width < 2 || height < 2) continue;
    const behind = [];
    for (let x = element; x; x = x.parentElement)
      behind.unshift(getComputedStyle(x).backgroundColor);
    behind.unshift("Canvas");
    const style = getComputedStyle(element);
    const color = element.namespaceURI.includes("svg")
      ? style.fill : style.color;
    const back = luminance(read(behind));
    const text = luminance(read([...behind, color]));
    const ratio = (Math.max(back, text) + 0.05) /
      (Math.min(back, text) + 0.05);
    if (ratio < least) found.push(
      `${node.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return found;
}
"""


def find_faint_text(page, least=4.5):
  """Lists visible texts of a Playwright page with too little contrast.

  Args:
    page: The page. Pictures and gradients behind a text are not seen.
    least: Contrast that is enough; 4.5 is level AA of WCAG 2.

  Returns:
    'beginning of the text: contrast', one each.
  """
  return page.evaluate(_SCRIPT, least)
