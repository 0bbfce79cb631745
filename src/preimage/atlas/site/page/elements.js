"use strict";
// Making elements. Names of layers, labels and photos come from outside: they become text and attributes, never HTML.

/** An element with attributes (true: there without a value; null and false: not there) and children (nodes, texts). */
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for drawings. */
function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** How scores are written: so many digits that count, and a true minus. */
function number(value, digits = 4) {
  return value === null || value === undefined ? "none" : String(Number(value.toPrecision(digits))).replace("-", "\u2212");
}

/** [height, width] as people say it, in pixels. */
function pixels(pair) {
  return `${pair[1]} \u00d7 ${pair[0]} px`;
}

/** [height, width] of a step; mostly they are the same. */
function stepOf(pair) {
  return pair[0] === pair[1] ? `${pair[0]} px` : pixels(pair);
}

/** Words in a row, broken between and not within them where the line ends. */
function dotted(words) {
  return words.map((one) => one.replaceAll(" ", "\u00a0")).join(" \u00b7 ");
}

/** "1 unit", "2,000 units". */
function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * One picture of a sheet, as an element that takes the width it is given.
 * sheet: {url, columns, rows, width, height}; the picture's size is without its margin of one pixel.
 */
function fromSheet(sheet, position, says) {
  const column = position % sheet.columns;
  const row = Math.floor(position / sheet.columns);
  const shown = element("span", says ? { class: "picture", role: "img", "aria-label": says } : { class: "picture" });
  shown.classList.toggle("small", Math.max(sheet.width, sheet.height) <= SMALL);
  // All in shares of the picture's own size, so that the style sheet alone decides how large it is.
  const wide = sheet.columns * (1 + 2 / sheet.width);
  const high = sheet.rows * (1 + 2 / sheet.height);
  const left = column * (1 + 2 / sheet.width) + 1 / sheet.width;
  const top = row * (1 + 2 / sheet.height) + 1 / sheet.height;
  shown.style.aspectRatio = `${sheet.width} / ${sheet.height}`;
  shown.style.backgroundSize = `${100 * wide}% ${100 * high}%`;
  shown.style.backgroundPosition = `${(100 * left) / (wide - 1)}% ${(100 * top) / (high - 1)}%`;
  shown.style.backgroundImage = `url("${sheet.url}")`;
  return shown;
}

/** Pictures of at most so many pixels a side are shown with their pixels visible; as in sheets.py. */
const SMALL = 64;
