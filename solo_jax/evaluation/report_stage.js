// --- A picture with outlines over it, as the controls "Show" have it.
const SHOWN = { contour: true, fill: true, boxes: false, labels: true };
let colors = "object";

function paint() {
  for (const name of Object.keys(SHOWN))
    document.body.classList.toggle("no-" + name, !SHOWN[name]);
}

function addShowControls(place, onChange) {
  place.append(make("fieldset", {}, make("legend", {}, "Show"),
    ...Object.keys(SHOWN).map((name) => make("label", {}, make("input", {
      type: "checkbox", "data-show": name, onchange: (event) => {
        SHOWN[name] = event.target.checked;
        syncControls();
        paint();
      } }), " " + name))),
  make("label", {}, "Colours ", make("select", { "data-colors": "",
    onchange: (event) => {
      colors = event.target.value;
      syncControls();
      onChange();
    } }, make("option", { value: "object" }, "by object"),
  make("option", { value: "class" }, "by class"))));
}

function syncControls() {
  for (const box of document.querySelectorAll("[data-show]"))
    box.checked = SHOWN[box.dataset.show];
  for (const list of document.querySelectorAll("[data-colors]"))
    list.value = colors;
}

// A detection has the colour of the object that it covers; what covers none is
// grey.
function colorOf(mark, image) {
  const { palette, unmatched } = data;
  if (colors === "class") return palette[mark.label % palette.length];
  const row = mark.match ?? image.objects.indexOf(mark);
  return row < 0 ? unmatched : palette[row % palette.length];
}

function ink(color) {
  const [r, g, b] = [1, 3, 5].map((i) =>
    (parseInt(color.slice(i, i + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

// The largest lie below.
const area = (mark) => mark.box[2] * mark.box[3];

// Returns the element and the group of each mark; `texts` has the words on
// each, `lit` those that the choice is about.
function makeStage(image, marks, { lit, alt, texts = null }) {
  const unit = image.unit;
  const svg = make("svg", { preserveAspectRatio: "none",
    viewBox: `0 0 ${image.width * unit} ${image.height * unit}` });
  const groups = new Map();
  for (const mark of [...marks].sort((a, b) => area(b) - area(a))) {
    const color = colorOf(mark, image);
    const [x, y, width, height] = mark.box;
    const group = make("g", { class: lit.has(mark) ? "lit" : null },
      make("path", { class: "area", d: mark.path, fill: color }),
      make("path", { class: "halo", d: mark.path }),
      make("path", { class: "edge", d: mark.path, stroke: color }),
      make("rect", { class: "box", x, y, width, height, stroke: color }));
    groups.set(mark, group);
    svg.append(group);
  }
  const stage = make("div", { class: "stage",
    style: `aspect-ratio: ${image.width} / ${image.height}` },
  make("img", { src: image.picture, alt }), svg);
  if (texts) for (const mark of marks) {
    const color = colorOf(mark, image);
    const sign = make("span", { class: "sign",
      style: `background: ${color}; color: ${ink(color)}` }, texts.get(mark));
    sign.mark = mark;
    stage.append(sign);
  }
  stage.unit = unit;
  stage.groups = groups;
  return stage;
}

const overlap = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width &&
  a.y < b.y + b.height && b.y < a.y + a.height;

const CROWDED = 25;

// Puts each sign on its object where that has room, else next to it with a line
// between the two; signs never overlap.
function placeSigns(stage) {
  const svg = stage.querySelector("svg");
  for (const line of svg.querySelectorAll(".leader")) line.remove();
  const scale = stage.clientWidth / svg.viewBox.baseVal.width;
  if (!scale) return;
  const isLit = (sign) =>
    stage.groups.get(sign.mark).classList.contains("lit");
  const signs = [...stage.querySelectorAll(".sign")];
  signs.sort((a, b) => isLit(b) - isLit(a));  // otherwise as they are
  for (const sign of signs) sign.style.display = "";
  const sizes = signs.map((x) => [x.offsetWidth, x.offsetHeight]);
  const taken = [];
  signs.forEach((sign, i) => {
    const [width, height] = sizes[i], { mark } = sign;
    const [left, top, w, h] = mark.box.map((x) => x * scale);
    // Names of small objects would hide a crowd; enlarged, they have room.
    if (signs.length > CROWDED && width > 1.5 * w && !isLit(sign)) {
      sign.style.display = "none";
      return;
    }
    const [x, y] = mark.deepest.map((v) => v * scale);
    const isInside = (px, py) => {
      const point = svg.createSVGPoint();
      [point.x, point.y] = [px / scale, py / scale];
      return stage.groups.get(mark).firstChild.isPointInFill(point);
    };
    const places = [[x - width / 2, y - height / 2], [left, top - height - 2],
      [left, top + h + 2], [left + w - width, top - height - 2],
      [left + w + 2, top], [left + 2, top + 2]].map(([px, py], j) => ({
      x: j ? Math.max(0, Math.min(px, stage.clientWidth - width)) : px,
      y: j ? Math.max(0, Math.min(py, stage.clientHeight - height)) : py,
      width, height, isFirst: !j }));
    const place = places.find((p) => !taken.some((t) => overlap(p, t)) &&
      (!p.isFirst || w * h > 5 * width * height && [[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0], [0.5, 1]]
        .every(([u, v]) => isInside(p.x + u * width, p.y + v * height))));
    if (!place) { sign.style.display = "none"; return; }
    taken.push(place);
    sign.style.left = `${place.x}px`;
    sign.style.top = `${place.y}px`;
    const cx = place.x + width / 2, cy = place.y + height / 2;
    if (!place.isFirst && !isInside(cx, cy)) svg.prepend(make("line", {
      class: "leader", x1: cx / scale, y1: cy / scale, x2: x / scale,
      y2: y / scale, stroke: sign.style.backgroundColor }));
  });
}
