// The layout: which rows of data stand in which cell, for the axes, filters and order chosen.
// Takes sheet, picks and state, returns plain arrays; touches no element.

import { hasPixels, idOf, sortingScore } from "./data.js";
import { visibleRows } from "./filters.js";
import { isLowBetter, makeStats, metricValue } from "./margins.js";
import { liking } from "./picks.js";

const MAX_SPREAD = 400; // candidates shown at once in one open cell; the large view has them all
const MOST_OF_A_WALL = 0.5; // of the cells: a filtered grid with more filled ones stays a grid
const WALL_SLOT_PX = 132; // at this size the candidates of a few open cells fill the width

/** The layout for the state; a view that leaves most cells empty is a wall, unless the person says otherwise. */
export function computeLayout(sheet, picks, state, widthPx, isKept) {
  const visible = visibleRows(sheet, picks, state, isKept);
  const make = (places) => layOut(sheet, picks, state, visible, places, widthPx);
  const layout = make(state.wall ? unrolledPlaces(sheet, state) : state);
  const isFiltered = state.view !== "all" || state.find !== "";
  const isSparse = layout.numCells <= MOST_OF_A_WALL * layout.rows.length * layout.cols.length;
  const isUnrolled = state.wall ?? (isFiltered && isSparse && !layout.isWall);
  return Object.assign(isUnrolled && !state.wall ? make(unrolledPlaces(sheet, state)) : layout, { isUnrolled });
}

function layOut(sheet, picks, state, visible, places, widthPx) {
  const rows = lineUp(sheet, state, places.rows, visible);
  const cols = lineUp(sheet, state, places.cols, visible);
  const inner = lineUp(sheet, state, places.inner, visible);
  const byCell = new Map();
  for (let i = 0; i < visible.length; i += 1) {
    const key = rows.indexOf[i] * cols.length + cols.indexOf[i];
    let cell = byCell.get(key);
    if (!cell) byCell.set(key, (cell = []));
    cell.push(i);
  }
  let stats = countLines();
  const rowOrder = sortLines(sheet, rows, stats.rows, state.sortRows, visible);
  const colOrder = sortLines(sheet, cols, stats.cols, state.sortCols, visible);

  function countLines() {
    const counted = { rows: makeStats(sheet, rows.length), cols: makeStats(sheet, cols.length) };
    for (let i = 0; i < visible.length; i += 1) {
      counted.rows.add(rows.indexOf[i], visible[i], picks);
      counted.cols.add(cols.indexOf[i], visible[i], picks);
    }
    return counted;
  }

  const cells = new Map();
  let maxStack = 1;
  for (const [key, members] of byCell) {
    const stacks = new Map();
    for (const i of members) {
      const at = inner.indexOf[i];
      if (!stacks.has(at)) stacks.set(at, []);
      stacks.get(at).push(visible[i]);
    }
    const row = rowOrder.rank[Math.floor(key / cols.length)];
    const col = colOrder.rank[key % cols.length];
    for (const stack of stacks.values()) {
      if (stack.length > maxStack) maxStack = stack.length;
      orderStack(sheet, picks, state, stack);
    }
    cells.set(row * cols.length + col, stacks);
  }
  const slots = { inner: Math.max(1, inner.length), spread: state.open ? Math.min(maxStack, MAX_SPREAD) : 1 };
  const layout = {
    rows: rowOrder.order.map((i) => ({ ...rows.lines[i], stats: stats.rows.of(i) })),
    cols: colOrder.order.map((i) => ({ ...cols.lines[i], stats: stats.cols.of(i) })),
    inner: inner.lines,
    isWall: false,
    isUnrolled: false, // rows and columns as one wall
    numCells: cells.size,
    numSlots: slots.inner * slots.spread,
    slotColumns: slotColumns(slots, widthPx / cols.length),
    maxStack,
    numShown: visible.length,
    /** The stacks of one cell by slot: each slot holds rows of data, the best first. */
    slotsAt(row, col) {
      const stacks = cells.get(row * cols.length + col);
      if (!stacks) return null;
      const filled = [];
      for (let i = 0; i < slots.inner; i += 1) {
        const stack = stacks.get(i) || [];
        if (!state.open) filled.push(stack);
        else for (let j = 0; j < slots.spread; j += 1) filled.push(j < stack.length ? [stack[j]] : []);
      }
      return filled;
    },
    /** All rows of data in one cell, the best first within each inner value. */
    membersAt(row, col) {
      const stacks = cells.get(row * cols.length + col);
      return stacks ? [...stacks.keys()].sort((a, b) => a - b).flatMap((i) => stacks.get(i)) : [];
    },
    /** Sum the numbers of all lines again; no line moves. */
    recount() {
      stats = countLines();
      layout.rows.forEach((line, place) => (line.stats = stats.rows.of(rowOrder.order[place])));
      layout.cols.forEach((line, place) => (line.stats = stats.cols.of(colOrder.order[place])));
    },
    /** Order stacks again by verdicts given since: those that hold one of these images, or all (null). */
    settle(ids) {
      for (const stacks of cells.values()) {
        for (const stack of stacks.values()) {
          if (!ids || stack.some((row) => ids.has(idOf(sheet, row)))) orderStack(sheet, picks, state, stack);
        }
      }
    },
    captionAt: () => null,
  };
  const isWall = places.inner.length === 0 && (places.rows.length === 0 || places.cols.length === 0);
  return isWall ? makeWall(layout, cols.length > 1 ? "cols" : "rows") : layout;
}

/** All axes along one line, each image a cell of its own. */
function unrolledPlaces(sheet, state) {
  const rest = sheet.axes.filter((axis) => axis.values.length > 1 && !state.tabs.includes(axis.name)).map(({ name }) => name);
  return { rows: [...new Set([...state.rows, ...state.cols, ...state.inner, ...rest])], cols: [], inner: [] };
}

/** A sheet of one line of cells, to be wrapped at the width that there is. */
function makeWall(layout, along) {
  const lines = layout[along];
  const cellOf = (index) => (along === "rows" ? [index, 0] : [0, index]);
  const wall = {
    ...layout,
    isWall: true,
    lines,
    numColumns: 1,
    /** Wrap the line into lines of `numColumns` cells. */
    wrap(numColumns) {
      wall.numColumns = Math.max(1, Math.min(numColumns, lines.length));
      wall.rows = anonymous(Math.ceil(lines.length / wall.numColumns));
      wall.cols = anonymous(wall.numColumns);
    },
    slotsAt(row, col) {
      const index = row * wall.numColumns + col;
      return index < lines.length ? layout.slotsAt(...cellOf(index)) : null;
    },
    membersAt(row, col) {
      const index = row * wall.numColumns + col;
      return index < lines.length ? layout.membersAt(...cellOf(index)) : [];
    },
    captionAt: (row, col) => lines[row * wall.numColumns + col] || null,
  };
  wall.wrap(Math.ceil(Math.sqrt(lines.length)));
  return wall;
}

const anonymous = (count) => Array.from({ length: count }, (_, key) => ({ key, codes: [], axes: [], stats: null }));

/** How many images stand side by side in a cell, given the width it may have. */
function slotColumns({ inner, spread }, widthPx) {
  if (spread === 1) return inner <= 4 ? inner : Math.ceil(Math.sqrt(inner));
  if (inner > 1) return spread; // an inner value a line
  return Math.min(spread, Math.max(Math.ceil(Math.sqrt(spread)), Math.floor(widthPx / WALL_SLOT_PX)));
}

/** Code -> place in the order the person chose; codes not named follow in the sheet's order. */
export function ranks(axis, order) {
  const rank = new Int32Array(axis.values.length).fill(-1);
  let next = 0;
  for (const code of order || []) rank[code] = next++;
  for (const code of axis.order) if (rank[code] < 0) rank[code] = next++;
  return rank;
}

/** The distinct combinations of some axes among the visible rows, in order. */
function lineUp(sheet, state, names, visible) {
  const axes = names.map((name) => sheet.axisByName.get(name));
  const ranked = axes.map((axis) => ranks(axis, state.order[axis.name]));
  const lineByKey = new Map();
  const keys = new Array(visible.length);
  for (let i = 0; i < visible.length; i += 1) {
    let key = 0; // a float holds products of axis sizes exactly up to 2**53
    for (let a = 0; a < axes.length; a += 1) {
      key = key * axes[a].values.length + ranked[a][axes[a].codes[visible[i]]];
    }
    keys[i] = key;
    if (!lineByKey.has(key)) {
      lineByKey.set(key, { key, codes: axes.map((axis) => axis.codes[visible[i]]), axes, first: visible[i] });
    }
  }
  const lines = [...lineByKey.values()].sort((a, b) => a.key - b.key);
  lines.forEach((line, index) => (line.index = index));
  const indexOf = Int32Array.from(keys, (key) => lineByKey.get(key).index);
  return { lines, indexOf, length: Math.max(1, lines.length) };
}

export const lineLabel = (line) => line.axes.map((axis, i) => axis.values[line.codes[i]]);

/** Whether a row of data belongs to a line. */
export const lineHolds = (line, data) => line.axes.every((axis, i) => axis.codes[data] === line.codes[i]);

function sortLines(sheet, lines, stats, by) {
  const order = lines.lines.map((_, i) => i);
  if (by === "name") {
    const label = (i) => lineLabel(lines.lines[i]).join(" ");
    const collator = new Intl.Collator(undefined, { numeric: true });
    order.sort((a, b) => collator.compare(label(a), label(b)));
  } else if (by === "look") {
    order.sort((a, b) => sheet.look[lines.lines[a].first] - sheet.look[lines.lines[b].first] || a - b);
  } else if (by) {
    const sign = isLowBetter(sheet, by) ? 1 : -1; // the best first
    const value = order.map((i) => metricValue(stats.of(i), by) ?? sign * Infinity);
    order.sort((a, b) => (value[a] === value[b] ? a - b : sign * (value[a] - value[b])));
  }
  const rank = new Int32Array(lines.length);
  order.forEach((line, place) => (rank[line] = place));
  return { order, rank };
}

/**
 * Put the best candidate of a stack first, by the same rule as the pictures (report/best.py):
 * images before failures, what people like, the chosen score, the model's default values, the order
 * of the sweep. A reject is never on top of one that is not.
 */
export function orderStack(sheet, picks, state, stack) {
  if (stack.length < 2) return;
  if (state.sortRows === "look") {
    const isReject = (row) => (!state.blind && picks.ofRow(row)?.is_reject ? 1 : 0);
    stack.sort((a, b) => isReject(a) - isReject(b) || sheet.look[a] - sheet.look[b]);
    return;
  }
  const score = state.blind ? null : sortingScore(sheet);
  const sign = score && score.isHigherBetter ? -1 : 1;
  const keys = new Map();
  for (const row of stack) {
    const value = score ? score.values[sheet.imageOf[row]] : 0;
    keys.set(row, [
      hasPixels(sheet, row) ? 0 : 1,
      state.blind ? 0 : -liking(picks.ofRow(row)),
      value === null || value === undefined ? Infinity : sign * value,
      sheet.fromDefault[row],
      row,
    ]);
  }
  stack.sort((a, b) => compareKeys(keys.get(a), keys.get(b)));
}

function compareKeys(a, b) {
  for (let i = 0; i < a.length; i += 1) {
    if (a[i] !== b[i]) return a[i] < b[i] ? -1 : 1;
  }
  return 0;
}
