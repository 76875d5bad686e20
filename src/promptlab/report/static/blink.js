// Blinking in the large view: the same place with another value of an axis. Hold Space for the
// other, Shift+Space for the next value, D for a wipe or the difference. Owns which axis and value
// are flipped to; the large view owns the row.

import { counterpart, varyingAxes } from "./data.js";
import { button, el, say, select } from "./dom.js";

const HOLD_MS = 300; // a shorter press, however busy the page, stays flipped until the next
const OVERLAYS = ["", "wipe", "difference"];

/** `view` gives row(), show(row) (in place, at the same zoom) and isHidden(). */
export function makeBlink(app, view, stage) {
  const { sheet } = app;
  const node = el("div", { class: "flip" });
  let axis = null;
  let code = -1;
  let base = -1; // the row that a second flip returns to; -1 while not flipped
  let overlay = "";
  let pressedAt = 0;

  const axes = () => varyingAxes(sheet);

  function choose() {
    if (!axes().length) return false;
    if (!axis) {
      const wanted = ["run", ...app.state.cols, "style", "model"];
      axis = wanted.map((name) => axes().find((each) => each.name === name)).find(Boolean) || axes()[0];
    }
    if (code < 0 || (base < 0 && code === axis.codes[view.row()])) code = nextCode(axis.codes[view.row()]);
    return true;
  }

  const nextCode = (from) => axis.order[(axis.order.indexOf(from) + 1) % axis.order.length];

  const other = () => (choose() ? counterpart(sheet, view.row(), axis.name, code) : -1);

  /** Show the counterpart in the same place, at the same zoom; again: back. */
  function flip() {
    clearOverlay();
    if (base >= 0) {
      const back = base;
      base = -1;
      view.show(back);
      return;
    }
    const row = other();
    if (row < 0 || row === view.row()) {
      say("Nothing to flip to");
      return;
    }
    base = view.row();
    view.show(row);
  }

  /** Flip on to the next value, returning to the same image in the end. */
  function next() {
    clearOverlay();
    if (!choose()) return;
    const from = base >= 0 ? base : view.row();
    if (base >= 0) code = nextCode(code);
    if (code === axis.codes[from]) code = nextCode(code);
    const row = counterpart(sheet, from, axis.name, code);
    if (row < 0) return;
    base = from;
    view.show(row);
  }

  function press(event) {
    if (event.repeat) return;
    if (event.shiftKey) next();
    else {
      pressedAt = base < 0 ? event.timeStamp : 0;
      flip();
    }
  }

  function release(event) {
    if (base >= 0 && pressedAt && event.timeStamp - pressedAt > HOLD_MS) flip();
    pressedAt = 0;
  }

  /** Lay the other image over this one: a wipe that follows the pointer, then the difference. */
  function nextOverlay() {
    const row = base >= 0 ? base : other();
    if (row < 0 || row === view.row()) {
      say("Nothing to compare with");
      return;
    }
    overlay = OVERLAYS[(OVERLAYS.indexOf(overlay) + 1) % OVERLAYS.length];
    stage.lay(sheet.imageOf[row], overlay);
    say(overlay === "wipe" ? "Wipe: move the pointer · D: difference" : overlay ? "Difference · D: off" : "Overlay off");
  }

  function clearOverlay() {
    if (overlay) stage.lay(-1, "");
    overlay = "";
  }

  /** Forget what was flipped: another image is shown. */
  function forget() {
    clearOverlay();
    base = -1;
  }

  function fill() {
    const isUsable = !view.isHidden() && choose();
    node.hidden = !isUsable;
    if (!isUsable) return;
    node.replaceChildren(
      button("Flip in place (Space; hold: only while held)", flip, { symbol: "flip", text: "Flip", "aria-pressed": base >= 0 }),
      select("Axis to flip", axes().map((each) => [each.name, each.name]), axis.name, (name) => {
        axis = sheet.axisByName.get(name);
        code = -1;
        base = -1;
        fill();
      }),
      select("Value to flip to", axis.order.map((each) => [each, axis.values[each]]), code, (chosen) => {
        code = Number(chosen);
        base = -1;
      }),
    );
  }

  return { node, fill, press, release, forget, nextOverlay, base: () => base, axisName: () => (base >= 0 ? axis.name : "") };
}
