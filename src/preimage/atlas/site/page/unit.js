"use strict";
// The page of one unit.

/** What the index knows of a unit at once; its details follow when they are loaded. */
function unitPage(unit) {
  const heading = element("h1", { tabindex: -1 }, unit.title);
  const layer = element("a", { href: `#/${encodeURIComponent(unit.tap.name)}` }, unit.tap.name);
  const rest = element("div", { class: "details" });
  const about = element("div", { class: "about" }, element("p", { class: "crumb" }, layer), heading, factsOf(unit), element("div", { class: "plots" }, spreadOf(unit)));
  const page = element("article", {}, largePicture(unit), about, rest);
  detailsOf(unit).then(
    (known) => fill(unit, known, about, rest),
    (error) => rest.append(element("p", { class: "alert" }, `More cannot be shown: ${error.message}.`)),
  );
  return page;
}

function largePicture(unit) {
  const [height, width] = unit.tap.picture;
  if (unit.failure) return element("div", { class: "large failed" }, element("p", {}, element("span", { class: "badge bad" }, "failed")), element("p", {}, unit.failure));
  const image = element("img", { src: pictureOf(unit), width, height, alt: `what ${unit.tap.name}, ${unit.title} wants to see` });
  image.classList.toggle("small", Math.max(width, height) <= SMALL);
  return element("div", { class: "large" }, image);
}

function factsOf(unit) {
  const { tap } = unit;
  const rows = [
    ["unit", element("code", {}, `${tap.name}:${unit.channel}`)],
    ["score", unit.failure ? "none, it failed" : `${number(unit.score)}, number ${unit.rank} of ${tap.ranked.length.toLocaleString("en")} in its layer`],
    ["asked", { channel: "the mean of the channel", centre: "the unit at the centre of the channel", class: "the logit of the class" }[tap.asked]],
    ["sees", tap.receptive_field && `${pixels(tap.receptive_field)} of the network\u2019s input${tap.stride ? `, every ${stepOf(tap.stride)}` : ""}`],
    ["layer", tap.kind],
    ["picture", pixels(tap.picture)],
  ];
  return definitions(rows);
}

/** Rows of a name and what it is; rows without the second are left out. */
function definitions(rows) {
  return element("dl", {}, rows.filter(([, value]) => value).map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]).flat());
}

function fill(unit, known, about, rest) {
  about.querySelector(".plots").prepend(...[traceOf(known.trace)].filter(Boolean));
  const parts = [
    examplesOf(unit, known),
    unitsSection("Units with similar pictures", "Compared by what the network makes of them; 1 is the same direction, 0 unrelated.", known.neighbours.map(linked(([, , cosine]) => cosine.toFixed(2).replace("-", "\u2212")))),
    unitsSection("What it is made from", "Channels of the layer before with the largest share in what it computes.", known.incoming.map(linked(([, , share]) => percent(share)))),
    unitsSection("What is made from it", "Units of this atlas that have it among their strongest channels, with its share there.", known.feeds.map(linked(([, , share]) => percent(share)))),
    auditOf(known.audit),
    element("details", { class: "how" }, element("summary", {}, "How it was made"), definitions([["objective", known.objective], ["step size", unit.tap.step_size?.says], ...known.settings])),
  ];
  rest.append(...parts.filter(Boolean));
}

function percent(share) {
  return `${(100 * share).toFixed(Math.abs(share) < 0.1 ? 1 : 0).replace("-", "\u2212")} %`;
}

/** For rows [layer, channel, value]: a unit of the atlas as a link with its picture, another one as text. */
function linked(says) {
  return (row) => {
    const [tap, channel] = row;
    const unit = unitCalled(tap, channel);
    const title = unit?.label ?? String(channel);
    const caption = [
      element("span", { class: "caption" }, element("span", { class: "title" }, title), element("span", { class: "score" }, says(row))),
      element("span", { class: "layer" }, tap),
    ];
    if (!unit) return element("li", {}, element("span", { class: "frame absent" }, "not in this atlas"), caption);
    const frame = element("span", { class: "frame" }, unit.failure ? element("span", { class: "badge bad" }, "failed") : thumbnail(unit));
    return element("li", {}, element("a", { href: linkTo(unit), title: `${tap}:${channel} ${unit.label ?? ""}` }, frame, caption));
  };
}

function unitsSection(title, note, entries) {
  if (entries.length === 0) return null;
  return element("section", {}, element("h2", {}, title), element("p", { class: "note" }, note), element("ul", { class: "strip" }, entries));
}

function examplesOf(unit, { examples, crop }) {
  if (examples.length === 0) return null;
  const [height, width] = crop;
  const sheet = { url: `examples/${unit.tap.files}-${unit.channel}.webp`, columns: examples.length, rows: 1, width, height };
  const entries = examples.map(({ photo, size, box, activation }, i) => {
    const says = `what it sees of the photo ${photo}: ${whereIs(box)}`;
    const where = element("span", { class: "where" }, outline(size, box), element("span", {}, whereIs(box)));
    return element("li", {}, element("span", { class: "frame" }, fromSheet(sheet, i, says)), element("span", { class: "caption" }, element("span", { class: "title", title: photo }, photo), element("span", { class: "score" }, number(activation))), where);
  });
  const note = "What it sees of each, its answer, and where in the photo that is.";
  return element("section", {}, element("h2", {}, "Photos that it answers most strongly"), element("p", { class: "note" }, note), element("ul", { class: "strip photos" }, entries));
}

function auditOf(audit) {
  if (!audit) return null;
  const section = element("section", { class: "audit" }, element("h2", {}, "Audit: is it the answer to what was asked?"));
  if (audit.refused) section.append(element("p", {}, `That cannot be told: ${audit.refused}.`));
  else {
    section.append(element("p", {}, element("span", { class: `badge ${audit.kind}` }, audit.verdict), " ", element("span", { class: "score" }, `cosine ${audit.cosine.toFixed(2)} of what was asked and what the picture is the answer to`)));
    const most = Math.max(...audit.strongest.map(({ weight }) => Math.abs(weight)), 1e-12);
    const weights = audit.strongest.map(({ tap, channel, weight }) => {
      const unit = unitCalled(tap, channel);
      const bar = element("i", { class: weight < 0 ? "against" : null });
      bar.style.setProperty("--share", `${(100 * Math.abs(weight)) / most}%`);
      const name = unit ? element("a", { href: linkTo(unit) }, unit.title) : `channel ${channel}`;
      return element("li", {}, element("span", {}, name), bar, element("span", { class: "score" }, `${weight < 0 ? "\u2212" : "+"}${Math.abs(weight).toFixed(2)}`));
    });
    if (weights.length > 0) section.append(element("p", { class: "note" }, "It is the answer to"), element("ul", { class: "weights" }, weights));
    section.append(...audit.says.map((sentence) => element("p", {}, sentence)));
  }
  return section;
}
