// The selection: images that were chosen to be surveyed or judged together, by C, Ctrl-click or a
// rectangle. It lives in the state, so that it survives a reload.

import { idOf } from "./data.js";
import { byId, el } from "./dom.js";

const FRAME_DRAG_PX = 6; // a shorter way is a click

export function makeSelection(app) {
  const { sheet } = app;
  const plane = byId("plane");
  const frame = el("div", { class: "selection-frame", hidden: true });
  byId("scroller").append(frame);
  let drag = null;
  let isClickOver = false; // a rectangle ends with a click that opens nothing

  const ids = () => app.state.chosen;
  const has = (id) => ids().includes(id);
  const set = (chosen) => app.setState({ chosen }, { keepsLayout: true });

  function toggle(some) {
    const isOn = some.every(has);
    set(isOn ? ids().filter((id) => !some.includes(id)) : [...ids(), ...some.filter((id) => !has(id))]);
  }

  /** The rows of data that are judged with one: all that are chosen, if it is chosen itself. */
  function groupOf(row) {
    if (!has(idOf(sheet, row))) return [row];
    return ids().map((id) => sheet.rowOfImage[sheet.imageById.get(id)]);
  }

  // ---------------------------------------------------------------- rectangle

  function slotsInside() {
    const box = frame.getBoundingClientRect();
    return [...app.grid.liveSlots()].filter(({ node, data }) => {
      if (data < 0) return false;
      const each = node.getBoundingClientRect();
      return each.right > box.left && each.left < box.right && each.bottom > box.top && each.top < box.bottom;
    });
  }

  function draw(event) {
    const left = Math.min(drag.x, event.clientX);
    const top = Math.min(drag.y, event.clientY);
    frame.hidden = false;
    Object.assign(frame.style, {
      left: `${left}px`,
      top: `${top}px`,
      width: `${Math.abs(event.clientX - drag.x)}px`,
      height: `${Math.abs(event.clientY - drag.y)}px`,
    });
  }

  plane.addEventListener("pointerdown", (event) => {
    isClickOver = false;
    if (event.pointerType !== "mouse" || event.button !== 0 || event.target.closest(".row-head, .col-heads, button")) return;
    drag = { x: event.clientX, y: event.clientY, isFar: false, keeps: event.ctrlKey || event.metaKey || event.shiftKey };
  });
  window.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > FRAME_DRAG_PX) drag.isFar = true;
    if (drag.isFar) draw(event);
  });
  window.addEventListener("pointerup", () => {
    if (drag?.isFar) {
      isClickOver = true;
      const inside = [...new Set(slotsInside().map(({ shown }) => idOf(sheet, shown)))];
      set(drag.keeps ? [...new Set([...ids(), ...inside])] : inside);
    }
    drag = null;
    frame.hidden = true;
  });

  return {
    ids,
    has,
    toggle,
    groupOf,
    clear: () => set([]),
    tookClick: () => isClickOver,
    rows: () => ids().map((id) => sheet.rowOfImage[sheet.imageById.get(id)]),
  };
}
