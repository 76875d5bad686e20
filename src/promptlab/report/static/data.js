// The sheet's data: columns of rows and images, axes as codes into their values. Fed by chunks: a
// file is one, a live page gets more; what has a number keeps it. Plain arrays and queries; knows
// nothing of the page.

import { markDifferences } from "./marks.js";
import { commonPrefix, short, shortHash } from "./text.js";

const OK = 0;
export const FLAGGED = 1;
export const FAILED = 2;
export const PENDING = 3;

/** Make a sheet from a page's document, its first chunk included. */
export function makeSheet(source) {
  const axes = source.axes.map((axis) => ({
    name: axis.name,
    isNumeric: axis.is_numeric,
    default: axis.default,
    values: [],
    keys: [], // names of values in the URL
    codes: [], // [row]
    order: [], // codes as they are shown
    prefix: "", // what labels leave out
  }));
  const sheet = {
    ...source,
    axes,
    axisByName: new Map(axes.map((axis) => [axis.name, axis])),
    numRows: 0,
    numImages: 0,
    imageOf: [],
    status: [],
    runOf: [],
    cellOf: [],
    fromDefault: [],
    look: [],
    twin: [],
    texts: {},
    numbers: {},
    parents: {},
    image: { id: [], path: [], run: [], sha: [], tint: [], width: [], height: [], native: [], enlarged: [] },
    scores: source.scores.map((score) => ({
      name: score.name,
      isHigherBetter: score.is_higher_better,
      low: score.low,
      high: score.high,
      values: [], // [image]
    })),
    packs: [], // [first image, count, URL]
    rowOfImage: [],
    imageById: new Map(),
    isAllUnknown: false, // whether the model did not see some word of every prompt
    hasEnlarged: false, // whether some image has an enlarged one in its place
    aspect: 1,
    nativeWidth: 0, // px of most images
    marks: null,
  };
  sheet.add = (chunk) => addChunk(sheet, chunk);
  sheet.add(source.chunk);
  delete sheet.chunk;
  return sheet;
}

const ROW_COLUMNS = { image: "imageOf", status: "status", run: "runOf", cell: "cellOf", from_default: "fromDefault", look: "look", twin: "twin" };

/** Take in values, rows and images; those with a number that is known replace what they were. */
function addChunk(sheet, chunk) {
  for (const [name, values] of Object.entries(chunk.values)) {
    const axis = sheet.axisByName.get(name);
    for (const value of values) {
      axis.values.push(value);
      axis.keys.push(shortHash(value));
    }
  }
  for (const axis of sheet.axes) {
    axis.order = axis.values.map((_, code) => code);
    if (axis.isNumeric) axis.order.sort((a, b) => Number(axis.values[a]) - Number(axis.values[b]) || a - b);
    axis.prefix = commonPrefix(axis.values);
  }
  for (const [name, values] of Object.entries(chunk.texts)) textColumn(sheet, name).values.push(...values);
  const { row, image } = chunk;
  for (const [name, target] of Object.entries(ROW_COLUMNS)) putAt(sheet[target], row.at, row[name]);
  for (const axis of sheet.axes) putAt(axis.codes, row.at, row.codes[axis.name]);
  for (const [name, codes] of Object.entries(row.texts)) putAt(textColumn(sheet, name).codes, row.at, codes);
  for (const [name, values] of Object.entries(row.numbers)) putAt((sheet.numbers[name] ||= []), row.at, values);
  Object.assign(sheet.parents, row.parents);
  for (const name of Object.keys(sheet.image)) putAt(sheet.image[name], image.at, image[name]);
  for (const score of sheet.scores) putAt(score.values, image.at, chunk.scores[score.name] || image.at.map(() => null));
  sheet.packs.push(...chunk.packs);
  sheet.numRows = sheet.status.length;
  sheet.numImages = sheet.image.id.length;
  const drawn = sheet.status.map((_, row) => row).filter((row) => sheet.status[row] < FAILED);
  sheet.isAllUnknown = drawn.length > 0 && drawn.every((row) => textOf(sheet, row, "unseen") !== "");
  sheet.hasEnlarged = sheet.image.enlarged.some((image) => image >= 0);
  sheet.rowOfImage = new Array(sheet.numImages).fill(-1);
  for (let i = sheet.numRows - 1; i >= 0; i -= 1) sheet.rowOfImage[sheet.imageOf[i]] = i;
  sheet.image.enlarged.forEach((image, i) => image >= 0 && (sheet.rowOfImage[image] = sheet.rowOfImage[i]));
  for (let i = sheet.numImages - 1; i >= 0; i -= 1) sheet.imageById.set(sheet.image.id[i], i);
  const aspects = sheet.image.width.map((width, i) => width && Math.round((width / sheet.image.height[i]) * 100) / 100);
  sheet.aspect = Math.min(4, Math.max(0.25, mostCommon(aspects) || 1)); // cells are cut to it
  sheet.nativeWidth = mostCommon(sheet.numbers.width || []) || mostCommon(sheet.image.width) || 160;
  sheet.marks = markDifferences(sheet);
}

const textColumn = (sheet, name) => (sheet.texts[name] ||= { values: [], codes: [] });

function putAt(column, at, values) {
  for (let i = 0; i < at.length; i += 1) column[at[i]] = values[i];
}

export const varyingAxes = (sheet) => sheet.axes.filter((axis) => axis.values.length > 1);

export const textOf = (sheet, row, name) => sheet.texts[name].values[sheet.texts[name].codes[row]];

export const idOf = (sheet, row) => sheet.image.id[sheet.imageOf[row]];

export const hasPixels = (sheet, row) => sheet.status[row] < FAILED && sheet.image.width[sheet.imageOf[row]] > 0;

/** The score that orders candidates; null without one. */
export const sortingScore = (sheet) => sheet.scores.find((score) => score.name === sheet.sort) || null;

/** An axis value with what it needs to be understood: numbers name their axis. */
export function valueText(axis, code) {
  const value = axis.values[code];
  return axis.isNumeric || value === "default" ? `${axis.name} ${value}` : value;
}

/** What one row is, by the axes that vary: "a fox · openmoji · seed 3". */
export function describeRow(sheet, row, axes = varyingAxes(sheet)) {
  const named = axes.length ? axes : [sheet.axisByName.get("subject"), sheet.axisByName.get("seed")];
  return named.map((axis) => short(valueText(axis, axis.codes[row]), 80)).join(" · ");
}

/** The axes on which some rows differ. */
export const differingAxes = (sheet, rows) =>
  sheet.axes.filter((axis) => rows.some((row) => axis.codes[row] !== axis.codes[rows[0]]));

/** The value that occurs most often, zeros and nulls aside; undefined without one. */
function mostCommon(values) {
  const seen = new Map();
  for (const value of values) if (value) seen.set(value, (seen.get(value) || 0) + 1);
  let most;
  for (const [value, count] of seen) if (most === undefined || count > seen.get(most)) most = value;
  return most;
}

/** The row that is like this one but for one axis; -1 if there is none. */
export function counterpart(sheet, row, axisName, code) {
  const axis = sheet.axisByName.get(axisName);
  let best = -1;
  let bestMatch = -1;
  for (let other = 0; other < sheet.numRows; other += 1) {
    if (axis.codes[other] !== code || !hasPixels(sheet, other)) continue;
    let match = 0;
    for (const each of sheet.axes) {
      if (each !== axis && each.codes[other] === each.codes[row]) match += each.name === "subject" ? 3 : 2;
    }
    if (match > bestMatch) {
      best = other;
      bestMatch = match;
    }
  }
  return best;
}
