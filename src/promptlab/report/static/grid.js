// The grid: only what is near the viewport is in the page. Rows of elements are used again as they
// leave; the browser itself scrolls, and headers stay by `position: sticky`, so that they move
// with the pixels under them. Knows nothing of cursors and verdicts.

import { agreementOfSheet } from "./agreement.js";
import { idOf } from "./data.js";
import { byId, el, prettyText } from "./dom.js";
import { cellStats, heatColor, metricText, metricValue } from "./margins.js";
import { measure } from "./measures.js";
import { makePlaces } from "./places.js";
import { makeSlots } from "./slots.js";
import { formatPercent, short } from "./text.js";

const OVERSCAN_PX = 480; // rendered above and below what is visible
const OVERSCAN_PART = 0.35; // of the width, left and right

export function makeGrid(app) {
  const { sheet, picks, heads } = app;
  const scroller = byId("scroller");
  const plane = byId("plane");
  const slots = makeSlots(app);
  const live = new Map(); // row -> row node
  const spare = [];
  let layout = null;
  let size = null; // measures in px
  let head = null;
  let isScheduled = false;
  let lastEdges = "";

  const slotsAt = (row, col) => app.blind.slotsAt(layout, row, col);
  const membersAt = (row, col) => app.blind.membersAt(layout, row, col);

  // ---------------------------------------------------------------- nodes

  function makeRow() {
    const header = el("div", { class: "row-head", role: "rowheader" });
    const node = el("div", { class: "row", role: "row" }, header);
    return { node, header, cells: new Map(), row: -1 };
  }

  function makeCell() {
    const node = el("div", { class: "cell", role: "gridcell" });
    const inside = Array.from({ length: layout.numSlots }, slots.make);
    const heat = el("span", { class: "heat" });
    const caption = el("div", { class: "wall-caption" });
    node.append(...inside.map((slot) => slot.node), heat, caption);
    return { node, slots: inside, heat, caption };
  }

  function bindRow(line, row) {
    line.row = row;
    line.node.style.transform = `translateY(${size.headH + row * size.cellH}px)`;
    line.node.setAttribute("aria-rowindex", row + 2);
    heads.fill(line.header, layout.rows[row], "rows", row, size.ranges.rows);
    for (const [col, cell] of line.cells) bindCell(cell, row, col);
  }

  function bindCell(cell, row, col) {
    const { node } = cell;
    node.style.transform = `translateX(${size.left + size.headW + col * size.cellW}px)`;
    node.setAttribute("aria-colindex", col + 2);
    const stacks = slotsAt(row, col);
    node.classList.toggle("is-empty", !stacks);
    bindHeat(cell, stacks ? membersAt(row, col) : []);
    const line = size.captionH ? layout.captionAt(row, col) : null;
    cell.caption.hidden = !line;
    if (line) cell.caption.replaceChildren(...heads.caption(line));
    for (let i = 0; i < cell.slots.length; i += 1) {
      slots.bind(cell.slots[i], stacks ? stacks[i] : [], { row, col, slot: i });
    }
    app.cursor?.mark(cell.slots);
  }

  /** Heat is a frame and a figure: the pictures stay visible. */
  function bindHeat(cell, members) {
    const metric = app.state.heat;
    cell.node.classList.toggle("is-heat", Boolean(metric));
    cell.heat.textContent = "";
    cell.heat.removeAttribute("style");
    cell.node.style.removeProperty("--heat");
    if (!metric || !members.length) return;
    const stats = cellStats(sheet, picks, members);
    const value = metricValue(stats, metric);
    const range = app.heatRange;
    if (value === null || !range) return;
    cell.heat.textContent = metricText(metric, stats);
    const color = heatColor(range.high > range.low ? (value - range.low) / (range.high - range.low) : 0.5);
    cell.node.style.setProperty("--heat", color.background);
    cell.heat.style.color = color.isLight ? "#1a1206" : "#fff";
  }

  // ---------------------------------------------------------------- rendering

  function reset(newLayout) {
    layout = newLayout;
    size = measure(app, layout, scroller.clientWidth, scroller.clientHeight);
    slots.setSize(size.slotW);
    for (const line of live.values()) releaseSlots(line);
    live.clear();
    spare.length = 0;
    const corner = el("div", { class: "corner", role: "columnheader", "aria-label": "axes" }, cornerLabel());
    head = { node: el("div", { class: "col-heads", role: "row", "aria-rowindex": 1 }, corner), cells: new Map() };
    plane.replaceChildren(head.node);
    plane.style.width = layout.isWall ? "100%" : `${size.headW + layout.cols.length * size.cellW + 12}px`;
    plane.style.height = `${size.headH + layout.rows.length * size.cellH + 12}px`;
    const measures = { "head-w": size.headW, "head-h": size.headH, "cell-w": size.cellW, "cell-h": size.cellH, "slot-w": size.slotW, "slot-h": size.slotH, "caption-h": size.captionH };
    for (const [name, px] of Object.entries(measures)) plane.style.setProperty(`--${name}`, `${px}px`);
    plane.style.setProperty("--slot-columns", layout.slotColumns);
    plane.setAttribute("aria-rowcount", layout.rows.length + 1);
    plane.setAttribute("aria-colcount", layout.cols.length + 1);
    plane.classList.toggle("is-narrow", size.isNarrow);
    plane.classList.toggle("is-wall", layout.isWall);
    lastEdges = "";
    render();
  }

  /** Show a layout that has more rows of data: what stays in its place is not made anew. */
  function update(newLayout) {
    const now = measure(app, newLayout, scroller.clientWidth, scroller.clientHeight);
    const isSame = layout && placesOfLines(layout) === placesOfLines(newLayout) && ["headW", "headH", "cellW", "cellH", "slotW", "slotH", "captionH"].every((name) => now[name] === size[name]);
    if (!isSame) {
      reset(newLayout);
      return;
    }
    layout = newLayout;
    size = now;
    for (const line of live.values()) for (const [col, cell] of line.cells) bindCell(cell, line.row, col);
    recount();
  }

  /** What a layout's lines are, as one text. */
  function placesOfLines({ rows, cols, lines, isWall, numSlots, slotColumns }) {
    const texts = (isWall ? [lines] : [rows, cols]).map((side) => side.map((line) => line.codes.join()).join(";"));
    return [isWall, numSlots, slotColumns, ...texts].join("|");
  }

  function cornerLabel() {
    const names = (places) => places.map((name) => `${name} ${sheet.axisByName.get(name).prefix}`.trim()).join(" · ") || "all";
    const { rows, cols, inner } = app.state;
    const inside = inner.length ? `in each: ${names(inner)}` : "";
    const lines = [names(rows), `× ${names(cols)}`, inside].filter(Boolean);
    return el("div", { class: "corner-label", title: lines.join(" ") }, agreementLabel(), lines.map((text) => prettyText("p", short(text, 60))));
  }

  /** How far people agree over the whole sheet, while the margins show it of each line. */
  function agreementLabel() {
    if (!size.ranges.rows.length || !picks.isShared()) return null;
    const { share, numShared } = agreementOfSheet(sheet, picks);
    return share === null ? null : el("p", { class: "agreement", text: `people agree: ${formatPercent(share)} of ${numShared}` });
  }

  function edges() {
    const acrossPx = scroller.clientWidth * OVERSCAN_PART;
    const top = scroller.scrollTop - OVERSCAN_PX;
    const left = scroller.scrollLeft - acrossPx;
    const right = scroller.scrollLeft + scroller.clientWidth - size.headW + acrossPx;
    const bottom = scroller.scrollTop + scroller.clientHeight - size.headH + OVERSCAN_PX;
    const between = (value, most) => Math.max(0, Math.min(most, value));
    return {
      firstRow: between(Math.floor(top / size.cellH), layout.rows.length),
      endRow: between(Math.ceil(bottom / size.cellH), layout.rows.length),
      firstCol: between(Math.floor(left / size.cellW), layout.cols.length),
      endCol: between(Math.ceil(right / size.cellW), layout.cols.length),
    };
  }

  function render() {
    isScheduled = false;
    if (!layout) return;
    const { firstRow, endRow, firstCol, endCol } = edges();
    const key = `${firstRow},${endRow},${firstCol},${endCol}`;
    if (key === lastEdges) return;
    lastEdges = key;
    syncHeads(firstCol, endCol);
    for (const [row, line] of live) {
      if (row < firstRow || row >= endRow) {
        live.delete(row);
        spare.push(line);
      }
    }
    for (let row = firstRow; row < endRow; row += 1) {
      let line = live.get(row);
      const isNew = !line;
      if (isNew) {
        line = spare.pop();
        if (!line) {
          line = makeRow();
          plane.append(line.node);
        }
        live.set(row, line);
      }
      syncCells(line, row, firstCol, endCol, isNew);
    }
    for (const line of spare) {
      releaseSlots(line);
      line.node.remove();
    }
    spare.length = 0;
  }

  function syncHeads(firstCol, endCol) {
    for (const [col, node] of head.cells) {
      if (col < firstCol || col >= endCol) {
        node.remove();
        head.cells.delete(col);
      }
    }
    if (layout.isWall) return;
    for (let col = firstCol; col < endCol; col += 1) {
      if (head.cells.has(col) || !layout.cols[col]) continue;
      const node = el("div", { class: "col-head", role: "columnheader", "aria-colindex": col + 2 });
      node.style.transform = `translateX(${size.headW + col * size.cellW}px)`;
      fillHead(node, col);
      head.node.append(node);
      head.cells.set(col, node);
    }
  }

  function fillHead(node, col) {
    heads.fill(node, layout.cols[col], "cols", col, size.ranges.cols);
    const inner = size.innerLabels.map((text) => prettyText("span", text, { title: short(text, 400) }));
    if (inner.length) node.append(el("div", { class: "inner-heads" }, inner));
  }

  /** Give a row of elements the columns it should have, using those that leave for those that come. */
  function syncCells(line, row, firstCol, endCol, isNew) {
    const left = [];
    for (const [col, cell] of line.cells) {
      if (col < firstCol || col >= endCol) {
        line.cells.delete(col);
        left.push(cell);
      }
    }
    if (isNew) bindRow(line, row);
    for (let col = firstCol; col < endCol; col += 1) {
      if (line.cells.has(col)) continue;
      let cell = left.pop();
      if (!cell) {
        cell = makeCell();
        line.node.append(cell.node);
      }
      line.cells.set(col, cell);
      bindCell(cell, row, col);
    }
    for (const cell of left) {
      cell.slots.forEach(slots.release);
      cell.node.remove();
    }
  }

  function releaseSlots(line) {
    for (const cell of line.cells.values()) cell.slots.forEach(slots.release);
  }

  function schedule() {
    if (isScheduled) return;
    isScheduled = true;
    requestAnimationFrame(() => {
      render();
      app.cursor.onScroll();
    });
  }

  function* liveSlots() {
    for (const line of live.values()) for (const cell of line.cells.values()) yield* cell.slots;
  }

  /** Show the verdicts again, of some images or of all (null); the layout stays. */
  function refreshVerdicts(ids) {
    const wanted = ids && new Set(ids);
    for (const slot of liveSlots()) {
      if (slot.data >= 0 && (!wanted || wanted.has(idOf(sheet, slot.shown)))) slots.bindVerdict(slot);
    }
  }

  /** Show the numbers of all lines and cells again; another set of numbers needs other room. */
  function recount() {
    if (!layout || layout.isWall || !(app.state.margins || app.state.heat)) return;
    layout.recount();
    const now = measure(app, layout, scroller.clientWidth, scroller.clientHeight);
    if (now.headH !== size.headH || now.cellH !== size.cellH) {
      reset(layout);
      return;
    }
    size = now;
    head.node.firstChild.replaceChildren(cornerLabel());
    for (const [col, node] of head.cells) fillHead(node, col);
    for (const line of live.values()) {
      heads.fill(line.header, layout.rows[line.row], "rows", line.row, size.ranges.rows);
      for (const [col, cell] of line.cells) bindHeat(cell, membersAt(line.row, col));
    }
  }

  /** Show another row of data in the place of each, until called with null. */
  function setFlip(rowShown) {
    slots.setFlip(rowShown);
    for (const line of live.values()) for (const [col, cell] of line.cells) bindCell(cell, line.row, col);
  }

  const places = makePlaces(app, scroller, { layout: () => layout, size: () => size, slotsAt, membersAt });

  /** Scroll an image into view, clear of the headers. */
  function reveal(place) {
    places.scrollTo(place);
    lastEdges = "";
    render();
  }

  /** Put the best candidate on top of closed stacks: those of some images, or all (null). */
  function settle(ids) {
    if (app.state.open || !layout) return; // an open stack shows all: nothing moves
    layout.settle(ids && new Set(ids));
    for (const line of live.values()) {
      for (const [col, cell] of line.cells) {
        const stacks = slotsAt(line.row, col);
        if (stacks && cell.slots.some((slot, i) => slot.data !== (stacks[i]?.[0] ?? -1))) bindCell(cell, line.row, col);
      }
    }
  }

  /** Every row of data that is in the grid. */
  function allMembers() {
    const cells = layout.rows.flatMap((_, row) => layout.cols.flatMap((_, col) => membersAt(row, col)));
    return new Set(cells);
  }

  scroller.addEventListener("scroll", schedule, { passive: true });
  new ResizeObserver(() => {
    if (!layout) return;
    const now = measure(app, layout, scroller.clientWidth, scroller.clientHeight);
    if (now.slotW === size.slotW && now.left === size.left && now.numColumns === size.numColumns && now.isNarrow === size.isNarrow) {
      lastEdges = "";
      schedule();
    } else {
      reset(layout);
      app.cursor.follow();
    }
  }).observe(scroller);
  heads.listen(plane);

  return {
    reset,
    update,
    refreshVerdicts,
    setFlip,
    render,
    settle,
    recount,
    reveal,
    slotsAt,
    membersAt,
    liveSlots,
    ...places,
    allMembers,
    focus: () => plane.focus({ preventScroll: true }),
    numLive: () => plane.getElementsByTagName("*").length,
    layout: () => layout,
    size: () => size,
    roomPx: () => Math.max(240, scroller.clientWidth - 140),
    numLinesOnScreen: () => Math.max(1, Math.floor((scroller.clientHeight - size.headH) / size.cellH)),
  };
}
