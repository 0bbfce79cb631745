"use strict";
// Which units a list shows, and in which order.

/** How a list can be sorted. Always within layers: scores of different layers cannot be compared. */
const SORTINGS = {
  channel: { says: "by channel", compare: (one, other) => one.channel - other.channel },
  score: { says: "strongest first", compare: (one, other) => byScore(one, other, strongestFirst) },
  weakest: { says: "weakest first", compare: (one, other) => byScore(one, other, (a, b) => a.score - b.score || a.order - b.order) },
  label: { says: "by label", compare: (one, other) => one.title.localeCompare(other.title, "en") || one.channel - other.channel },
};

/** Units without a score, those that failed, come last however scores are sorted. */
function byScore(one, other, compare) {
  if (one.score === null || other.score === null) return (one.score === null) - (other.score === null) || one.order - other.order;
  return compare(one, other);
}

/** Whether a unit is meant by all words: a number or range is a channel, TAP:CHANNEL both, all else is part of a name. */
function matcher(find) {
  const tests = find.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const [, tap, first, last] = word.match(/^(?:(.+):)?(\d+)(?:-(\d+))?$/) ?? [];
    if (first === undefined) return (unit) => unit.words.includes(word);
    const [least, most] = [Number(first), Number(last ?? first)];
    const channel = (unit) => unit.channel >= least && unit.channel <= most;
    return tap === undefined ? channel : (unit) => channel(unit) && unit.tap.name.toLowerCase().includes(tap);
  });
  return (unit) => tests.every((test) => test(unit));
}

/** The layers of a list, each {tap, units}. view: {tap: name or null, find, sort}. */
function listed(view) {
  const matches = matcher(view.find);
  const taps = atlas.taps.filter((tap) => view.tap === null || tap.name === view.tap);
  return taps
    .map((tap) => ({ tap, units: tap.units.filter(matches).sort(SORTINGS[view.sort].compare) }))
    .filter(({ units }) => units.length > 0);
}
