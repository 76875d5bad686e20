// Places of the grid: where a cell's image lies on the plane, what stands beside it, and where a row
// of data stands. Reads the layout and its measures through `view`; makes no element.

import { lineHolds } from "./layout.js";
import { CELL_PAD, GAP } from "./measures.js";

/** `view` gives layout(), size(), slotsAt(row, col) and membersAt(row, col). */
export function makePlaces(app, scroller, view) {
  /** Bring a place inside of the layout. */
  function clampPlace({ row, col, slot }) {
    const layout = view.layout();
    return {
      row: Math.max(0, Math.min(row, layout.rows.length - 1)),
      col: Math.max(0, Math.min(col, layout.cols.length - 1)),
      slot: Math.max(0, Math.min(slot, layout.numSlots - 1)),
    };
  }

  /** Where a place is on the plane, px. */
  function boxOf({ row, col, slot }) {
    const { slotColumns } = view.layout();
    const size = view.size();
    const line = Math.floor(slot / slotColumns);
    return {
      top: size.headH + row * size.cellH + CELL_PAD + line * (size.slotH + GAP),
      left: size.left + size.headW + col * size.cellW + CELL_PAD + (slot % slotColumns) * (size.slotW + GAP),
    };
  }

  /** Whether most of an image is inside of the window, clear of the headers. */
  function isOnScreen(place) {
    const size = view.size();
    const { top, left } = boxOf(place);
    const y = top + size.slotH / 2 - scroller.scrollTop;
    const x = left + size.slotW / 2 - scroller.scrollLeft;
    return y > size.headH && y < scroller.clientHeight && x > size.headW && x < scroller.clientWidth;
  }

  /** Scroll an image into view, clear of the headers. */
  function scrollTo(place) {
    const size = view.size();
    const { top, left } = boxOf(place);
    const isAlone = view.layout().numSlots === 1;
    const height = isAlone ? size.cellH : size.slotH + 2 * CELL_PAD;
    const width = isAlone ? size.cellW : size.slotW + 2 * CELL_PAD;
    const y = top - CELL_PAD - size.headH;
    const x = left - CELL_PAD - size.headW;
    if (y < scroller.scrollTop) scroller.scrollTop = y;
    else if (y + height > scroller.scrollTop + scroller.clientHeight - size.headH) scroller.scrollTop = y + height - scroller.clientHeight + size.headH;
    if (x < scroller.scrollLeft) scroller.scrollLeft = x;
    else if (x + width > scroller.scrollLeft + scroller.clientWidth - size.headW) scroller.scrollLeft = x + width - scroller.clientWidth + size.headW;
  }

  /** The stack at a place, the best first; none where the place is empty. */
  function stackAt({ row, col, slot }) {
    const layout = view.layout();
    const stacks = layout.rows.length && layout.cols.length ? view.slotsAt(row, col) : null;
    return (stacks && stacks[slot]) || [];
  }

  /** The first place whose image is on screen. */
  function firstOnScreen() {
    const layout = view.layout();
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
    const layout = view.layout();
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
      if (view.slotsAt(row, col)) return { row, col, slot: place.slot };
    }
  }

  /** Where a row of data stands now; null when it is filtered away. */
  function placeOf(data) {
    const layout = view.layout();
    const isShuffled = app.state.blind;
    for (let row = 0; row < layout.rows.length; row += 1) {
      if (!isShuffled && !lineHolds(layout.rows[row], data)) continue;
      for (let col = 0; col < layout.cols.length; col += 1) {
        const line = layout.captionAt(row, col) || layout.cols[col];
        if (!isShuffled && !lineHolds(line, data)) continue;
        const stacks = view.slotsAt(row, col);
        const slot = stacks ? stacks.findIndex((stack) => stack.includes(data)) : -1;
        if (slot >= 0) return { row, col, slot };
      }
    }
    return null;
  }

  /** All shown rows of data as one reads them: line by line, a cell's candidates together. */
  function readingOrder() {
    const layout = view.layout();
    const rows = [];
    for (let row = 0; row < layout.rows.length; row += 1) {
      for (let col = 0; col < layout.cols.length; col += 1) rows.push(...view.membersAt(row, col));
    }
    return rows;
  }

  return { clampPlace, isOnScreen, scrollTo, stackAt, firstOnScreen, neighbour, placeOf, readingOrder };
}
