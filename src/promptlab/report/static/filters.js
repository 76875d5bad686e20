// Filters: which rows of data are shown, and how many each chip would show. Takes sheet, picks and
// state, returns rows; touches no element.

import { FAILED, FLAGGED, PENDING, idOf, textOf } from "./data.js";
import { SAME } from "./marks.js";
import { isJudged, isPick } from "./picks.js";

/** The views: [name, label, title, test of a row]; a test of null shows every row. */
export function viewsOf(sheet, picks, minRating) {
  const views = [
    ["all", "All", "Every image", null],
    ["unjudged", "Unjudged", "Images without a verdict", (row) => sheet.status[row] < FAILED && !isJudged(picks.ofRow(row))],
    ["picks", "Picks", `Favourites, and images with ${minRating} stars or more (P)`, (row) => isPick(picks.ofRow(row), minRating)],
    ["stars", `★≥${minRating}`, `Images with ${minRating} stars or more`, (row) => (picks.ofRow(row)?.rating || 0) >= minRating],
    ["favourites", "♥", "Favourites", (row) => Boolean(picks.ofRow(row)?.is_favourite)],
    ["rejects", "✕", "Rejects", (row) => Boolean(picks.ofRow(row)?.is_reject)],
    ["failures", "Failed", "Images that could not be drawn", (row) => sheet.status[row] === FAILED],
    ["flagged", "Flagged", "Images that were drawn with a warning", (row) => sheet.status[row] === FLAGGED],
    ["unknown", "Unknown words", "Images whose prompt has words that the model did not see", (row) => textOf(sheet, row, "unseen") !== ""],
    ["pending", "To draw", "Planned images that are not drawn yet", (row) => sheet.status[row] === PENDING],
  ];
  if (sheet.marks) views.push(["differences", "Differ", "Images that differ between the runs", (row) => sheet.marks[row] > SAME]);
  return views.map(([name, label, title, test]) => ({ name, label, title, test }));
}

/** The rows that the values, the tabs and the words leave, before any view. */
export function candidateRows(sheet, state) {
  const hiding = sheet.axes
    .map((axis) => [axis.codes, state.hidden[axis.name]])
    .filter(([, hidden]) => hidden && hidden.size);
  const tabs = state.tabs.map((name) => [sheet.axisByName.get(name).codes, tabCode(sheet, state, name)]);
  const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
  const found = words.length ? findPrompts(sheet, words) : null;
  const rows = [];
  for (let row = 0; row < sheet.numRows; row += 1) {
    if (found && !found.has(sheet.texts.prompt.codes[row]) && !isFoundById(sheet, row, words)) continue;
    if (hiding.some(([codes, hidden]) => hidden.has(codes[row]))) continue;
    if (tabs.some(([codes, code]) => codes[row] !== code)) continue;
    if (state.fold && sheet.twin[row] !== row) continue;
    rows.push(row);
  }
  return rows;
}

/** Which value of an axis of tabs is shown: the one chosen, else the model's default, else the first. */
export function tabCode(sheet, state, name) {
  const axis = sheet.axisByName.get(name);
  if (state.tab[name] !== undefined) return state.tab[name];
  return axis.default >= 0 ? axis.default : axis.order[0];
}

/** The rows of one view, and those that are kept in it. */
export function visibleRows(sheet, picks, state, isKept = () => false) {
  const rows = candidateRows(sheet, state);
  const view = viewsOf(sheet, picks, sheet.pick_rating).find(({ name }) => name === state.view);
  return view && view.test ? rows.filter((row) => view.test(row) || isKept(row)) : rows;
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
