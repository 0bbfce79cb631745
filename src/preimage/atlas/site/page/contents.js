"use strict";
// What is in the atlas: data/index.js hands it over as columns, a layer each, and here it becomes units.

/** Filled by data/index.js, which calls `contents`. */
const atlas = { taps: [], units: [], byName: new Map() };

/** Called by data/index.js. */
function contents(index) {
  Object.assign(atlas, index);
  for (const [number, tap] of atlas.taps.entries()) {
    tap.number = number;
    tap.units = [];
    for (const [batch, count, sheets] of tap.batches) {
      for (let within = 0; within < count; within += 1) {
        const i = tap.units.length;
        const unit = {
          tap,
          channel: tap.channels[i],
          score: tap.scores[i],
          label: tap.labels ? tap.labels[i] : null,
          failure: tap.failures[i] ?? null,
          batch: `${tap.files}-${String(batch).padStart(4, "0")}`,
          within,
          sheet: sheets[Math.floor(within / atlas.perSheet)],
          order: atlas.units.length,
        };
        unit.title = unit.label ?? `channel ${unit.channel}`;
        // What search looks through, in the objective's own notation.
        unit.words = `${tap.name}:${unit.channel} ${unit.label ?? ""}`.toLowerCase();
        tap.units.push(unit);
        atlas.units.push(unit);
        atlas.byName.set(nameOf(tap.name, unit.channel), unit);
      }
    }
    // Ranks are within a layer: scores of different layers have different units and cannot be compared.
    const ranked = tap.units.filter((unit) => unit.score !== null).sort(strongestFirst);
    tap.ranked = ranked;
    for (const [i, unit] of ranked.entries()) unit.rank = i + 1;
  }
}

function strongestFirst(one, other) {
  return other.score - one.score || one.order - other.order;
}

function nameOf(tap, channel) {
  return `${tap}:${channel}`;
}

/** The unit, or undefined where the atlas has none. */
function unitCalled(tap, channel) {
  return atlas.byName.get(nameOf(tap, channel));
}

/** The link to a unit. */
function linkTo(unit) {
  return `#/${encodeURIComponent(unit.tap.name)}/${unit.channel}`;
}

/** A unit's small picture. says: what it shows, for those who cannot see it; none where text beside it says so. */
function thumbnail(unit, says) {
  const [url, columns, rows, width, height] = unit.sheet;
  return fromSheet({ url, columns, rows, width, height }, unit.within % atlas.perSheet, says);
}

/** Path of a unit's large picture. */
function pictureOf(unit) {
  return `pictures/${unit.tap.files}-${unit.channel}.webp`;
}

const arrived = new Map();

/** A batch's details, called by data/TAP-BATCH.js. */
function details(batch, shared, units) {
  arrived.set(batch, units.map((unit) => ({ ...shared, ...unit })));
}

/** All that the index leaves out of a unit; loads the details of its batch where they are not there yet. */
function detailsOf(unit) {
  if (arrived.has(unit.batch)) return Promise.resolve(arrived.get(unit.batch)[unit.within]);
  return new Promise((resolve, reject) => {
    // Not fetch(): browsers refuse that for files that are opened from a folder.
    const script = element("script", { src: `data/${unit.batch}.js` });
    script.onload = () => resolve(arrived.get(unit.batch)[unit.within]);
    script.onerror = () => reject(new Error(`the file data/${unit.batch}.js is missing`));
    document.head.append(script);
    script.addEventListener("load", () => script.remove());
  });
}
