// Flipping the whole page: while Space is held, every image of the grid is shown with another
// value of one axis, in place: another style, model, run, temperature or candidate.

import { counterpart, valueText, varyingAxes } from "./data.js";
import { byId, el, prettyText, say } from "./dom.js";
import { tabCode } from "./filters.js";

const PAGE_HOLD_MS = 300; // a shorter press, however busy the page, stays flipped until the next

export function makePageFlip(app) {
  const { sheet } = app;
  const pill = el("div", { class: "flip-pill", role: "status", hidden: true });
  byId("main").append(pill);
  let axis = null;
  let code = -1;
  let isOn = false;
  let pressedAt = 0;
  const shown = new Map(); // row -> its counterpart

  /** The axis that is flipped: one that cannot be seen side by side, if there is one. */
  function chooseAxis() {
    const { state } = app;
    const varying = varyingAxes(sheet).map(({ name }) => name);
    const seen = [...state.rows, ...state.cols, ...state.inner];
    const unseen = varying.filter((name) => !seen.includes(name) && name !== "seed");
    const wanted = [...state.tabs, ...unseen, "run", ...state.cols, ...state.inner, "seed"];
    const name = wanted.find((each) => varying.includes(each));
    return name ? sheet.axisByName.get(name) : null;
  }

  function start() {
    const chosen = chooseAxis();
    if (!chosen) {
      say("Nothing to flip to: no axis has a second value");
      return;
    }
    if (chosen !== axis) {
      axis = chosen;
      code = axis.order[currentCode() === axis.order[0] ? 1 : 0];
    }
    turn(true);
  }

  /** The code of the axis that the page shows now, if it shows one. */
  function currentCode() {
    if (app.state.tabs.includes(axis.name)) return tabCode(sheet, app.state, axis.name);
    const row = app.cursor.row();
    return row >= 0 ? axis.codes[row] : axis.order[0];
  }

  function turn(on) {
    isOn = on;
    shown.clear();
    app.grid.setFlip(on ? shownFor : null);
    pill.hidden = !on;
    const side = ["rows", "cols"].find((place) => app.state[place].includes(axis?.name));
    byId("plane").dataset.flipped = on && side ? side : ""; // its headers do not name what is shown
    if (on) pill.replaceChildren(prettyText("b", valueText(axis, code)), el("span", { text: " in every place · Space: back · Shift+Space: next" }));
  }

  /** The row that stands in the place of another while the page is flipped; -1 for none. */
  function shownFor(row) {
    if (!isOn) return row;
    if (!shown.has(row)) shown.set(row, axis.codes[row] === code ? row : counterpart(sheet, row, axis.name, code));
    return shown.get(row);
  }

  function next() {
    if (!axis || !isOn) {
      start();
      return;
    }
    code = axis.order[(axis.order.indexOf(code) + 1) % axis.order.length];
    turn(true);
  }

  function press(event) {
    if (event.repeat) return;
    if (event.shiftKey) next();
    else if (isOn) turn(false);
    else {
      pressedAt = event.timeStamp;
      start();
    }
  }

  function release(event) {
    if (isOn && pressedAt && event.timeStamp - pressedAt > PAGE_HOLD_MS) turn(false);
    pressedAt = 0;
  }

  /** The row that a key judges in the place of another. */
  const rowShownFor = (row) => (shownFor(row) < 0 ? row : shownFor(row));

  return { press, release, rowShownFor, stop: () => isOn && turn(false) };
}
