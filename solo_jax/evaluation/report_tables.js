// --- Classes
const COLUMNS = [["name", "class"], ["num_objects", "objects"],
  ["num_detections", "detections"], ["AP", "AP"], ["AP50", "AP50"],
  ["AP75", "AP75"], ["AP_S", "small"], ["AP_M", "medium"], ["AP_L", "large"],
  ["AR", "recall"]];
{
  const body = make("tbody");
  const heads = COLUMNS.map(([key, label]) => make("th", { scope: "col" },
    make("button", { onclick: () => sortBy(key) }, label)));
  $("classes").append(make("thead", {}, make("tr", {}, ...heads)), body);
  const rows = data.classes.map((row) => [row, make("tr", {},
    ...COLUMNS.map(([key]) => make("td", {}, key === "name"
      ? make("a", { class: "to", href: toImages({ class: row.name }) },
        row.name)
      : key.startsWith("num") ? row[key].toLocaleString("en")
      : points(row[key]))))]);
  let sorted = null, direction = 1;
  function sortBy(key) {
    direction = sorted === key ? -direction : key === "name" ? 1 : -1;
    sorted = key;
    heads.forEach((head, i) => COLUMNS[i][0] === key
      ? head.setAttribute("aria-sort",
        direction > 0 ? "ascending" : "descending")
      : head.removeAttribute("aria-sort"));
    rows.sort(([a], [b]) => {
      // Dashes stay last either way.
      if (a[key] === null || b[key] === null)
        return (a[key] === null) - (b[key] === null);
      return direction * (key === "name"
        ? a.name.localeCompare(b.name) : a[key] - b[key]);
    });
    body.replaceChildren(...rows.map(([, element]) => element));
  }
  body.append(...rows.map(([, element]) => element));
  $("filter").hidden = rows.length < 12;
  $("filter").addEventListener("input", () => {
    const text = $("filter").value.toLowerCase();
    for (const [row, element] of rows)
      element.hidden = !row.name.toLowerCase().includes(text);
  });
}

// --- Confusion
{
  const { names, counts, pairs, num_classes: numClasses } = data.confusion;
  const columns = [...names, "missed"], lines = [...names, "background"];
  $("confusion").append(make("thead", {}, make("tr", {},
    make("th", {}, "truth ↓ detected →"), ...columns.map((name) =>
      make("th", { scope: "col" }, make("span", {}, name))))),
    make("tbody", {}, ...counts.map((row, i) => {
      const total = row.reduce((a, b) => a + b, 0);
      return make("tr", {}, make("th", { scope: "row" }, lines[i]),
        ...row.map((n, j) => {
          const color = i === j ? "var(--good)" : "var(--bad)";
          const share = total ? n / total : 0;
          return make("td", { title: `${lines[i]} as ${columns[j]}: ${n}`,
            style: n ? "background: color-mix(in srgb, " + color + " " +
              `${Math.round(8 + 37 * share)}%, transparent)` : null },
          n ? make("a", { class: "to", href: toImages({
            truth: i < names.length ? names[i] : "(none)",
            found: j < names.length ? names[j] : "(none)",
          }), "aria-label": `${lines[i]} as ${columns[j]}: ${n}` }, n)
          : i === j && i === names.length ? "" : "·");
        }));
    })));
  $("confusion-note").textContent = "Detections with a score of at least " +
    `${data.score_threshold}, by the object that they cover with an IoU of ` +
    "0.50 or more, whatever its class." + (names.length < numClasses
      ? ` The ${names.length} of ${numClasses} classes that are confused ` +
        "most." : "");
  if (pairs.length) $("pairs").append("Most confused: ",
    ...pairs.flatMap((p, i) => [i ? ", " : "", make("a", { class: "to",
      href: toImages({ truth: p.truth, found: p.found }) },
    `${p.truth} as ${p.found} (${p.number})`)]), ".");
}

// --- Time
{
  const stages = Object.entries(data.stages);
  const known = stages.reduce((sum, [, seconds]) => sum + seconds, 0);
  if (data.total_seconds > known)
    stages.push(["other", data.total_seconds - known]);
  const all = Math.max(known, data.total_seconds, 1e-9);
  stages.forEach(([name, seconds], i) => $("stack").append(make("div", {
    title: `${name}: ${seconds.toFixed(2)} s`,
    style: `flex: ${seconds / all} 0 0; background: ` +
      `color-mix(in srgb, var(--accent) ${100 - 80 * i / stages.length}%, ` +
      "var(--soft))" })));
  $("stages").append(make("thead", {}, make("tr", {},
    ...["stage", "seconds", "ms per image", "share"].map((text) =>
      make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...stages.map(([name, seconds]) => make("tr", {},
      make("td", {}, name), make("td", {}, seconds.toFixed(2)),
      make("td", {}, (1000 * seconds / data.num_images).toFixed(1)),
      make("td", {}, `${points(seconds / all, 0)} %`)))));
  $("time-note").textContent = `${data.total_seconds.toFixed(1)} s for ` +
    `${plural(data.num_images, "image")}, ` +
    `${(data.num_images / data.total_seconds).toFixed(1)} images/s. Time of ` +
    "the host. The network runs while the host reads images and makes masks, " +
    "so its row is the time that the host waited for it. Threads encode " +
    "masks at the same time.";
}

// --- Foot
$("footer").append(
  "Errors as in ", make("a", { href: "https://arxiv.org/abs/2008.08115" },
    "TIDE"), ` (Bolya et al. 2020). At most ${data.max_detections} detections ` +
  `per image${data.is_federated ? "" : " and class"} count: ` +
  `${plural(data.num_detections, "detection")}, ` +
  `${plural(data.num_objects, "object")}.` + (data.is_federated
    ? " The annotations are federated (LVIS): only detections of classes that " +
      "were looked for in their image count." : ""));
