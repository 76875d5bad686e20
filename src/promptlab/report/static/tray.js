// The tray of chosen images: which they are, what keys do to them, and the way to the survey.

import { describeRow } from "./data.js";
import { button, byId, el } from "./dom.js";
import { MAX_CHOSEN } from "./state.js";

export function makeTray(app) {
  const { sheet, packs } = app;
  const tray = byId("tray");

  function fill() {
    const { chosen } = app.state;
    tray.hidden = chosen.length === 0;
    tray.replaceChildren(
      el("span", { class: "hint tray-text", text: `${chosen.length} chosen: a key on one of them judges all` }),
      ...chosen.slice(0, MAX_CHOSEN).map((id) => {
        const image = sheet.imageById.get(id);
        const img = el("img", { alt: "", draggable: "false" });
        packs.whenLoaded(image, {}, (pack) => (img.src = packs.thumbUrl(pack, image)));
        const name = app.blind.isHidden(id) ? "this image" : describeRow(sheet, sheet.rowOfImage[image]);
        return el("button", { type: "button", class: "tray-image", "aria-label": `Leave ${name} out`, title: name, onclick: () => app.selection.toggle([id]) }, img);
      }),
      button("Survey: side by side (V)", () => app.survey(app.selection.rows()), { text: "Survey", class: "primary", disabled: chosen.length < 2 }),
      button("Choose none (Esc)", app.selection.clear, { symbol: "close", class: "quiet" }),
    );
  }

  return { fill };
}
