// The cursor: the one image, or the one line, that a key judges; its ring is always visible. It
// follows the pointer, is read again after scrolling, and stays with its image when the layout
// changes. When it is off screen, a key brings it into view and does nothing else.

import { idOf } from "./data.js";
import { byId } from "./dom.js";

export function makeCursor(app) {
  const { grid, sheet } = app;
  const scroller = byId("scroller");
  const plane = byId("plane");
  let at = null; // {row, place} of an image, or {side, index} of a line; null on a fresh page
  let pointer = null; // where the mouse is: {x, y}, null when it is elsewhere
  let isParked = true; // the mouse rests since something else moved the cursor

  // ---------------------------------------------------------------- what it is on

  function setImage(place, { isRevealed = false } = {}) {
    const stack = grid.stackAt(place);
    if (!stack.length) return;
    at = { row: stack[0], place };
    if (isRevealed) grid.reveal(place);
    show();
  }

  /** Go to a row of data, wherever it stands; a closed stack shows its first image. */
  function setRow(row, { isRevealed = true } = {}) {
    const place = grid.placeOf(row);
    if (!place) return;
    isParked = true;
    setImage(place, { isRevealed });
  }

  /** After a new layout: stay with the image, or with its place if it is filtered away. */
  function follow() {
    isParked = true;
    if (at && at.side) at = null;
    if (at) {
      const place = grid.placeOf(at.row) || grid.clampPlace(at.place);
      const stack = grid.stackAt(place);
      at = stack.length ? { row: stack[0], place } : null;
    }
    show();
  }

  /** Another image is on top of its stack: the ring stays at its place, where the person looks. */
  function settle() {
    if (!at?.place) return;
    const [top] = grid.stackAt(at.place);
    if (top !== undefined) at.row = top;
    show();
  }

  /** Do what may move lines: the ring stays on its image, or on its line. */
  function stayWhile(change) {
    const spot = () => [at?.side, at?.index, at?.place?.row, at?.place?.col, at?.place?.slot].join();
    const before = spot();
    const [ofLine] = at?.side ? app.heads.rowsOf(at.side, at.index) : [];
    const wasParked = isParked;
    isParked = true;
    change();
    if (at?.side) {
      const place = ofLine === undefined ? null : grid.placeOf(ofLine);
      at = place && { side: at.side, index: at.side === "rows" ? place.row : place.col };
    } else if (at) {
      const place = grid.placeOf(at.row) || grid.clampPlace(at.place);
      const [top] = grid.stackAt(place);
      at = top === undefined ? null : { row: top, place };
    }
    isParked = wasParked || spot() !== before; // moved, it is not what is under the mouse
    show();
  }

  /** Tell whether an image is in the cell of the ring's image. */
  function isBeside(id) {
    const place = at?.place && grid.placeOf(sheet.rowOfImage[sheet.imageById.get(id)]);
    return Boolean(place) && place.row === at.place.row && place.col === at.place.col;
  }

  /** Take what is under the mouse, if the mouse is what moved last. */
  function readPointer() {
    if (!pointer || isParked) return;
    const node = document.elementFromPoint(pointer.x, pointer.y);
    const slot = node?.closest?.(".slot");
    const head = node?.closest?.(".row-head, .col-head");
    if (slot?.place && plane.contains(slot)) setImage(slot.place);
    else if (head?.head && grid.layout()[head.head.side][head.head.index]?.axes.length) {
      at = { ...head.head };
      show();
    }
  }

  // ---------------------------------------------------------------- the ring

  /** Draw the ring on some slots, by where they are. */
  function mark(slots) {
    for (const { node } of slots) node.classList.toggle("is-cursor", isMarked(node.place));
  }

  function isMarked(place) {
    if (!at || !place) return false;
    if (at.side) return place[at.side === "rows" ? "row" : "col"] === at.index;
    const { row, col, slot } = at.place;
    return place.row === row && place.col === col && place.slot === slot;
  }

  function show() {
    mark(grid.liveSlots());
    for (const node of plane.querySelectorAll(".row-head, .col-head")) {
      node.classList.toggle("is-cursor", Boolean(at?.side && node.head?.side === at.side && node.head.index === at.index));
    }
    const id = at?.place ? `at-${at.place.row}-${at.place.col}-${at.place.slot}` : "";
    if (id) plane.setAttribute("aria-activedescendant", id);
    else plane.removeAttribute("aria-activedescendant");
    app.hoverBar?.attach(at?.place && !isParked ? byId(id) : null);
  }

  // ---------------------------------------------------------------- what a key acts on

  /** Bring up to date what scrolling or rendering has left behind. */
  function sync() {
    grid.render();
    readPointer();
  }

  /** Put the cursor where a person can see it; false if it was there already. */
  function bringIntoView() {
    sync();
    if (at?.side) return false;
    if (at && grid.isOnScreen(at.place)) return false;
    if (at) grid.reveal(at.place);
    else {
      const first = grid.firstOnScreen();
      if (first) setImage(first);
    }
    isParked = true;
    show();
    return true;
  }

  /** The rows of data that a key judges; null when the key only showed which. */
  function take() {
    if (bringIntoView()) return null;
    if (at.side) return app.heads.rowsOf(at.side, at.index);
    const row = app.pageFlip.rowShownFor(at.row);
    return app.selection.groupOf(row);
  }

  /** The row and the place of the image; null on a line, or when the key only showed it. */
  function image() {
    if (bringIntoView() || at.side) return null;
    return { row: at.row, place: at.place };
  }

  // ---------------------------------------------------------------- moving

  /** Move by an arrow key and its like; false for any other key. */
  function move(event) {
    if (!(event.key in STEPS)) return false;
    if (bringIntoView()) return true;
    if (at.side) at = { place: at.side === "rows" ? { row: at.index, col: 0, slot: 0 } : { row: 0, col: at.index, slot: 0 } };
    const layout = grid.layout();
    const target = STEPS[event.key](at.place, layout, event);
    if (!target) return true;
    isParked = true;
    const place = grid.clampPlace(target);
    if (grid.stackAt(place).length) setImage(place, { isRevealed: true });
    return true;
  }

  const step = (place, down, across, slot) => {
    const next = grid.neighbour(place, down, across);
    return next ? { ...next, slot: grid.stackAt({ ...next, slot }).length ? slot : 0 } : null;
  };
  const STEPS = {
    ArrowLeft: (p, { slotColumns: n }) => (p.slot % n > 0 ? { ...p, slot: p.slot - 1 } : step(p, 0, -1, p.slot + n - 1)),
    ArrowRight: (p, { slotColumns: n }) =>
      p.slot % n < n - 1 && grid.stackAt({ ...p, slot: p.slot + 1 }).length ? { ...p, slot: p.slot + 1 } : step(p, 0, 1, p.slot - (p.slot % n)),
    ArrowUp: (p, { slotColumns: n }) => (p.slot >= n ? { ...p, slot: p.slot - n } : step(p, -1, 0, p.slot)),
    ArrowDown: (p, { slotColumns: n, numSlots }) =>
      p.slot + n < numSlots && grid.stackAt({ ...p, slot: p.slot + n }).length ? { ...p, slot: p.slot + n } : step(p, 1, 0, p.slot % n),
    PageUp: (p) => ({ ...p, row: p.row - grid.numLinesOnScreen() }),
    PageDown: (p) => ({ ...p, row: p.row + grid.numLinesOnScreen() }),
    Home: (p, layout, event) => ({ row: event.ctrlKey ? 0 : p.row, col: 0, slot: 0 }),
    End: (p, layout, event) => ({ row: event.ctrlKey ? layout.rows.length - 1 : p.row, col: layout.cols.length - 1, slot: 0 }),
  };

  // ---------------------------------------------------------------- the mouse

  scroller.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    const isStill = pointer && pointer.x === event.clientX && pointer.y === event.clientY;
    pointer = { x: event.clientX, y: event.clientY };
    if (isStill) return; // the page moved under it
    isParked = false;
    readPointer();
    takeFocus();
  });
  scroller.addEventListener("pointerleave", () => (pointer = null));
  scroller.addEventListener("wheel", () => (isParked = false), { passive: true });

  /** Keys belong to the images again once the mouse is on them, unless a text is being typed. */
  function takeFocus() {
    const active = document.activeElement;
    const isTyping = active?.matches("textarea, input[type=text], input[type=search]");
    if (active && active !== plane && !isTyping && !active.closest("dialog, .menu")) grid.focus();
  }

  return {
    setImage,
    setRow,
    follow,
    settle,
    stayWhile,
    isBeside,
    mark,
    take,
    image,
    move,
    onScroll: readPointer,
    row: () => (at && !at.side ? at.row : -1),
    id: () => (at && !at.side ? idOf(sheet, at.row) : ""),
  };
}
