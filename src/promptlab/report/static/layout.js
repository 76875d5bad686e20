// The layout: which rows of data stand in which cell, for the axes, filters and order chosen.
// Takes sheet, picks and state, returns plain arrays; touches no element.

const MAX_SPREAD = 400; // candidates shown at once in one open cell; the large view has them all
const WALL_SLOT_PX = 132; // at this size the candidates of a few open cells fill the width

function computeLayout(sheet, picks, state, widthPx) {
  const visible = visibleRows(sheet, picks, state);
  const rows = lineUp(sheet, state, state.rows, visible);
  const cols = lineUp(sheet, state, state.cols, visible);
  const inner = lineUp(sheet, state, state.inner, visible);
  const byCell = new Map();
  const stats = { rows: makeStats(sheet, rows.length), cols: makeStats(sheet, cols.length) };
  for (let i = 0; i < visible.length; i += 1) {
    const key = rows.indexOf[i] * cols.length + cols.indexOf[i];
    let cell = byCell.get(key);
    if (!cell) byCell.set(key, (cell = []));
    cell.push(i);
    stats.rows.add(rows.indexOf[i], visible[i], picks);
    stats.cols.add(cols.indexOf[i], visible[i], picks);
  }
  const rowOrder = sortLines(rows, stats.rows, state.sortRows);
  const colOrder = sortLines(cols, stats.cols, state.sortCols);
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
  return {
    rows: rowOrder.order.map((i) => ({ ...rows.lines[i], stats: stats.rows.of(i) })),
    cols: colOrder.order.map((i) => ({ ...cols.lines[i], stats: stats.cols.of(i) })),
    inner: inner.lines,
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
  };
}

/** How many images stand side by side in a cell, given the width it may have. */
function slotColumns({ inner, spread }, widthPx) {
  if (spread === 1) return inner <= 4 ? inner : Math.ceil(Math.sqrt(inner));
  if (inner > 1) return spread; // an inner value a line
  return Math.min(spread, Math.max(Math.ceil(Math.sqrt(spread)), Math.floor(widthPx / WALL_SLOT_PX)));
}

function visibleRows(sheet, picks, state) {
  const hiding = sheet.axes
    .map((axis) => [axis.codes, state.hidden[axis.name]])
    .filter(([, hidden]) => hidden && hidden.size);
  const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
  const found = words.length ? findPrompts(sheet, words) : null;
  const isShown = viewTest(sheet, picks, state.view);
  const visible = [];
  for (let row = 0; row < sheet.numRows; row += 1) {
    if (found && !found.has(sheet.texts.prompt.codes[row]) && !isFoundById(sheet, row, words)) continue;
    if (hiding.some(([codes, hidden]) => hidden.has(codes[row]))) continue;
    if (isShown && !isShown(row)) continue;
    visible.push(row);
  }
  return visible;
}

function findPrompts(sheet, words) {
  const found = new Set();
  sheet.texts.prompt.values.forEach((prompt, code) => {
    const text = prompt.toLowerCase();
    if (words.every((word) => text.includes(word))) found.add(code);
  });
  return found;
}

const isFoundById = (sheet, row, words) => words.length === 1 && idOf(sheet, row).startsWith(words[0]);

function viewTest(sheet, picks, view) {
  switch (view) {
    case "picks":
      return (row) => isPicked(picks.ofRow(row));
    case "favourites":
      return (row) => Boolean(picks.ofRow(row)?.is_favourite);
    case "unjudged":
      return (row) => !isJudged(picks.ofRow(row));
    case "rejects":
      return (row) => Boolean(picks.ofRow(row)?.is_reject);
    case "failures":
      return (row) => sheet.status[row] !== OK;
    case "differences":
      return sheet.marks ? (row) => sheet.marks[row] > SAME : null;
    default:
      return null;
  }
}

/** Code -> place in the order the person chose; codes not named follow in the sweep's order. */
function ranks(axis, order) {
  const rank = new Int32Array(axis.values.length).fill(-1);
  let next = 0;
  for (const code of order || []) rank[code] = next++;
  for (let code = 0; code < rank.length; code += 1) if (rank[code] < 0) rank[code] = next++;
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
      lineByKey.set(key, { key, codes: axes.map((axis) => axis.codes[visible[i]]), axes });
    }
  }
  const lines = [...lineByKey.values()].sort((a, b) => a.key - b.key);
  lines.forEach((line, index) => (line.index = index));
  const indexOf = Int32Array.from(keys, (key) => lineByKey.get(key).index);
  return { lines, indexOf, length: Math.max(1, lines.length) };
}

const lineLabel = (line) => line.axes.map((axis, i) => axis.values[line.codes[i]]);

function sortLines(lines, stats, by) {
  const order = lines.lines.map((_, i) => i);
  if (by === "name") {
    const label = (i) => lineLabel(lines.lines[i]).join(" ");
    const collator = new Intl.Collator(undefined, { numeric: true });
    order.sort((a, b) => collator.compare(label(a), label(b)));
  } else if (by) {
    const value = order.map((i) => metricValue(stats.of(i), by) ?? -Infinity);
    const sign = by === "seconds" || by === "failed" ? 1 : -1; // the best first
    order.sort((a, b) => sign * (value[a] - value[b]) || a - b);
  }
  const rank = new Int32Array(lines.length);
  order.forEach((line, place) => (rank[line] = place));
  return { order, rank };
}

/** Put the best candidate of a stack first: what a person liked, then scores, then the order. */
function orderStack(sheet, picks, state, stack) {
  if (stack.length < 2) return;
  const score = sheet.scores.length && !state.blind ? sheet.scores[0].values : null;
  const liked = new Map(stack.map((row) => [row, state.blind ? 0 : liking(picks.ofRow(row))]));
  const rank = state.inner.concat(["seed"]).map((name) => sheet.axisByName.get(name).codes);
  stack.sort(
    (a, b) =>
      liked.get(b) - liked.get(a) ||
      hasPixels(sheet, b) - hasPixels(sheet, a) ||
      (score ? (score[sheet.imageOf[b]] ?? -Infinity) - (score[sheet.imageOf[a]] ?? -Infinity) || 0 : 0) ||
      rank[rank.length - 1][a] - rank[rank.length - 1][b] ||
      a - b,
  );
}
