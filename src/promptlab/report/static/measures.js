// Measures of the grid in px: how large images, cells and headers are for a layout and a window.
// Takes the layout and the width and height that there are; touches no element.

import { lineLabel } from "./layout.js";
import { marginRanges } from "./margins.js";
import { SIZES } from "./state.js";

export const GAP = 3; // between the slots of a cell
export const CELL_PAD = 3; // around a cell
const NARROW_PX = 560; // a phone
const CHAR_PX = 6.7; // of a label, on average
const NARROW_CHAR_PX = 6.2; // of the smaller labels of a phone
const SMALL_CHAR_PX = 5.8; // of the labels of what stands side by side in a cell
const SMALLEST_FITTING = 84; // below, images are too small to look at: scrolling is better
const MAX_ROWS_FITTED = 3; // so few rows are shown at once
const SMALLEST_FITTED_ROW = 200; // unless that makes images smaller than this
const HEAD_PX = 48; // about the height of the columns' headers
const LARGEST_FITTING = 320; // of small images, if more would hide all but two rows; large ones grow to their own size
const MOST_ENLARGED = 3; // times an image's own size, of a few columns in a wide window
const CAPTION_LINE_PX = 15; // of the captions in a wall
const MAX_CAPTION_LINES = 6;
const MAX_ALONE_ENLARGED = 4; // times an image's own size, when it is alone

/** Return every measure of a layout in a window of `width` × `height`; a wall is wrapped to it. */
export function measure(app, layout, width, height) {
  const isNarrow = width < NARROW_PX;
  return layout.isWall
    ? measureWall(app, layout, width, height, isNarrow)
    : measureGrid(app, layout, width, height, isNarrow);
}

function measureWall({ sheet, state }, layout, width, height, isNarrow) {
  const hasCaptions = layout.lines.some((line) => line.axes.length > 0) && !state.blind;
  const captionOf = (slotW) => (hasCaptions ? 4 + CAPTION_LINE_PX * captionLines(layout, slotW) : 0);
  const across = width - 2 * CELL_PAD;
  const perSlot = (cellW) => (cellW - 2 * CELL_PAD + GAP) / layout.slotColumns - GAP;
  const cellOf = (slotW) => layout.slotColumns * (slotW + GAP) - GAP + 2 * CELL_PAD;
  const lines = Math.ceil(layout.numSlots / layout.slotColumns);
  const heightOf = (slotW) => lines * (slotW / sheet.aspect + GAP) - GAP + 2 * CELL_PAD + captionOf(slotW);
  const count = Math.max(1, layout.lines.length);
  const largest = largestOf(sheet, count * layout.numSlots, across, height - captionOf(across) - 12);
  let base = state.size;
  if (!base && isNarrow) base = perSlot(across / (count > 6 ? 3 : count > 1 ? 2 : 1));
  for (let columns = 1; !base && columns <= count; columns += 1) {
    const slotW = Math.min(largest, perSlot(across / columns));
    if (slotW < SMALLEST_FITTING) break;
    if (Math.ceil(count / columns) * heightOf(slotW) <= height - 8) base = slotW;
  }
  if (!base) base = perSlot(across / Math.max(1, Math.floor(across / cellOf(SIZES.initial))));
  const slotW = Math.max(24, Math.floor(Math.min(base, perSlot(across))));
  const cellW = cellOf(slotW);
  layout.wrap(Math.floor(across / cellW));
  return {
    base,
    slotW,
    slotH: Math.round(slotW / sheet.aspect),
    cellW,
    cellH: Math.round(heightOf(slotW)),
    headW: 0,
    headH: 0,
    captionH: captionOf(slotW),
    numColumns: layout.numColumns,
    left: Math.max(0, Math.floor((across - layout.numColumns * cellW) / 2)),
    ranges: { rows: [], cols: [] },
    innerLabels: [],
    isNarrow,
  };
}

function measureGrid({ sheet, picks, state }, layout, width, height, isNarrow) {
  const hasMany = layout.numSlots > 1;
  const barsW = state.margins && !isNarrow ? 98 : 0;
  const words = longestWord(layout.rows);
  const headW = isNarrow ? Math.round(Math.min(108, Math.max(64, 16 + words * NARROW_CHAR_PX))) : Math.round(Math.min(200, Math.max(108, 30 + words * CHAR_PX)) + barsW);
  const limit = isNarrow ? Math.max(72, (width - headW) / 1.6) : SIZES.max;
  const part = partOfSize(layout);
  const base = Math.min(state.size || fittingSize(sheet, layout, width, height, headW, part, isNarrow), limit);
  const slotW = Math.round(hasMany ? Math.max(36, base * part) : base);
  const slotH = Math.round(slotW / sheet.aspect);
  const lines = Math.ceil(layout.numSlots / layout.slotColumns);
  const hasBars = state.margins && !state.blind;
  const chosen = [state.sortRows, state.sortCols, state.heat];
  const ranges = {
    rows: hasBars ? marginRanges(sheet, picks, layout.rows, chosen) : [],
    cols: hasBars ? marginRanges(sheet, picks, layout.cols, chosen) : [],
  };
  const cellW = layout.slotColumns * (slotW + GAP) - GAP + 2 * CELL_PAD;
  const cellH = lines * (slotH + GAP) - GAP + 2 * CELL_PAD;
  const innerLabels = labelsInside(layout, state, slotW);
  const barsH = (bars) => (bars.length ? bars.length * 14 + 8 : 0);
  const perLine = Math.max(4, (cellW - 14) / CHAR_PX);
  const labelLines = layout.cols.reduce((most, line) => Math.max(most, numLines(line, perLine)), 1);
  return {
    base,
    slotW,
    slotH,
    cellW,
    cellH: Math.max(cellH, barsH(ranges.rows) + (ranges.rows.length ? 22 : 0)),
    headW,
    headH: 16 + Math.min(4, labelLines) * 16 + barsH(ranges.cols) + (innerLabels.length ? 15 : 0),
    captionH: 0,
    numColumns: layout.cols.length,
    left: 0,
    ranges,
    innerLabels,
    isNarrow,
  };
}

/** How many lines the captions of a wall need: one or two for one axis, else one for each name. */
function captionLines(layout, slotW) {
  const perLine = Math.max(4, slotW / CHAR_PX);
  const most = layout.lines.reduce((sofar, line) => Math.max(sofar, numLines(line, perLine)), 1);
  const parts = captionParts(layout.lines[0]);
  return parts.length > 1 ? Math.min(MAX_CAPTION_LINES, parts.length) : Math.min(2, most);
}

/** The labels of a wall's caption, by line: names have a line each, numbers share the last. */
export function captionParts(line) {
  const indices = line.axes.map((_, i) => i);
  const names = indices.filter((i) => !line.axes[i].isNumeric).map((i) => [i]);
  const numbers = indices.filter((i) => line.axes[i].isNumeric);
  return numbers.length ? [...names, numbers] : names;
}

/** What stands side by side in every cell, where it is one line; shown below each column's name. */
function labelsInside(layout, state, slotW) {
  const isOneLine = layout.inner.length === layout.numSlots && layout.slotColumns === layout.numSlots;
  if (!isOneLine || layout.numSlots < 2 || state.blind) return [];
  const named = layout.inner.map((line) => shownTexts(line).join(" · "));
  const isRoomy = named.every((text) => text.length * SMALL_CHAR_PX < slotW);
  return isRoomy ? named : layout.inner.map((line) => lineLabel(line).join(" · "));
}

/** Several images of a cell are smaller than one would be, unless there are few cells. */
function partOfSize(layout) {
  if (layout.slotColumns === 1 || layout.cols.length === 1) return 1;
  return layout.slotColumns > 2 ? 0.55 : 0.8;
}

/** The size at which the columns fill the width, and few rows the height, if that is good to look at. */
function fittingSize(sheet, layout, width, height, headW, part, isNarrow) {
  if (isNarrow) return (width - headW) / 2.25;
  const cell = (width - headW - 24) / layout.cols.length - 2 * CELL_PAD;
  const fitting = ((cell + GAP) / layout.slotColumns - GAP) / part;
  if (fitting < SMALLEST_FITTING) return SIZES.initial;
  const lines = Math.ceil(layout.numSlots / layout.slotColumns);
  const isShort = layout.rows.length <= MAX_ROWS_FITTED && lines === 1;
  const rowH = (height - HEAD_PX) / layout.rows.length - 2 * CELL_PAD;
  const allRows = isShort ? Math.max(SMALLEST_FITTED_ROW, (rowH * sheet.aspect) / part) : Infinity;
  const twoRows = ((height - HEAD_PX) / 2 / lines - 2 * CELL_PAD) * sheet.aspect;
  return Math.min(fitting, allRows, Math.max(largestOf(sheet, 2), Math.min(MOST_ENLARGED * sheet.nativeWidth, twoRows / part)));
}

/** How large an image is shown at most: its own size, or somewhat enlarged where it is small. */
function largestOf(sheet, count, width = Infinity, height = Infinity) {
  if (count === 1) return Math.min(width - 2 * CELL_PAD, height * sheet.aspect, MAX_ALONE_ENLARGED * sheet.nativeWidth);
  return Math.max(LARGEST_FITTING, sheet.nativeWidth);
}

const shownTexts = (line) => line.axes.map((axis, i) => `${axis.isNumeric ? `${axis.name} ` : ""}${axis.values[line.codes[i]].slice(axis.prefix.length)}`);

const wordsOf = (text) => text.split(/[\s_/-]+/).filter(Boolean);

const longestWord = (lines) =>
  lines.reduce((most, line) => Math.max(most, ...shownTexts(line).flatMap(wordsOf).map((word) => Math.min(28, word.length))), 4);

/** How many lines a label takes, broken between words. */
function numLines(line, perLine) {
  let count = 1;
  let used = 0;
  for (const word of shownTexts(line).flatMap(wordsOf)) {
    if (used && used + 1 + word.length > perLine) {
      count += 1;
      used = 0;
    }
    used += word.length + 1;
  }
  return count;
}
