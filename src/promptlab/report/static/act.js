// Acts: on a served page, what an image gives rise to goes into the queue: more seeds of its cell, the
// same in all styles, variations, an enlargement, other parameters. Knows no command line.

import { hasPixels, idOf, textOf } from "./data.js";
import { button, el, openDialog, say, userText } from "./dom.js";
import { openMenu } from "./menu.js";
import { send } from "./outbox.js";
import { isPick } from "./picks.js";
import { formatCount } from "./text.js";

const NUM_SEEDS = 8;
const MAX_IMAGES = 12; // of one act

export function makeAct(app) {
  const { sheet, picks } = app;
  const idsOf = (rows) => [...new Set(rows.filter((row) => hasPixels(sheet, row)).map((row) => idOf(sheet, row)))].slice(0, MAX_IMAGES);

  /** Queue an act on images, and say what it comes to. */
  async function queue(kind, ids, more = {}) {
    say("Planning …");
    try {
      const { entries } = await send(sheet.served.act, { kind, image_ids: ids, ...more });
      const count = entries.reduce((sum, entry) => sum + (entry.num_images || 0), 0);
      say(`In the queue: ${formatCount(count, "image")}`);
    } catch (error) {
      say(error.status ? error.message : "Not queued: no connection");
    }
  }

  /** Open what can be drawn from one image, at a button. */
  function open(row, node) {
    const box = node.getBoundingClientRect();
    const ids = [idOf(sheet, row)];
    openMenu(box.left, box.bottom + 4, "Draw", [
      [`${NUM_SEEDS} more seeds of this cell`, () => queue("seeds", ids, { seeds: NUM_SEEDS })],
      ["The same in all styles", () => queue("styles", ids)],
      [`${NUM_SEEDS} variations of it`, () => queue("vary", ids, { seeds: NUM_SEEDS })],
      ["Enlarge it", () => queue("enlarge", ids)],
      ["With other parameters …", () => askForParameters(row)],
    ]);
  }

  /** What can be drawn from a line of the layout, for its menu: [text, action] pairs. */
  function itemsOf(members) {
    const picked = idsOf(members.filter((row) => isPick(picks.ofRow(row), sheet.pick_rating)));
    const drawn = members.filter((row) => hasPixels(sheet, row));
    const cells = idsOf([...new Map(drawn.map((row) => [sheet.cellOf[row], row])).values()]);
    return [
      cells.length ? [`Draw ${NUM_SEEDS} more seeds of ${formatCount(cells.length, "cell")}`, () => queue("seeds", cells, { seeds: NUM_SEEDS })] : null,
      picked.length ? [`Draw ${NUM_SEEDS} variations of ${formatCount(picked.length, "pick")}`, () => queue("vary", picked, { seeds: NUM_SEEDS })] : null,
      picked.length ? [`Enlarge ${formatCount(picked.length, "pick")}`, () => queue("enlarge", picked)] : null,
    ];
  }

  /** Ask for other values of the parameters that an image was drawn with. */
  function askForParameters(row) {
    const params = JSON.parse(textOf(sheet, row, "params") || "{}");
    const fields = Object.entries(params).map(([name, value]) => {
      const input = el("input", { type: "text", class: "text", value: value ?? "", placeholder: "default", "aria-label": name, autocapitalize: "off" });
      return { name, value, input };
    });
    const form = el("form", { class: "parameters" },
      fields.map(({ name, input }) => el("label", { class: "line" }, userText("span", name), input)),
      el("p", { class: "hint", text: "Several values with commas between make an image each." }),
      el("div", { class: "button-row" }, el("button", { type: "submit", class: "primary", text: "Draw" })),
    );
    const dialog = openDialog("Other parameters", fields.length ? [form] : [el("p", { text: "This image has no parameters." })], "small");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const changed = fields.filter(({ value, input }) => input.value.trim() !== String(value ?? ""));
      if (!changed.length) {
        say("Change a value first");
        return;
      }
      dialog.close();
      queue("params", [idOf(sheet, row)], { params: Object.fromEntries(changed.map(({ name, input }) => [name, input.value.split(",").map(readValue)])) });
    });
  }

  return { open, itemsOf };
}

/** A value as it was typed: a number, true, false, or text; nothing is the model's default. */
function readValue(text) {
  const value = text.trim();
  if (!value) return null;
  if (value === "true" || value === "false") return value === "true";
  return Number.isFinite(Number(value)) ? Number(value) : value;
}

/** The way back to the queue. */
export const queueButton = () => button("The queue", () => location.assign("../../"), { symbol: "left", class: "quiet home" });
