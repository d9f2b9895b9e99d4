// --- Head
for (const [name, value] of Object.entries(data.facts))
  $("facts").append(make("span", {}, name + " ", make("b", {}, value)));
const LABELS = {
  mask_AP: "mask AP", mask_AP50: "AP50", mask_AP75: "AP75",
  mask_AP_S: "AP small", mask_AP_M: "AP medium", mask_AP_L: "AP large",
  mask_AR: "average recall",
  box_AP: data.box_source === "predicted" ? "box AP" : "box AP, of masks",
  boundary_AP: "boundary AP",
  boundary_AP_S: "boundary, small", boundary_AP_M: "boundary, medium",
  boundary_AP_L: "boundary, large", mask_AP_r: "AP rare",
  mask_AP_c: "AP common", mask_AP_f: "AP frequent", dsb_AP: "DSB AP",
  dsb_AP50: "DSB, IoU 0.50", SBD: "SBD", abs_DiC: "|DiC|",
  PQ_things: "PQ, things", PQ_stuff: "PQ, stuff", SQ_things: "SQ, things",
  SQ_stuff: "SQ, stuff", RQ_things: "RQ, things", RQ_stuff: "RQ, stuff",
  num_PQ_classes: "classes in PQ", mean_IoU: "mean IoU",
};
for (const [name, value] of Object.entries(data.metrics))
  $("tiles").append(make("div", { class: "tile" },
    make("b", {}, name === "num_PQ_classes" ? value : name === "abs_DiC"
      ? (value === null ? "–" : value.toFixed(2)) : points(value)),
    make("span", {}, LABELS[name] || name)));

const COLORS = ["var(--accent)", "var(--accent-2)", "var(--accent-3)",
  "var(--accent-4)"];

function drawCurves(index) {
  const curve = data.curves[index];
  if (!curve) { $("curves").textContent = "There are no objects."; return; }
  const recalls = curve.precisions[0].map((_, i) => i / 100);
  const titles = ["IoU 0.50", "IoU 0.75", "IoU 0.90", "mean of 0.50:0.95"];
  lineChart($("curves"), recalls,
    curve.precisions.map((values, i) => ({ values, name: titles[i],
      color: i === 3 ? "var(--text)" : COLORS[i],
      width: i === 3 ? 2.5 : 2, dash: i === 3 ? "5 4" : null })),
    { x: "recall", y: "precision", unit: "points" }, $("curves-readout"),
    (i) => `recall ${points(recalls[i], 0)}: precision ` +
      curve.precisions.map((p, j) => `${points(p[i])} (${titles[j]})`)
        .join(", ") +
      (curve.scores && curve.precisions[0][i] > 0
        ? `; lowest score ${curve.scores[i].toFixed(2)} at IoU 0.50` : ""),
    (i) => pick(curve.scores && curve.precisions[0][i] > 0
      ? { class: curve.name, score: curve.scores[i].toFixed(2) }
      : curve.scores ? { class: curve.name } : {}));
}
data.curves.forEach((c, i) =>
  $("curve-class").append(make("option", { value: i }, c.name)));
$("curve-class").addEventListener("change",
  (event) => drawCurves(event.target.value));
drawCurves(0);

// Follows a link to images by a click into a curve.
const pick = (choice) => { location.hash = toImages(choice); };

function bar(name, share, value, note, className, choice, title = null) {
  return make("a", { class: "bar " + className, href: toImages(choice), title },
    make("span", {}, name),
    make("div", { class: "track" }, make("div", { class: "fill",
      style: `width: ${Math.max(0, Math.min(100, 100 * share))}%` })),
    make("span", { class: "value" }, value), make("small", {}, note));
}
for (const size of data.sizes)
  $("sizes").append(bar(size.name, size.AP || 0, points(size.AP),
    `${plural(size.num_objects, "object")}, AP50 ${points(size.AP50)}, ` +
    `recall ${points(size.AR)}`, "",
    size.name === "all" ? {} : { error: "missed", size: size.name },
    "images with missed objects of this size"));

// --- Images by quality
{
  const bins = Array(10).fill(0);
  for (const q of data.qualities) bins[Math.min(9, Math.floor(10 * q))] += 1;
  const most = Math.max(1, ...bins);
  const svg = make("svg", { viewBox: "0 0 460 96", role: "img",
    "aria-label": "images by quality" });
  bins.forEach((n, i) => {
    const height = 60 * n / most;
    svg.append(
      linked(toImages({ quality: i }), `${plural(n, "image")} of quality ` +
        `${10 * i} to ${10 * i + 10}`,
        make("rect", { x: 5 + 45 * i, y: 0, width: 41, height: 72,
          fill: "transparent" }),
        make("rect", { x: 5 + 45 * i, y: 72 - height, width: 41, height, rx: 3,
          fill: "var(--accent)" })),
      make("text", { x: 25.5 + 45 * i, y: 68 - height,
        "text-anchor": "middle" }, n || ""),
      make("text", { x: 25.5 + 45 * i, y: 90, "text-anchor": "middle" },
        `${10 * i}–${10 * i + 10}`));
  });
  $("qualities").append(svg);
  $("qualities-note").textContent = "Images by quality: the mean over IoU " +
    "0.50:0.95 of TP / (TP + FP + FN), for detections with a score of at " +
    `least ${data.score_threshold}.`;
}

// --- Errors
const KINDS = {
  localisation: ["Wrong outline", "right class, IoU 0.1 to 0.5",
    "Train longer, or use transforms.mask_stride 2 or larger images."],
  class: ["Wrong class", "IoU of 0.5 or more with an object of another class",
    "Look at the confused classes below: at their labels, and at the number " +
    "of objects to train on."],
  both: ["Wrong class and outline", "another class, IoU 0.1 to 0.5",
    "Train longer, and look at the confused classes below."],
  duplicate: ["Found twice", "of an object that a detection with a higher score has found",
    "Suppress duplicates more strictly, in the config's section decode."],
  background: ["Nothing there", "no object there, IoU up to 0.1",
    "Raise the score threshold. Objects without annotation count here, too."],
  missed: ["Missed", "objects without a correct detection; the gain is " +
    "for those that no error above belongs to",
    "Lower the score threshold; inspect_data shows which objects the config " +
    "cannot find."],
};
{
  const gains = Object.values(data.errors).map((e) => e.gain || 0);
  const most = Math.max(0.05, ...gains);
  let worst = null;
  for (const [kind, [name, note, advice]] of Object.entries(KINDS)) {
    const { gain, number } = data.errors[kind];
    const shown = countMistakes(kind);
    $("errors").append(bar(name, (gain || 0) / most,
      gain === null ? "–" : (gain < 0 ? "−" : "+") + points(Math.abs(gain)),
      `${shown.toLocaleString("en")} with a score of at least ` +
      `${data.score_threshold}: ` +
      note, "bad", { error: kind },
      `${number.toLocaleString("en")} at any score. Show the images.`));
    if (gain > (worst?.gain ?? 0.001)) worst = { gain, name, advice };
  }
  if (worst) $("advice").append(make("b", {}, `${worst.name}: `),
    worst.advice);
}

// --- Scores
{
  const sweep = data.sweep;
  const series = [
    { name: "precision", values: sweep.precision, color: COLORS[0] },
    { name: "recall", values: sweep.recall, color: COLORS[1] },
    { name: "F1", values: sweep.f1, color: "var(--text)", width: 2.5 }];
  if (sweep.dsb_AP) series.push(
    { name: "DSB AP", values: sweep.dsb_AP, color: COLORS[2] },
    { name: "SBD", values: sweep.SBD, color: COLORS[3] });
  lineChart($("sweep"), sweep.thresholds, series,
    { x: "score threshold", y: "value", unit: "score" }, $("sweep-readout"),
    (i) => `threshold ${sweep.thresholds[i].toFixed(2)}: ` +
      series.map((s) => `${s.name} ${points(s.values[i])}`).join(", "),
    (i) => pick({ score: Math.max(sweep.thresholds[i],
      data.score_threshold).toFixed(2) }));
  const best = (values) => values.reduce(
    (b, v, i) => (v !== null && v > (values[b] ?? -1) ? i : b), 0);
  const say = (name, values) => values.some((v) => v > 0)
    ? ` The highest ${name} is ${points(values[best(values)])}, at ` +
      `${sweep.thresholds[best(values)].toFixed(2)}.` : "";
  $("sweep-note").textContent = "All classes together, IoU 0.50." +
    say("F1", sweep.f1) + (sweep.dsb_AP ? say("DSB AP", sweep.dsb_AP) : "") +
    " Chosen on these images; expect slightly less on new ones.";
  const c = data.calibration;
  const svg = axes("score", "share of correct detections", "score");
  const numbers = [];  // above the line
  const short = new Intl.NumberFormat("en", { notation: "compact" });
  const most = Math.max(1, ...c.counts);
  c.counts.forEach((n, i) => {
    if (!n) return;
    const share = c.precisions[i];
    // Detections that are all wrong have a flat outline, and all their number.
    const height = Math.max(BOX.height * share, 3);
    const opacity = 0.35 + 0.65 * Math.sqrt(n / most);
    const x = toX(i / 10) + 2, y = toY(0) - height;
    const text = `${plural(n, "detection")} with a mean score of ` +
      `${c.scores[i].toFixed(2)}: ${points(share)} of 100 correct`;
    const bin = make("rect", { class: "bin", x, y, height,
      width: BOX.width / 10 - 4, rx: share ? 3 : 1, stroke: "var(--accent)",
      "fill-opacity": opacity, fill: share ? "var(--accent)" : "none" },
      titled(text));
    // Of scores below the threshold the images show none.
    svg.append((i + 1) / 10 > data.score_threshold
      ? linked(toImages({ bin: i }), text, bin) : bin);
    numbers.push(make("text", { class: "count", x: x + BOX.width / 20 - 2,
      y: y - 4, "text-anchor": "middle" }, short.format(n)));
  });
  svg.append(make("line", { x1: toX(0), y1: toY(0), x2: toX(1), y2: toY(1),
    stroke: "var(--text)", "stroke-dasharray": "4 4", "stroke-width": 1.5 }),
    ...numbers);
  $("calibration").append(svg);
  $("calibration-note").textContent =
    "Share of detections that are correct at IoU 0.50 by score, with their " +
    "number. Darker bars have more; in an empty bar, none is correct. On the " +
    "line, a score is a probability. The expected calibration error is " +
    `${points(c.error)}.`;
}

function titled(text) {
  const title =
    document.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = text;
  return title;
}

