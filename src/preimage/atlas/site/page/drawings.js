"use strict";
// Small drawings: the score while optimising, where a score lies in its layer, where in a photo a crop was.

const [PLOT_WIDTH, PLOT_HEIGHT] = [320, 90];

/** The score while optimising. values: evenly spaced, null where it was not finite. */
function traceOf(values) {
  const known = values.map((value, i) => [i, value]).filter(([, value]) => value !== null);
  if (known.length === 0) return null;
  const scores = known.map(([, value]) => value);
  const [lowest, highest] = [Math.min(...scores), Math.max(...scores)];
  const x = (i) => (i / Math.max(values.length - 1, 1)) * PLOT_WIDTH;
  const y = (value) => PLOT_HEIGHT - 3 - ((value - lowest) / (highest - lowest || 1)) * (PLOT_HEIGHT - 6);
  const line = known.map(([i, value]) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join("L");
  const says = `score while optimising, from ${number(scores[0])} to ${number(scores.at(-1))}`;
  const plot = drawn("svg", { class: "trace", viewBox: `0 0 ${PLOT_WIDTH} ${PLOT_HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": says });
  plot.append(drawn("path", { class: "ground", d: `M${line}L${x(known.at(-1)[0])},${PLOT_HEIGHT}L${x(known[0][0])},${PLOT_HEIGHT}Z` }));
  plot.append(drawn("path", { d: `M${line}` }));
  const axis = element("div", { class: "axis", "aria-hidden": true }, element("span", {}, number(highest)), element("span", {}, number(lowest)));
  return element("figure", { class: "plot" }, axis, plot, element("figcaption", {}, "score while optimising, of changed views of the picture"));
}

/** How the scores of the layer are spread, and where this one is among them; null where that says nothing. */
function spreadOf(unit) {
  const scores = unit.tap.ranked.map((one) => one.score);
  const [highest, lowest] = [scores[0], scores.at(-1)];
  if (unit.score === null || scores.length < 8 || highest === lowest) return null;
  const bins = Math.min(40, Math.ceil(2 * Math.sqrt(scores.length)));
  const binOf = (score) => Math.min(bins - 1, Math.floor(((score - lowest) / (highest - lowest)) * bins));
  const counts = new Array(bins).fill(0);
  for (const score of scores) counts[binOf(score)] += 1;
  const most = Math.max(...counts);
  const wide = PLOT_WIDTH / bins;
  const says = `scores of the ${counted(scores.length, "unit")} of this layer; this one is number ${unit.rank}`;
  const plot = drawn("svg", { class: "spread", viewBox: `0 0 ${PLOT_WIDTH} 44`, preserveAspectRatio: "none", role: "img", "aria-label": says });
  for (const [i, count] of counts.entries()) {
    const height = count === 0 ? 0 : Math.max(1.5, (count / most) * 44);
    const own = i === binOf(unit.score) ? "own" : null;
    plot.append(drawn("rect", { class: own, x: (i * wide).toFixed(2), y: (44 - height).toFixed(2), width: (wide * 0.82).toFixed(2), height: height.toFixed(2) }));
  }
  const axis = element("div", { class: "axis ends", "aria-hidden": true }, element("span", {}, number(lowest)), element("span", {}, number(highest)));
  return element("figure", { class: "plot" }, plot, axis, element("figcaption", {}, "the scores of all units of this layer, and where this one is"));
}

/** The outline of a photo of so many pixels [high, wide], with the box [top, left, height, width], in shares of it, filled. */
function outline([photoHeight, photoWidth], [top, left, height, width]) {
  const plot = drawn("svg", { class: "outline", viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": `${whereIs([top, left, height, width])} of the photo` });
  const longer = Math.max(photoHeight, photoWidth);
  plot.style.width = `${1.9 * photoWidth / longer}rem`;
  plot.style.height = `${1.9 * photoHeight / longer}rem`;
  // A box of a few pixels must still be seen.
  const [wide, high] = [Math.max(4, 100 * width), Math.max(4, 100 * height)];
  const [x, y] = [Math.min(100 * left, 100 - wide), Math.min(100 * top, 100 - high)];
  plot.append(drawn("rect", { x: x.toFixed(1), y: y.toFixed(1), width: wide.toFixed(1), height: high.toFixed(1) }));
  return plot;
}

/** A box in words. */
function whereIs([top, left, height, width]) {
  if (height > 0.9 && width > 0.9) return "nearly all";
  const third = (middle, names) => names[Math.min(2, Math.max(0, Math.floor(3 * middle)))];
  const [down, right] = [third(top + height / 2, ["top", "middle", "bottom"]), third(left + width / 2, ["left", "middle", "right"])];
  return down === right ? "the middle" : down === "middle" ? `the ${right}` : right === "middle" ? `the ${down}` : `the ${down} ${right}`;
}
