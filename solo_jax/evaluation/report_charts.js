"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

const SVG_TAGS = ["svg", "path", "line", "text", "rect", "g"];

// Text is only ever set as text: names come from files of others.
function make(tag, attributes = {}, ...children) {
  const isSvg = SVG_TAGS.includes(tag);
  const element = isSvg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// The address of a choice of images, for links of bars and cells.
const toImages = (choice) => "#" + new URLSearchParams(choice);

// A link within a picture.
function linked(href, label, ...children) {
  const link =
    document.createElementNS("http://www.w3.org/2000/svg", "a");
  link.setAttribute("href", href);
  link.setAttribute("aria-label", label);
  link.append(...children);
  return link;
}

// Shares are shown in points from 0 to 100 everywhere, as `eval` prints them;
// scores, their thresholds and IoU run from 0 to 1.
const points = (x, digits = 1) =>
  x === null || x === undefined ? "–" : (100 * x).toFixed(digits);
const plural = (n, word) =>
  `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

// --- Charts of values in [0, 1], drawn in 460 x 250 units. The y axis is in
// points, the x axis as well or, for scores, from 0 to 1.
const BOX = { left: 48, top: 8, width: 402, height: 206 };
const toX = (x) => BOX.left + x * BOX.width;
const toY = (y) => BOX.top + (1 - y) * BOX.height;

function axes(xName, yName, xUnit) {
  const svg = make("svg", { viewBox: "0 0 460 252", role: "img" });
  for (const v of [0, 0.25, 0.5, 0.75, 1]) {
    const fraction = v === 0 || v === 1 ? String(v) : String(v).slice(1);
    svg.append(
      make("line", { class: "grid", x1: toX(0), x2: toX(1), y1: toY(v),
        y2: toY(v) }),
      make("text", { x: BOX.left - 7, y: toY(v) + 4, "text-anchor": "end" },
        points(v, 0)),
      make("text", { x: toX(v), y: toY(0) + 17, "text-anchor": "middle" },
        xUnit === "points" ? points(v, 0) : fraction));
  }
  svg.append(
    make("text", { x: toX(0.5), y: toY(0) + 35, "text-anchor": "middle" },
      xName));
  const middle = toY(0.5);
  svg.append(make("text", { x: 0, y: middle, "text-anchor": "middle",
    transform: `rotate(-90 8 ${middle})`, dx: 8, dy: 4 }, yName));
  svg.setAttribute("aria-label", `${yName} by ${xName}`);
  return svg;
}

// `onPick` gets the position in `xs` of a click.
function lineChart(place, xs, series, names, readout, describe, onPick) {
  const svg = axes(names.x, names.y, names.unit);
  for (const { values, color, width = 2, dash = null } of series) {
    let d = "", pen = "M";
    values.forEach((y, i) => {
      if (y === null) { pen = "M"; return; }
      d += `${pen}${toX(xs[i]).toFixed(1)} ${toY(y).toFixed(1)}`;
      pen = "L";
    });
    svg.append(make("path", { d, fill: "none", stroke: color,
      "stroke-width": width, "stroke-linejoin": "round",
      "stroke-dasharray": dash }));
  }
  const cursor = make("line", { class: "grid", y1: toY(0), y2: toY(1),
    visibility: "hidden", "stroke-dasharray": "3 3" });
  const area = make("rect", { x: toX(0), y: toY(1), width: BOX.width,
    height: BOX.height, fill: "transparent" });
  svg.append(cursor, area);
  const nearest = (event) => {
    const frame = area.getBoundingClientRect();
    const x = (event.clientX - frame.left) / frame.width;
    let i = 0;
    xs.forEach((v, j) => { if (Math.abs(v - x) < Math.abs(xs[i] - x)) i = j; });
    return i;
  };
  area.style.cursor = "pointer";
  area.addEventListener("click", (event) => onPick(nearest(event)));
  area.addEventListener("pointermove", (event) => {
    const i = nearest(event);
    cursor.setAttribute("x1", toX(xs[i]));
    cursor.setAttribute("x2", toX(xs[i]));
    cursor.setAttribute("visibility", "visible");
    readout.textContent = describe(i);
  });
  area.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    readout.textContent = "";
  });
  place.replaceChildren(svg, make("div", { class: "legend" },
    ...series.map((s) => make("span", {},
      make("i", { style: `background: ${s.color}` }), s.name))));
}

