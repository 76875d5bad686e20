// Headers: the labels of rows, columns and walls, their numbers, and what they do: a menu on a
// click, a new order when dragged. Knows nothing of scrolling.

import { valueText } from "./data.js";
import { el, prettyText } from "./dom.js";
import { ranks } from "./layout.js";
import { marginBars, metricsOf } from "./margins.js";
import { captionParts } from "./measures.js";
import { openMenu } from "./menu.js";
import { MAX_CHOSEN } from "./state.js";

const DRAG_PX = 8; // a shorter way is a click

export function makeHeads(app) {
  const { sheet } = app;

  /** Fill a header with its line's label and numbers. */
  function fill(node, line, side, index, ranges) {
    const isHidden = app.blind.isSideHidden(side);
    const parts = isHidden ? [el("span", { class: "label", text: "?", title: "Shuffled in every line" })] : labels(line);
    node.head = { side, index };
    node.replaceChildren(el("div", { class: "labels" }, parts.length ? parts : el("span", { class: "label", text: "all" })));
    if (ranges.length) node.append(marginBars(ranges, line.stats));
  }

  function labels(line) {
    return line.axes.map((axis, i) => {
      const text = valueText(axis, line.codes[i]);
      const isCut = axis.prefix && text.startsWith(axis.prefix);
      return prettyText("span", isCut ? text.slice(axis.prefix.length) : text, { class: i ? "label minor" : "label", title: text });
    });
  }

  /** The caption of an image in a wall: no label pushes another one out. */
  function caption(line) {
    const spans = labels(line);
    const parts = captionParts(line);
    if (parts.length === 1 && parts[0].length === 1) return spans;
    return parts.map((indices) => el("div", { class: "caption-line" }, indices.map((i) => spans[i])));
  }

  /** Open what a header can do, at a point of the window. */
  function openAt(side, index, x, y) {
    const { state } = app;
    const line = app.grid.layout()[side][index];
    if (!line || !line.axes.length || app.blind.isSideHidden(side)) return;
    const [axis] = line.axes;
    const [code] = line.codes;
    const name = valueText(axis, code);
    const hidden = state.hidden[axis.name] || new Set();
    const hide = (codes) => app.setState({ hidden: { ...state.hidden, [axis.name]: codes } });
    const others = axis.values.map((_, other) => other).filter((other) => other !== code);
    const sortKey = side === "rows" ? "sortRows" : "sortCols";
    openMenu(x, y, name, [
      ["Survey its images (Shift-click)", () => app.survey(surveyOf(side, index))],
      [`Only ${name}`, () => hide(new Set(others))],
      [`Hide ${name}`, () => hide(new Set([...hidden, code]))],
      hidden.size ? [`Show all of ${axis.name}`, () => hide(new Set())] : null,
      [side === "rows" ? "Move up" : "Move left", () => move(axis, code, -1)],
      [side === "rows" ? "Move down" : "Move right", () => move(axis, code, 1)],
      ...(app.act ? app.act.itemsOf(rowsOf(side, index)) : []),
      state[sortKey] ? ["Order of the sweep", () => app.setState({ [sortKey]: "" })] : null,
      ...metricsOf(sheet, app.picks)
        .filter(([metric]) => metric !== state[sortKey])
        .map(([metric, label]) => [`Sort ${side === "rows" ? "rows" : "columns"} by ${label}`, () => app.setState({ [sortKey]: metric })]),
    ]);
  }

  /** All rows of data in a line of the layout. */
  function rowsOf(side, index) {
    const layout = app.grid.layout();
    const count = side === "rows" ? layout.cols.length : layout.rows.length;
    const rows = [];
    for (let i = 0; i < count; i += 1) rows.push(...(side === "rows" ? app.grid.membersAt(index, i) : app.grid.membersAt(i, index)));
    return rows;
  }

  /** The images of a line that fit a survey: all of them, or the one on top of each stack. */
  function surveyOf(side, index) {
    const rows = rowsOf(side, index);
    if (rows.length <= MAX_CHOSEN) return rows;
    const layout = app.grid.layout();
    const count = side === "rows" ? layout.cols.length : layout.rows.length;
    const cells = Array.from({ length: count }, (_, i) => (side === "rows" ? app.grid.slotsAt(index, i) : app.grid.slotsAt(i, index)));
    return cells.flatMap((stacks) => (stacks || []).filter((stack) => stack.length).map(([top]) => top));
  }

  function move(axis, code, by) {
    const shown = orderOf(axis);
    const at = shown.indexOf(code);
    const to = at + by;
    if (to < 0 || to >= shown.length) return;
    [shown[at], shown[to]] = [shown[to], shown[at]];
    app.setState({ order: { ...app.state.order, [axis.name]: shown }, sortRows: "", sortCols: "" });
  }

  function orderOf(axis) {
    const rank = ranks(axis, app.state.order[axis.name]);
    return axis.values.map((_, code) => code).sort((a, b) => rank[a] - rank[b]);
  }

  /** Put one line's value where another line is. */
  function dropOn(side, from, to) {
    const layout = app.grid.layout();
    const [axis] = layout[side][from].axes;
    if (from === to || layout[side][from].axes.length !== 1) return;
    const shown = layout[side].map((line) => line.codes[0]);
    const [code] = shown.splice(from, 1);
    shown.splice(to, 0, code);
    const rest = orderOf(axis).filter((other) => !shown.includes(other));
    app.setState({ order: { ...app.state.order, [axis.name]: [...shown, ...rest] }, sortRows: "", sortCols: "" });
  }

  /** Listen to a plane of headers: click, Shift-click and drag. */
  function listen(plane) {
    let drag = null;
    const headAt = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest(".row-head, .col-head");
    plane.addEventListener("pointerdown", (event) => {
      const node = event.target.closest(".row-head, .col-head");
      drag = node?.head && event.button === 0 ? { node, ...node.head, x: event.clientX, y: event.clientY, isMoving: false } : null;
    });
    window.addEventListener("pointermove", (event) => {
      if (!drag || event.pointerType === "touch") return;
      if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > DRAG_PX) drag.isMoving = true;
      plane.classList.toggle("is-dragging", drag.isMoving);
    });
    window.addEventListener("pointerup", (event) => {
      if (!drag?.isMoving) return;
      const { side, index } = drag;
      const target = headAt(event)?.head;
      plane.classList.remove("is-dragging");
      if (target?.side === side) dropOn(side, index, target.index);
    });
    plane.addEventListener("click", (event) => {
      const node = event.target.closest(".row-head, .col-head");
      if (!node?.head || drag?.isMoving) return;
      const { side, index } = node.head;
      if (event.shiftKey) app.survey(surveyOf(side, index));
      else openAt(side, index, event.clientX, event.clientY);
    });
    window.addEventListener("pointercancel", () => (drag = null));
  }

  return { fill, caption, rowsOf, openAt, listen };
}
