// Everything that is known of one image, as a list of facts: prompt, values, parameters, scores,
// who judged it, what it descends from, and the command that draws it again.

import { FAILED, FLAGGED, PENDING, idOf, textOf } from "./data.js";
import { button, el, userText } from "./dom.js";
import { MARK_TEXT } from "./marks.js";
import { verdictText } from "./picks.js";
import { formatNumber } from "./text.js";

const MAX_RELATIVES = 12;

export function makeDetails(app, open) {
  const { sheet, picks, packs } = app;
  const node = el("div", { class: "details" });
  let commandToken = {};

  function fill(row, isHidden) {
    packs.cancel(commandToken);
    if (isHidden) {
      node.replaceChildren(el("p", { class: "hint", text: "Labels are hidden until you judge this image." }));
      return;
    }
    const command = el("pre", { class: "command text", dir: "ltr", tabindex: 0, "aria-label": "Redraw command" });
    commandToken = {};
    const image = sheet.imageOf[row];
    packs.whenLoaded(image, commandToken, (pack) => (command.textContent = packs.commandOf(pack, image)));
    node.replaceChildren(facts(row), ...lineage(row), el("h3", { text: "Draw this image again" }), command);
  }

  function facts(row) {
    const list = [];
    const add = (name, value, attributes = {}) => {
      if (value === null || value === undefined || value === "") return;
      list.push(el("dt", { text: name }), userText("dd", value, attributes));
    };
    const image = sheet.imageOf[row];
    const status = sheet.status[row];
    add("prompt", textOf(sheet, row, "prompt"), { class: "prompt", tabindex: 0 });
    add("not seen by the model", textOf(sheet, row, "unseen"), { class: "warning" });
    add({ [FAILED]: "failed", [FLAGGED]: "flagged" }[status] || "note", textOf(sheet, row, "error"), { class: "warning" });
    if (status === PENDING) add("status", "planned, not drawn yet");
    for (const axis of sheet.axes) add(axis.name, axis.values[axis.codes[row]]);
    for (const [name, value] of Object.entries(parseParams(textOf(sheet, row, "params")))) {
      if (!sheet.axisByName.has(name)) add(name, value === null ? "default" : String(value));
    }
    for (const { name, values } of sheet.scores) {
      if (values[image] !== null && values[image] !== undefined) add(name, formatNumber(values[image], 4));
    }
    const { width, height, seconds, batch_size: batch } = sheet.numbers;
    if (width[row]) add("size", `${width[row]} × ${height[row]} px`);
    if (seconds[row]) add("time", `${formatNumber(seconds[row])} s in a batch of ${batch[row]}`);
    add("cost", sheet.numbers.cost_usd[row] ? `${formatNumber(sheet.numbers.cost_usd[row], 4)} USD` : "");
    add("computed in", [textOf(sheet, row, "dtype"), textOf(sheet, row, "device")].filter(Boolean).join(" on "));
    add("numerics", textOf(sheet, row, "numerics"));
    add("weights", textOf(sheet, row, "model_fingerprint"));
    add("image id", idOf(sheet, row), { class: "code" });
    if (sheet.image.enlarged[image] >= 0) add("enlarged", sheet.image.id[sheet.image.enlarged[image]], { class: "code" });
    if (sheet.marks) add("runs", MARK_TEXT[sheet.marks[row]]);
    for (const text of verdicts(row)) add("judged", text);
    return el("dl", { class: "facts" }, list);
  }

  /** One line for each person who judged an image. */
  function verdicts(row) {
    const id = idOf(sheet, row);
    return picks.saidOf(id).map((each) => [each.who, verdictText(each), each.note, new Date(each.picked_at).toLocaleString()].filter(Boolean).join(", "));
  }

  // ---------------------------------------------------------------- lineage

  /** The images that this one descends from and those that descend from it, as pictures. */
  function lineage(row) {
    const id = idOf(sheet, row);
    const here = Object.entries(sheet.parents).filter(([, ids]) => ids.includes(id)).map(([child]) => idOf(sheet, Number(child)));
    const children = [...new Set([...here, ...(sheet.offspring[id] || [])])];
    return [...line("Descends from", sheet.parents[row] || []), ...line("Descendants", children)];
  }

  function line(title, ids) {
    if (!ids.length) return [];
    return [el("h3", { text: title }), el("p", { class: "lineage" }, ids.slice(0, MAX_RELATIVES).map(relative))];
  }

  /** A relative on this sheet opens here; one of another run links to that run's page. */
  function relative(id) {
    const image = sheet.imageById.get(id);
    const elsewhere = sheet.relatives[id];
    const img = el("img", { alt: "", draggable: "false" });
    if (image !== undefined) {
      packs.whenLoaded(image, {}, (pack) => (img.src = packs.thumbUrl(pack, image)));
      return button(`Show ${id}`, () => open(sheet.rowOfImage[image]), { class: "relative" }, img, el("code", { text: id }));
    }
    if (!elsewhere) return el("code", { text: id });
    img.src = elsewhere.image;
    return el("a", { class: "relative", href: elsewhere.page, target: "_blank", rel: "noopener", title: `Open the page of ${elsewhere.run}` }, img, el("code", { text: id }));
  }

  return { node, fill };
}

function parseParams(text) {
  try {
    return JSON.parse(text || "{}");
  } catch {
    return {};
  }
}
