// --- Images: which of them a choice shows, and in which order.

// What is seen in an image from a score on: detections, mistakes and missed
// objects. A detection's match does not depend on those of lower scores.
function judge(image, score) {
  const found = image.found.filter((d) => d.score >= score);
  const hit = new Set(found.filter((d) => d.kind === "correct")
    .map((d) => d.object));
  const covered = new Set(found.map((d) => d.match));
  const wrong = found.filter((d) => !["correct", "ignored"].includes(d.kind))
    .map((d) => ({ kind: d.kind, label: d.label, score: d.score, mark: d,
      also: d.object < 0 ? null : image.objects[d.object].label }));
  const missed = image.objects.filter((_, i) => !hit.has(i))
    .map((o) => ({ kind: "missed", label: o.label, score: null, mark: o,
      also: null, size: o.size }));
  return { image, found, covered, wrong, missed };
}

const countMistakes = (kind) => data.images.reduce((sum, image) => {
  const { wrong, missed } = judge(image, data.score_threshold);
  return sum + [...wrong, ...missed].filter((m) => m.kind === kind).length;
}, 0);

const CLASS_NAMES = data.classes.map((row) => row.name);
const SIZES = ["small", "medium", "large"];
const NO_CHOICE = { order: "worst", error: "", class: "", size: "", truth: "",
  found: "", quality: "", bin: "", score: String(data.score_threshold),
  name: "", image: "" };
const ORDERS = { worst: "Worst first", best: "Best first",
  sure: "Most confident mistakes first" };

// Marks of an image that a choice is about; null: it is not shown.
function select(judged, choice) {
  const { image, found, covered, wrong, missed } = judged;
  if (choice.name && !image.name.toLowerCase().includes(
    choice.name.toLowerCase())) return null;
  if (choice.quality !== "" &&
    Math.min(9, Math.floor(10 * image.quality)) !== Number(choice.quality))
    return null;
  const label = choice.class === "" ? -1 : CLASS_NAMES.indexOf(choice.class);
  const mistakes = [...wrong, ...missed].filter((m) =>
    (!choice.error || m.kind === choice.error) &&
    (!choice.size || SIZES[m.size] === choice.size) &&
    (!choice.class || m.label === label || m.also === label));
  let marks = new Set(mistakes.map((m) => m.mark));
  if ((choice.error || choice.size) && !marks.size) return null;
  if (choice.truth || choice.found) {
    const truth = CLASS_NAMES.indexOf(choice.truth);
    const as = CLASS_NAMES.indexOf(choice.found);
    marks = new Set(choice.found === "(none)"
      ? image.objects.filter((o, i) => o.label === truth && !covered.has(i))
      : found.filter((d) => d.kind !== "ignored" && d.label === as &&
        (d.match < 0 ? -1 : image.objects[d.match].label) === truth));
    if (!marks.size) return null;
  }
  if (choice.bin !== "") {
    marks = new Set(found.filter((d) => d.kind !== "ignored" &&
      Math.min(9, Math.floor(10 * d.score)) === Number(choice.bin)));
    if (!marks.size) return null;
  }
  const ofClass = (x) => !choice.class || x.label === label;
  const number = image.objects.filter(ofClass).length;
  if (choice.class && !number && !found.some(ofClass)) return null;
  // Of all that is to be found or was found, how much is wrong.
  const share = mistakes.length / Math.max(1, number + mistakes.filter(
    (m) => m.kind !== "missed").length);
  const isWhole = !["error", "class", "size", "truth", "found", "bin"]
    .some((key) => choice[key] !== "");
  return { ...judged, marks, isWhole, numMistakes: mistakes.length,
    share: isWhole ? 1 - image.quality : share,
    surest: mistakes.reduce((sum, m) => sum + (m.score || 0), 0) };
}

function choose(choice) {
  const shown = data.images.map((image) => select(
    judge(image, Number(choice.score)), choice)).filter((x) => x);
  // An image with nothing to find and nothing found says nothing.
  const busy = shown.filter((x) => !x.isWhole || choice.name ||
    x.image.objects.length + x.found.length);
  const keys = {
    worst: (x) => [-x.share, -x.numMistakes, x.image.quality],
    best: (x) => [x.share, -x.image.objects.length, -x.image.quality],
    sure: (x) => [-x.surest, -x.share, x.image.quality],
  }[choice.order] || (() => [0]);
  return busy.map((x) => [keys(x), x]).sort(([a], [b]) => {
    const i = a.findIndex((value, j) => value !== b[j]);
    return i < 0 ? 0 : a[i] - b[i];
  }).map(([, x]) => x);
}
