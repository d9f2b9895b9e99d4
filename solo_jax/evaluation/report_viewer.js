// --- One image, large.
const MAX_ZOOM = 8;
let current = 0, zoom = 1, sizing = null;

function openViewer(index) {
  current = (index + chosen.length) % chosen.length;
  const x = chosen[current], { image } = x;
  const mistakes = [...x.wrong, ...x.missed];
  const numbers = new Map(mistakes.map((m, i) => [m.mark, i + 1]));
  const word = (mark, text) =>
    (numbers.has(mark) ? `${numbers.get(mark)} · ` : "") + text;
  $("viewer-title").textContent = image.name;
  $("truth-caption").textContent = `truth, ` +
    plural(image.objects.length, "object");
  $("found-caption").textContent = plural(x.found.length, "detection") +
    ` with a score of at least ${Number(choice.score).toFixed(2)}`;
  const stages = [
    ["truth", image.objects, (m) => word(m, CLASS_NAMES[m.label])],
    ["found", x.found, (m) => word(m, `${CLASS_NAMES[m.label]} ` +
      m.score.toFixed(2))]].map(([side, marks, text]) => {
    const stage = makeStage(image, marks, { lit: NONE, alt: `${side} of ` +
      image.name, texts: new Map(marks.map((m) => [m, text(m)])) });
    stage.addEventListener("dblclick", (event) => setZoom(
      zoom > 1 ? 1 : 3, event));
    $(`${side}-frame`).replaceChildren(stage);
    return stage;
  });
  const groupOf = (mark) => stages.map((s) => s.groups.get(mark))
    .find((g) => g);
  function light(mark, isOn) {
    const group = groupOf(mark);
    group.classList.toggle("lit", isOn);
    const svg = group.ownerSVGElement;
    svg.classList.toggle("dim", Boolean(svg.querySelector(".lit")));
    placeSigns(svg.parentElement);
    if (isOn && zoom > 1) group.scrollIntoView({ block: "center",
      inline: "center" });
  }
  $("mistakes").replaceChildren(...mistakes.map((m, i) => {
    const button = make("button", { "aria-pressed": "false",
      onclick: () => {
        const isOn = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(isOn));
        light(m.mark, isOn);
      },
      onpointerenter: () => light(m.mark, true),
      onpointerleave: () => light(m.mark,
        button.getAttribute("aria-pressed") === "true"),
    }, `${i + 1} `, make("b", {}, KINDS[m.kind][0].toLowerCase()),
    ` ${CLASS_NAMES[m.label]}` +
      (m.score === null ? "" : ` ${m.score.toFixed(2)}`));
    return make("li", {}, button);
  }));
  zoom = 1;
  if (!$("viewer").open) $("viewer").showModal();
  // What the choice is about is marked from the start.
  if (!x.isWhole) mistakes.forEach((m, i) => {
    if (x.marks.has(m.mark)) $("mistakes").children[i].firstChild.click();
  });
  fit();
  choice.image = image.image_id;
  writeAddress();
}

// As large as both pictures fit, times the zoom.
function fit() {
  const { image } = chosen[current];
  const isNarrow = innerWidth <= 700;
  const width = $("truth-frame").clientWidth;
  const height = innerHeight * (isNarrow ? 0.36 : 0.68);
  const base = Math.min(width, height * image.width / image.height);
  for (const side of ["truth", "found"]) {
    const frame = $(`${side}-frame`);
    frame.style.maxHeight = `${height + 2}px`;
    const stage = frame.firstChild;
    stage.style.width = `${base * zoom}px`;
    placeSigns(stage);
  }
}

function setZoom(value, event = null) {
  const before = zoom;
  zoom = Math.max(1, Math.min(MAX_ZOOM, value));
  fit();
  for (const side of ["truth", "found"]) {
    const frame = $(`${side}-frame`), grown = zoom / before;
    const at = event ? [event.offsetX, event.offsetY]
      : [frame.scrollLeft + frame.clientWidth / 2,
        frame.scrollTop + frame.clientHeight / 2];
    frame.scrollTo(at[0] * grown - frame.clientWidth / 2,
      at[1] * grown - frame.clientHeight / 2);
  }
}

// Both pictures show the same part.
for (const [a, b] of [["truth", "found"], ["found", "truth"]])
  $(`${a}-frame`).addEventListener("scroll", () =>
    $(`${b}-frame`).scrollTo($(`${a}-frame`).scrollLeft,
      $(`${a}-frame`).scrollTop));
$("smaller").addEventListener("click", () => setZoom(zoom / 1.5));
$("larger").addEventListener("click", () => setZoom(zoom * 1.5));
$("previous").addEventListener("click", () => openViewer(current - 1));
$("next").addEventListener("click", () => openViewer(current + 1));
$("close").addEventListener("click", () => $("viewer").close());
$("viewer").addEventListener("click", (event) => {
  if (event.target === $("viewer")) $("viewer").close();
});
$("viewer").addEventListener("close", () => {
  choice.image = "";
  writeAddress();
  $("gallery").children[current]?.focus();
});
$("viewer").addEventListener("keydown", (event) => {
  if (event.target.matches("select") || event.ctrlKey || event.metaKey)
    return;
  const { key } = event;
  if (key === "ArrowLeft") openViewer(current - 1);
  else if (key === "ArrowRight") openViewer(current + 1);
  else if (key === "+" || key === "=") setZoom(zoom * 1.5);
  else if (key === "-") setZoom(zoom / 1.5);
  else if (key >= "1" && key <= "9")
    $("mistakes").children[key - 1]?.firstChild.click();
});
addEventListener("resize", () => { if ($("viewer").open) fit(); });
followAddress();
