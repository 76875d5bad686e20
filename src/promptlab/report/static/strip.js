// The strip of a cell's candidates below a large image. Its room is kept while it is empty, so that
// nothing moves when images are flipped in place.

import { PENDING, describeRow, hasPixels } from "./data.js";
import { button, el } from "./dom.js";
import { verdictText } from "./picks.js";

export function makeStrip(app, goTo) {
  const { sheet, picks, packs } = app;
  const node = el("div", { class: "strip", role: "listbox", "aria-label": "Candidates of this cell" });

  /** Show the candidates of a cell; `row` is the one that is shown large. */
  function fill(members, row, isHidden) {
    node.hidden = members.length < 2;
    const seed = sheet.axisByName.get("seed");
    node.replaceChildren(
      ...members.map((member) => {
        const pick = picks.ofRow(member);
        const img = el("img", { alt: "", draggable: "false" });
        const image = sheet.imageOf[member];
        packs.whenLoaded(image, {}, (pack) => (img.src = packs.thumbUrl(pack, image)));
        const label = isHidden ? `seed ${seed.values[seed.codes[member]]}` : describeRow(sheet, member);
        return el("button", {
          type: "button",
          role: "option",
          class: `candidate${pick?.is_favourite ? " is-favourite" : ""}${pick?.is_reject ? " is-reject" : ""}`,
          "aria-selected": String(member === row),
          "aria-label": `${label}, ${verdictText(pick)}`,
          title: label,
          onclick: () => goTo(member),
        },
          hasPixels(sheet, member) ? img : el("span", { class: "failed", text: sheet.status[member] === PENDING ? "" : "failed" }),
          el("span", { class: "candidate-verdict", text: pick?.is_favourite ? "♥" : pick?.rating ? String(pick.rating) : "" }),
        );
      }),
    );
    if (members.length < 2) return;
    node.append(button("Best of these, in rounds of nine (T)", () => app.rounds(members), { class: "best-of", text: `Best of ${members.length}` }));
    node.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest", inline: "center" });
  }

  return { node, fill };
}
