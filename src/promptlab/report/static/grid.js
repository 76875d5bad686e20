// The grid: only what is near the viewport is in the page. Rows of elements are used again as they
// leave; the browser itself scrolls, and headers stay by `position: sticky`, so that they move
// with the pixels under them. Knows nothing of cursors and verdicts.

import { idOf } from "./data.js";
import { byId, el, prettyText } from "./dom.js";
import { lineHolds } from "./layout.js";
import { cellStats, heatColor, metricText, metricValue } from "./margins.js";
import { CELL_PAD, GAP, measure } from "./measures.js";
import { makeSlots } from "./slots.js";
import { short } from "./text.js";

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
    if (line) cell.caption.replaceChildren(...heads.labels(line));
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
    const measures = { "head-w": size.headW, "head-h": size.headH, "cell-w": size.cellW, "cell-h": size.cellH, "slot-w": size.slotW, "slot-h": size.slotH };
    for (const [name, px] of Object.entries(measures)) plane.style.setProperty(`--${name}`, `${px}px`);
    plane.style.setProperty("--slot-columns", layout.slotColumns);
    plane.setAttribute("aria-rowcount", layout.rows.length + 1);
    plane.setAttribute("aria-colcount", layout.cols.length + 1);
    plane.classList.toggle("is-narrow", size.isNarrow);
    plane.classList.toggle("is-wall", layout.isWall);
    lastEdges = "";
    render();
  }

  function cornerLabel() {
    const names = (places) => places.map((name) => `${name} ${sheet.axisByName.get(name).prefix}`.trim()).join(" · ") || "all";
    const { rows, cols, inner } = app.state;
    const text = `${names(rows)} × ${names(cols)}`;
    const inside = inner.length ? `in each: ${names(inner)}` : "";
    return el("div", { class: "corner-label", title: `${text} ${inside}`.trim() }, prettyText("p", short(text, 60)), prettyText("p", inside));
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
      heads.fill(node, layout.cols[col], "cols", col, size.ranges.cols);
      const inner = size.innerLabels.map((text) => prettyText("span", text, { title: short(text, 400) }));
      if (inner.length) node.append(el("div", { class: "inner-heads" }, inner));
      head.node.append(node);
      head.cells.set(col, node);
    }
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

  /** Show another row of data in the place of each, until called with null. */
  function setFlip(rowShown) {
    slots.setFlip(rowShown);
    for (const line of live.values()) for (const [col, cell] of line.cells) bindCell(cell, line.row, col);
  }

  // ---------------------------------------------------------------- places

  /** Bring a place inside of the layout. */
  function clampPlace({ row, col, slot }) {
    return {
      row: Math.max(0, Math.min(row, layout.rows.length - 1)),
      col: Math.max(0, Math.min(col, layout.cols.length - 1)),
      slot: Math.max(0, Math.min(slot, layout.numSlots - 1)),
    };
  }

  /** Where a place is on the plane, px. */
  function boxOf({ row, col, slot }) {
    const line = Math.floor(slot / layout.slotColumns);
    return {
      top: size.headH + row * size.cellH + CELL_PAD + line * (size.slotH + GAP),
      left: size.left + size.headW + col * size.cellW + CELL_PAD + (slot % layout.slotColumns) * (size.slotW + GAP),
    };
  }

  /** Whether most of an image is inside of the window, clear of the headers. */
  function isOnScreen(place) {
    const { top, left } = boxOf(place);
    const y = top + size.slotH / 2 - scroller.scrollTop;
    const x = left + size.slotW / 2 - scroller.scrollLeft;
    return y > size.headH && y < scroller.clientHeight && x > size.headW && x < scroller.clientWidth;
  }

  /** Scroll an image into view, clear of the headers. */
  function reveal(place) {
    const { top, left } = boxOf(place);
    const isAlone = layout.numSlots === 1;
    const height = (isAlone ? size.cellH : size.slotH + 2 * CELL_PAD);
    const width = (isAlone ? size.cellW : size.slotW + 2 * CELL_PAD);
    const y = top - CELL_PAD - size.headH;
    const x = left - CELL_PAD - size.headW;
    if (y < scroller.scrollTop) scroller.scrollTop = y;
    else if (y + height > scroller.scrollTop + scroller.clientHeight - size.headH) scroller.scrollTop = y + height - scroller.clientHeight + size.headH;
    if (x < scroller.scrollLeft) scroller.scrollLeft = x;
    else if (x + width > scroller.scrollLeft + scroller.clientWidth - size.headW) scroller.scrollLeft = x + width - scroller.clientWidth + size.headW;
    lastEdges = "";
    render();
  }

  /** The stack at a place, the best first; none where the place is empty. */
  function stackAt({ row, col, slot }) {
    const stacks = layout.rows.length && layout.cols.length ? slotsAt(row, col) : null;
    return (stacks && stacks[slot]) || [];
  }

  /** The first place whose image is on screen. */
  function firstOnScreen() {
    for (let row = 0; row < layout.rows.length; row += 1) {
      for (let col = 0; col < layout.cols.length; col += 1) {
        for (let slot = 0; slot < layout.numSlots; slot += 1) {
          const place = { row, col, slot };
          if (isOnScreen(place) && stackAt(place).length) return place;
        }
      }
    }
    return null;
  }

  /** The next place in a direction whose cell is not empty; null at the edge. A wall is one line. */
  function neighbour(place, down, across) {
    let { row, col } = place;
    if (layout.isWall && across) {
      const index = row * layout.numColumns + col + across;
      const next = { row: Math.floor(index / layout.numColumns), col: ((index % layout.numColumns) + layout.numColumns) % layout.numColumns, slot: place.slot };
      return index >= 0 && index < layout.lines.length ? next : null;
    }
    for (;;) {
      row += down;
      col += across;
      if (row < 0 || col < 0 || row >= layout.rows.length || col >= layout.cols.length) return null;
      if (slotsAt(row, col)) return { row, col, slot: place.slot };
    }
  }

  /** Where a row of data stands now; null when it is filtered away. */
  function placeOf(data) {
    const isShuffled = app.state.blind;
    for (let row = 0; row < layout.rows.length; row += 1) {
      if (!isShuffled && !lineHolds(layout.rows[row], data)) continue;
      for (let col = 0; col < layout.cols.length; col += 1) {
        const line = layout.captionAt(row, col) || layout.cols[col];
        if (!isShuffled && !lineHolds(line, data)) continue;
        const stacks = slotsAt(row, col);
        const slot = stacks ? stacks.findIndex((stack) => stack.includes(data)) : -1;
        if (slot >= 0) return { row, col, slot };
      }
    }
    return null;
  }

  /** All shown rows of data as one reads them: line by line, a cell's candidates together. */
  function readingOrder() {
    const rows = [];
    for (let row = 0; row < layout.rows.length; row += 1) {
      for (let col = 0; col < layout.cols.length; col += 1) rows.push(...membersAt(row, col));
    }
    return rows;
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
    refreshVerdicts,
    setFlip,
    render,
    stackAt,
    slotsAt,
    membersAt,
    neighbour,
    placeOf,
    clampPlace,
    isOnScreen,
    firstOnScreen,
    reveal,
    readingOrder,
    liveSlots,
    focus: () => plane.focus({ preventScroll: true }),
    numLive: () => plane.getElementsByTagName("*").length,
    layout: () => layout,
    size: () => size,
    roomPx: () => Math.max(240, scroller.clientWidth - 140),
    numLinesOnScreen: () => Math.max(1, Math.floor((scroller.clientHeight - size.headH) / size.cellH)),
  };
}
