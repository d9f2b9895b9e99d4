// --- The gallery. Its choice is in the address: links, the back button and
// whoever gets the address see the same images.
const PAGE = 24;
let choice = { ...NO_CHOICE }, chosen = [], numShown = PAGE;

function readAddress() {
  const given = Object.fromEntries(
    new URLSearchParams(location.hash.slice(1)));
  const known = Object.keys(NO_CHOICE).filter((key) => key in given);
  choice = { ...NO_CHOICE };
  for (const key of known) choice[key] = given[key];
  const score = Number(choice.score);
  choice.score = String(Number.isFinite(score)
    ? Math.min(1, Math.max(score, data.score_threshold))
    : data.score_threshold);
}

function writeAddress() {
  const changed = Object.entries(choice).filter(
    ([key, value]) => value !== NO_CHOICE[key]);
  const hash = changed.length ? toImages(changed) : "#images";
  history.replaceState(null, "", hash);
}

function describeImage({ image, found, wrong, missed }) {
  return `${plural(image.objects.length, "object")}, ` +
    `${found.length} detected: ${wrong.length} wrong, ` +
    `${missed.length} missed`;
}

function thumb(image, marks, lit, alt) {
  const stage = makeStage(image, marks, { lit, alt });
  stage.style[image.width / image.height > 4 / 3 ? "width" : "height"] =
    "100%";
  if (lit.size) stage.querySelector("svg").classList.add("dim");
  return make("div", { class: "thumb" }, stage);
}

function drawGallery() {
  $("gallery").replaceChildren(...chosen.slice(0, numShown).map((x, i) =>
    make("button", { class: "card", onclick: () => openViewer(i) },
      make("div", { class: "two" },
        thumb(x.image, x.image.objects, x.isWhole ? NONE : x.marks,
          `truth of ${x.image.name}`),
        thumb(x.image, x.found, x.isWhole ? NONE : x.marks,
          `detections of ${x.image.name}`)),
      make("div", { class: "caption" }, x.image.name,
        make("small", {}, `quality ${points(x.image.quality)} · ` +
          describeImage(x))))));
  $("more").hidden = chosen.length <= numShown;
}
const NONE = new Set();

function describeChoice() {
  const parts = [];
  if (choice.error) parts.push(KINDS[choice.error]?.[0].toLowerCase() ??
    choice.error);
  if (choice.size) parts.push(choice.size);
  if (choice.class) parts.push(`class ${choice.class}`);
  if (choice.found === "(none)") parts.push(`${choice.truth}, not detected`);
  else if (choice.truth === "(none)")
    parts.push(`${choice.found} without an object`);
  else if (choice.truth) parts.push(`${choice.truth} as ${choice.found}`);
  if (choice.quality !== "") parts.push(
    `quality ${10 * choice.quality} to ${10 * choice.quality + 10}`);
  if (choice.bin !== "") parts.push(`scores ${choice.bin / 10} to ` +
    `${(Number(choice.bin) + 1) / 10}`);
  if (choice.name) parts.push(`“${choice.name}” in the name`);
  return parts.join(", ");
}

function applyChoice() {
  chosen = choose(choice);
  numShown = PAGE;
  $("sort").value = choice.order;
  $("error").value = choice.error;
  $("class").value = choice.class;
  $("score").value = choice.score;
  $("score-value").textContent = Number(choice.score).toFixed(2);
  $("name").value = choice.name;
  const what = describeChoice();
  $("clear").hidden = !what && choice.score === NO_CHOICE.score;
  $("count").replaceChildren(make("span", { class: "chosen" },
    plural(chosen.length, "image")), what ? `: ${what}` : "");
  drawGallery();
}

function fill(list, options) {
  list.append(...options.map(([value, label]) =>
    make("option", { value }, label)));
}
fill($("sort"), Object.entries(ORDERS));
fill($("error"), [["", "any"],
  ...Object.entries(KINDS).map(([kind, [name]]) => [kind, name])]);
fill($("class"), [["", "any"], ...CLASS_NAMES.map((name) => [name, name])]);
$("score").min = data.score_threshold;
for (const [id, key] of [["sort", "order"], ["error", "error"],
  ["class", "class"], ["score", "score"], ["name", "name"]])
  $(id).addEventListener("input", (event) => {
    choice[key] = event.target.value;
    // What came from a cell or bar would contradict these.
    if (key === "error" || key === "class")
      for (const other of ["truth", "found", "size", "bin"])
        choice[other] = "";
    writeAddress();
    applyChoice();
  });
$("clear").addEventListener("click", () => {
  choice = { ...NO_CHOICE, order: choice.order };
  writeAddress();
  applyChoice();
});
$("more").addEventListener("click", () => {
  numShown += PAGE;
  drawGallery();
});
addShowControls($("show-page"), () => redraw());
addShowControls($("show-viewer"), () => redraw());
syncControls();
paint();
function redraw() {
  drawGallery();
  if ($("viewer").open) openViewer(current);
}
$("images-note").textContent = "Truth on the left, detections on the right. " +
  "An object and the detection that covers it have the same colour; other " +
  "detections are grey. Click an image to see its mistakes." +
  (data.images.length < data.num_images
    ? ` Of ${plural(data.num_images, "image")}, these are the ` +
      `${data.images.length.toLocaleString("en")} worst, best and most ` +
      "confidently wrong ones." : "");

function followAddress() {
  readAddress();
  applyChoice();
  const open = chosen.findIndex(
    ({ image }) => image.image_id === choice.image);
  if (open >= 0) openViewer(open);
  else if ($("viewer").open) $("viewer").close();
}
addEventListener("hashchange", () => {
  followAddress();
  $("images").scrollIntoView();
  if (!$("viewer").open) $("images-title").focus({ preventScroll: true });
});
