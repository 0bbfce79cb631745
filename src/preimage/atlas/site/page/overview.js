"use strict";
// What stands around the grid: the layers, what failed, what the atlas is.

const MOST_FAILURES = 500; // listed by name; more than that nobody reads, and a list of thousands is slow

/** Where a layer looks, in words. */
function placeOf(tap) {
  const words = [];
  if (tap.receptive_field) words.push(`sees ${pixels(tap.receptive_field)}`);
  if (tap.stride) words.push(`every ${stepOf(tap.stride)}`);
  if (tap.step_size !== null) words.push(`step \u00d7 ${number(tap.step_size.factor, 3)}`);
  return words;
}

function fillOverview() {
  document.getElementById("title").textContent = `Atlas of ${atlas.model}`;
  const failed = atlas.units.filter((unit) => unit.failure);
  const some = atlas.units.length < atlas.planned ? `${atlas.units.length.toLocaleString("en")} of ${counted(atlas.planned, "unit")} are finished` : counted(atlas.units.length, "unit");
  document.getElementById("summary").textContent = `${some}, ${counted(atlas.taps.length, "layer")}. Each picture was made from noise so that its unit answers as strongly as possible.`;
  document.getElementById("made").textContent = `${atlas.network}. Made by preimage ${atlas.preimage}: ${atlas.made}. The score is that of the finished picture as it is; scores of different layers cannot be compared.`;
  fillLayers();
  fillFailures(failed);
  const sort = document.getElementById("sort");
  const labelled = atlas.units.some((unit) => unit.label);
  for (const [name, { says }] of Object.entries(SORTINGS)) if (name !== "label" || labelled) sort.append(element("option", { value: name }, says));
}

function fillLayers() {
  const list = document.getElementById("layer-list");
  list.append(element("li", {}, element("a", { href: "#/", "data-tap": "" }, element("span", { class: "words" }, element("span", { class: "title" }, "All layers"), element("span", { class: "note" }, counted(atlas.units.length, "unit"))))));
  for (const tap of atlas.taps) {
    const failed = tap.units.filter((unit) => unit.failure).length;
    const facts = [counted(tap.units.length, "unit"), ...placeOf(tap)];
    if (tap.units.length < tap.planned) facts[0] = `${tap.units.length} of ${counted(tap.planned, "unit")}`;
    if (failed > 0) facts.push(`${failed} failed`);
    const icon = fromSheet({ ...atlas.icons, url: "sheets/layers.webp" }, tap.number);
    const words = element("span", { class: "words" }, element("span", { class: "title", title: tap.name }, tap.name), element("span", { class: "note" }, dotted(facts)));
    list.append(element("li", {}, element("a", { href: `#/${encodeURIComponent(tap.name)}`, "data-tap": tap.name }, icon, words)));
  }
  // On a phone the layers would push the pictures out of the first view.
  document.getElementById("layers").open = matchMedia("(min-width: 60rem)").matches;
}

function fillFailures(failed) {
  const box = document.getElementById("failures");
  box.hidden = failed.length === 0;
  box.querySelector("summary").textContent = `${counted(failed.length, "unit")} failed`;
  box.addEventListener("toggle", () => {
    const list = box.querySelector("ul");
    if (list.childElementCount > 0) return;
    for (const unit of failed.slice(0, MOST_FAILURES)) list.append(element("li", {}, element("a", { href: linkTo(unit) }, `${unit.tap.name}:${unit.channel}`), ` ${unit.failure}`));
    if (failed.length > MOST_FAILURES) list.append(element("li", {}, `and ${(failed.length - MOST_FAILURES).toLocaleString("en")} more`));
  });
}

/** Show which layer is chosen; null: all. */
function markLayer(tap) {
  for (const link of document.querySelectorAll("#layer-list a")) {
    if (link.dataset.tap === (tap ?? "")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}
