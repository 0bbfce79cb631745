"use strict";
// The page as a whole. Its address says what is shown, so that it can be sent to somebody and Back leads back:
//   #/                      all layers          #/LAYER?find=WORDS&sort=ORDER   one layer, searched and sorted
//   #/LAYER/CHANNEL         one unit

const overview = document.getElementById("overview");
const unitView = document.getElementById("unit");
const find = document.getElementById("find");
const sort = document.getElementById("sort");
const grid = new Grid(document.getElementById("units"));

let view = null; // what the list shows: {tap, find, sort}
let scrolled = 0; // how far, when the list was left for a unit
let opened = null; // the unit that is shown, or null

/** What an address asks for: {view}, {unit} or {missing: a sentence}. */
function asked(hash) {
  const [path, query] = hash.replace(/^#?\/?/, "").split("?");
  const words = new URLSearchParams(query ?? "");
  let tap, channel;
  try {
    [tap, channel] = path.split("/").map(decodeURIComponent);
  } catch {
    return { missing: "The address is damaged." };
  }
  if (tap && !atlas.taps.some(({ name }) => name === tap)) return { missing: `The atlas has no layer called ${tap}.` };
  if (channel) {
    const unit = unitCalled(tap, channel);
    return unit ? { unit } : { missing: `The atlas has no unit ${channel} of ${tap}.` };
  }
  const order = words.get("sort");
  return { view: { tap: tap || null, find: words.get("find") ?? "", sort: Object.hasOwn(SORTINGS, order ?? "") ? order : "channel" } };
}

function addressOf({ tap, find: words, sort: order }) {
  const query = new URLSearchParams();
  if (words) query.set("find", words);
  if (order !== "channel") query.set("sort", order);
  const said = query.toString();
  return `#/${tap === null ? "" : encodeURIComponent(tap)}${said && `?${said}`}`;
}

function route() {
  const { view: wanted, unit, missing } = asked(location.hash);
  const broken = document.getElementById("broken");
  broken.hidden = !missing;
  broken.textContent = missing ?? "";
  if (unit) showUnit(unit);
  else showList(wanted ?? { tap: null, find: "", sort: "channel" });
}

function showList(wanted) {
  const left = opened;
  opened = null;
  overview.hidden = false;
  unitView.hidden = true;
  document.getElementById("unit-page").replaceChildren();
  document.title = `${wanted.tap === null ? "" : `${wanted.tap} \u2013 `}Atlas of ${atlas.model}`;
  const same = view && addressOf(view) === addressOf(wanted);
  if (!same) fillList(wanted);
  if (left) {
    // Back from a unit: as the list was left, or, if arrows went on from there, where they ended.
    grid.place();
    scrollTo({ top: same ? scrolled : 0, behavior: "instant" });
    grid.render();
    const index = grid.units.indexOf(left);
    if (index >= 0) grid.focus(index);
  } else if (!same) {
    const tools = document.getElementById("tools").getBoundingClientRect().top;
    if (tools <= 0) scrollBy({ top: grid.list.getBoundingClientRect().top - 90, behavior: "instant" });
    grid.render();
  }
}

function fillList(wanted) {
  view = wanted;
  if (find.value !== wanted.find) find.value = wanted.find;
  sort.value = wanted.sort;
  markLayer(wanted.tap);
  grid.show(listed(wanted));
  document.getElementById("nothing").hidden = grid.units.length > 0;
  document.getElementById("count").textContent = counted(grid.units.length, "unit");
}

/** Another search or order: the same list, so that Back does not lead through every letter that was typed. */
function change(part) {
  const wanted = { ...view, ...part };
  history.replaceState(null, "", addressOf(wanted));
  fillList(wanted);
}

function showUnit(unit) {
  if (!opened) scrolled = view ? scrollY : 0;
  if (!view) fillList({ tap: null, find: "", sort: "channel" });
  // Arrows go through the list that the unit was chosen from; through all, where it is in none.
  if (!grid.units.includes(unit)) fillList({ tap: null, find: "", sort: "channel" });
  opened = unit;
  overview.hidden = true;
  unitView.hidden = false;
  const index = grid.units.indexOf(unit);
  document.getElementById("back").href = addressOf(view);
  document.getElementById("place").textContent = `${(index + 1).toLocaleString("en")} of ${grid.units.length.toLocaleString("en")}`;
  point("previous", grid.units[index - 1]);
  point("next", grid.units[index + 1]);
  const page = unitPage(unit);
  document.getElementById("unit-page").replaceChildren(page);
  document.title = `${unit.tap.name}: ${unit.title} \u2013 Atlas of ${atlas.model}`;
  scrollTo({ top: 0, behavior: "instant" });
  page.querySelector("h1").focus({ preventScroll: true });
}

function point(id, unit) {
  const link = document.getElementById(id);
  if (!unit) {
    link.removeAttribute("href");
    return;
  }
  link.href = linkTo(unit);
  if (!unit.failure) new Image().src = pictureOf(unit); // there when it is turned to
}

/** Go on without a step for Back each: that leads to the list at once. */
function turn(id) {
  const address = document.getElementById(id).getAttribute("href");
  if (address) location.replace(address);
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key === "/" && (!typing || typing.type === "range")) {
    event.preventDefault();
    if (opened) location.hash = addressOf(view);
    // The address changes now, but the page follows it a moment later.
    if (opened) showList(view);
    find.focus();
    find.select();
  } else if (opened && event.key === "Escape") {
    event.preventDefault();
    location.hash = addressOf(view);
  } else if (opened && !typing && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    event.preventDefault();
    turn(event.key === "ArrowLeft" ? "previous" : "next");
  }
});

function start() {
  fillOverview();
  find.addEventListener("input", () => change({ find: find.value }));
  find.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && grid.units.length > 0) {
      event.preventDefault();
      grid.focus(grid.current);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (grid.units.length > 0) location.hash = linkTo(grid.units[0]);
    } else if (event.key === "Escape" && find.value) {
      event.preventDefault();
      find.value = "";
      change({ find: "" });
    }
  });
  sort.addEventListener("change", () => change({ sort: sort.value }));
  document.getElementById("tools").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("clear").addEventListener("click", () => {
    change({ find: "" });
    find.focus();
  });
  const size = document.getElementById("size");
  size.addEventListener("input", () => grid.resize(Number(size.value)));
  // The address holds what is shown, so a link to a place on the page has to be followed by hand.
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    grid.focus(grid.current);
  });
  addEventListener("hashchange", route);
  // The page keeps its own place in the list.
  history.scrollRestoration = "manual";
  route();
}

if (atlas.units.length > 0) start();
else {
  const broken = document.getElementById("broken");
  broken.hidden = false;
  broken.textContent = atlas.model ? "No unit of this atlas is finished yet." : "The file data/index.js beside this page is missing; write the site again.";
}
