// Blind mode: the cells of each line are shuffled, the same way on every visit, and headers across
// the lines are hidden, so that nobody can tell which style or subject an image has.

import { shortHash } from "./text.js";

export function makeBlind(app) {
  const shuffles = new Map();

  /** Whether columns are hidden, rather than rows: what is judged is never the subject. */
  const isByColumns = () => app.state.rows.includes("subject") || !app.state.cols.includes("subject");

  function shuffled(count, key) {
    const name = `${count}:${key}`;
    if (!shuffles.has(name)) {
      const order = Array.from({ length: count }, (_, i) => i);
      let random = Number.parseInt(shortHash(name + app.sheet.sheet_id), 36) || 1;
      for (let i = count - 1; i > 0; i -= 1) {
        random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
        const j = Math.floor((random / 2 ** 32) * (i + 1));
        [order[i], order[j]] = [order[j], order[i]];
      }
      if (shuffles.size > 2000) shuffles.clear();
      shuffles.set(name, order);
    }
    return shuffles.get(name);
  }

  /** Where in the layout the cell at a place comes from. */
  function source(layout, row, col) {
    if (!app.state.blind || layout.isWall) return { row, col };
    if (isByColumns()) return { row, col: shuffled(layout.cols.length, layout.rows[row].key)[col] };
    return { row: shuffled(layout.rows.length, layout.cols[col].key)[row], col };
  }

  function slotsAt(layout, row, col) {
    const from = source(layout, row, col);
    const slots = layout.slotsAt(from.row, from.col);
    if (!slots || !app.state.blind || slots.length < 2) return slots;
    return shuffled(slots.length, `${layout.rows[from.row].key},${layout.cols[from.col].key}`).map((i) => slots[i]);
  }

  function membersAt(layout, row, col) {
    const from = source(layout, row, col);
    return layout.membersAt(from.row, from.col);
  }

  /** Whether a side's labels are hidden. */
  const isSideHidden = (side) => app.state.blind && isByColumns() === (side === "cols");

  /** Whether an image's labels are hidden: in blind mode, until it is judged. */
  const isHidden = (id) => app.state.blind && !app.picks.isRevealed(id);

  return { slotsAt, membersAt, isSideHidden, isHidden };
}
