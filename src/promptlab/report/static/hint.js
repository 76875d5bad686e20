// The hint at the first visit: one line that says how to judge. It goes with the first verdict, or
// when it is closed, and does not come back where the browser remembers.

import { button, byId, el } from "./dom.js";
import { memory } from "./memory.js";

const KEY = "promptlab-hinted";

export function makeHint(app) {
  if (memory.read(KEY)) return { drop: () => {} };
  const keys = [["1–5", "rate"], ["F", "favourite"], ["X", "reject"], ["A", "cull all"], ["?", "all keys"]];
  const node = el("div", { class: "hint-line", role: "note" },
    el("span", { class: "hint-keys" }, keys.flatMap(([key, text]) => [el("kbd", { text: key }), ` ${text}  `])),
    el("span", { class: "hint-touch", text: "Tap an image to judge it, or Cull for all." }),
    button("Close the hint", drop, { symbol: "close", class: "quiet tiny" }));
  byId("main").append(node);

  function drop() {
    memory.write(KEY, true);
    if (node.contains(document.activeElement)) app.grid.focus();
    node.remove();
  }

  return { drop: () => node.isConnected && drop() };
}
