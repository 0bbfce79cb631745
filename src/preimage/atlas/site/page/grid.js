"use strict";
// The grid of units. Only what is near the window is in the document, so that 10,000 units cost as little as 100.

const GAP = 10;
const OVERSCAN = 400; // pixels above and below the window that are there before they are seen

class Grid {
  /** list: the <ul> to fill. groups(): the layers, as `listed` gives them. */
  constructor(list) {
    this.list = list;
    this.units = [];
    this.current = 0; // the unit that Tab reaches and arrows move
    this.items = []; // headings and units with their places, from top to bottom
    this.shown = new Map(); // item -> its <li>
    this.least = 112;
    const render = () => this.render();
    addEventListener("scroll", () => requestAnimationFrame(render), { passive: true });
    // Its width changes with the window, a scroll bar that comes, and when it is shown again.
    new ResizeObserver(() => this.place()).observe(list);
    list.addEventListener("keydown", (event) => this.key(event));
    list.addEventListener("focusin", (event) => {
      const cell = event.target.closest("[data-index]");
      if (cell) this.mark(Number(cell.dataset.index));
    });
  }

  /** Show these layers, each {tap, units}. */
  show(groups) {
    this.groups = groups;
    this.units = groups.flatMap(({ units }) => units);
    this.current = 0;
    this.width = null;
    this.place();
  }

  /** Pictures at least so many pixels wide. */
  resize(least) {
    const before = this.anchor();
    this.least = least;
    this.width = null;
    this.place();
    if (before !== null) this.scrollTo(before, "start");
  }

  /** Where everything goes; does nothing while the width stays what it was. */
  place() {
    const width = this.list.clientWidth;
    if (!this.groups || width === 0 || width === this.width) return;
    this.width = width;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.columns = Math.max(2, Math.floor((width + GAP) / (this.least + GAP)));
    const side = Math.floor((width - GAP * (this.columns - 1)) / this.columns);
    const height = side + Math.round(1.75 * rem);
    const heading = Math.round(4.3 * rem);
    this.items = [];
    let [top, index] = [0, 0];
    for (const { tap, units } of this.groups) {
      this.items.push({ tap, count: units.length, top, height: heading });
      top += heading;
      for (const [i, unit] of units.entries()) {
        const left = (i % this.columns) * (side + GAP);
        this.items.push({ unit, index, top: top + Math.floor(i / this.columns) * (height + GAP), left, width: side, height });
        index += 1;
      }
      top += Math.ceil(units.length / this.columns) * (height + GAP);
    }
    this.ofUnit = this.items.filter((item) => item.unit);
    this.list.style.height = `${top}px`;
    this.list.replaceChildren();
    this.shown.clear();
    this.render();
  }

  /** Bring into the document what is near the window, and take out the rest. */
  render() {
    if (!this.list.offsetParent || this.items.length === 0) return;
    const begins = this.list.getBoundingClientRect().top;
    const [from, to] = [-begins - OVERSCAN, innerHeight - begins + OVERSCAN];
    const wanted = [];
    for (let i = this.firstBelow(from); i < this.items.length && this.items[i].top < to; i += 1) wanted.push(this.items[i]);
    // What has the focus stays: a browser forgets the focus of an element that goes.
    const focused = this.ofUnit[this.current];
    if (this.list.contains(document.activeElement) && focused && !wanted.includes(focused)) {
      if (focused.top < from) wanted.unshift(focused);
      else wanted.push(focused);
    }
    const keep = new Set(wanted);
    for (const [item, made] of this.shown) {
      if (keep.has(item)) continue;
      made.remove();
      this.shown.delete(item);
    }
    // In the order of the page, for those who have it read to them; what is there already is not touched.
    let next = this.list.firstChild;
    for (const item of wanted) {
      const made = this.shown.get(item);
      if (made && made === next) {
        next = next.nextSibling;
        continue;
      }
      const entry = made ?? this.made(item);
      this.shown.set(item, entry);
      this.list.insertBefore(entry, next);
    }
  }

  /** Number of the first item that does not end above `y`. */
  firstBelow(y) {
    let [low, high] = [0, this.items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.items[middle].top + this.items[middle].height < y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  made(item) {
    const entry = item.unit ? this.cell(item) : heading(item);
    entry.style.transform = `translate(${item.left ?? 0}px, ${item.top}px)`;
    entry.style.height = `${item.height}px`;
    if (item.unit) entry.style.width = `${item.width}px`;
    return entry;
  }

  cell({ unit, index }) {
    const link = element("a", {
      href: linkTo(unit),
      "data-index": index,
      tabindex: index === this.current ? 0 : -1,
      title: `${unit.tap.name}:${unit.channel}${unit.label ? ` ${unit.label}` : ""}`,
      "aria-label": `${unit.tap.name}, ${unit.label ? `${unit.label}, ` : ""}channel ${unit.channel}, ${unit.failure ? "failed" : `score ${number(unit.score)}`}`,
    });
    const caption = element("span", { class: "caption" });
    caption.append(element("span", { class: "title" }, unit.label ?? String(unit.channel)));
    caption.append(element("span", { class: "score" }, unit.failure ? "" : number(unit.score)));
    link.append(element("span", { class: "frame" }, unit.failure ? element("span", { class: "badge bad" }, "failed") : thumbnail(unit)), caption);
    return element("li", { class: "cell", "aria-setsize": this.units.length, "aria-posinset": index + 1 }, link);
  }

  /** Let Tab reach this unit. */
  mark(index) {
    const before = this.list.querySelector('[tabindex="0"]');
    if (before) before.tabIndex = -1;
    this.current = index;
    const link = this.linkOf(index);
    if (link) link.tabIndex = 0;
  }

  linkOf(index) {
    return this.shown.get(this.ofUnit[index])?.querySelector("a") ?? null;
  }

  /** Focus a unit by its number in the list, wherever it is. */
  focus(index) {
    if (this.units.length === 0) return;
    const to = Math.min(Math.max(index, 0), this.units.length - 1);
    this.mark(to);
    this.scrollTo(to, "nearest");
    this.render();
    this.linkOf(to)?.focus({ preventScroll: true });
  }

  /** The unit at the window's upper edge, or null where the list's beginning can be seen. */
  anchor() {
    const y = -this.list.getBoundingClientRect().top;
    if (y <= 0) return null;
    for (let i = this.firstBelow(y); i < this.items.length; i += 1) if (this.items[i].unit) return this.items[i].index;
    return null;
  }

  scrollTo(index, block) {
    const { top, height } = this.ofUnit[index];
    const begins = this.list.getBoundingClientRect().top;
    const covered = document.getElementById("tools").offsetHeight + GAP; // the search bar stays above the list
    if (block === "start" || begins + top < covered) scrollBy({ top: begins + top - covered, behavior: "instant" });
    else if (begins + top + height > innerHeight - GAP) scrollBy({ top: begins + top + height - innerHeight + GAP, behavior: "instant" });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !event.target.closest("[data-index]")) return;
    const to = this.moved(event.key);
    if (to === null) return;
    event.preventDefault();
    this.focus(to);
  }

  /** Where a key leads from the current unit; null where it means nothing. */
  moved(key) {
    const last = this.units.length - 1;
    if (key === "ArrowRight") return Math.min(this.current + 1, last);
    if (key === "ArrowLeft") return Math.max(this.current - 1, 0);
    if (key === "Home") return 0;
    if (key === "End") return last;
    const rows = { ArrowDown: 1, ArrowUp: -1, PageDown: 4, PageUp: -4 }[key];
    return rows === undefined ? null : this.vertical(rows);
  }

  /** The unit so many rows further down in the same column, or in the last one of a shorter row. */
  vertical(rows) {
    let at = this.ofUnit[this.current];
    for (let step = 0; step < Math.abs(rows); step += 1) {
      const down = rows > 0;
      const beyond = down ? this.ofUnit.slice(at.index + 1) : this.ofUnit.slice(0, at.index).reverse();
      const edge = beyond.find((item) => item.top !== at.top);
      if (!edge) break;
      const row = beyond.filter((item) => item.top === edge.top);
      at = row.reduce((best, item) => (Math.abs(item.left - at.left) < Math.abs(best.left - at.left) ? item : best));
    }
    return at.index;
  }
}

function heading({ tap, count }) {
  const some = count === tap.units.length ? counted(count, "unit") : `${count.toLocaleString("en")} of ${counted(tap.units.length, "unit")}`;
  const title = element("h2", {}, element("a", { href: `#/${encodeURIComponent(tap.name)}`, title: tap.name }, tap.name));
  return element("li", { class: "heading" }, title, element("p", {}, dotted([some, ...placeOf(tap)])));
}
