// The sheet's data: columns of rows, axes as codes into their values. Plain arrays and queries;
// knows nothing of the page.

const OK = 0;
const FAILED = 2;

function makeSheet(source) {
  const axes = source.axes.map((axis) => ({
    name: axis.name,
    values: axis.values,
    codes: Int32Array.from(axis.codes),
    isNumeric: axis.is_numeric,
    keys: axis.values.map(shortHash),
  }));
  const row = source.row;
  const image = source.image;
  const texts = {};
  for (const [name, column] of Object.entries(row.texts)) {
    texts[name] = { values: column.values, codes: Int32Array.from(column.codes) };
  }
  const sheet = {
    ...source,
    axes,
    axisByName: new Map(axes.map((axis) => [axis.name, axis])),
    numRows: row.status.length,
    numImages: image.id.length,
    imageOf: Int32Array.from(row.image),
    status: Int8Array.from(row.status),
    runOf: Int32Array.from(row.run),
    texts,
    numbers: row.numbers,
    parents: row.parents,
    rowOfImage: new Int32Array(image.id.length).fill(-1),
    imageById: new Map(),
    marks: null,
  };
  for (let i = sheet.numRows - 1; i >= 0; i -= 1) sheet.rowOfImage[sheet.imageOf[i]] = i;
  for (let i = image.id.length - 1; i >= 0; i -= 1) sheet.imageById.set(image.id[i], i);
  sheet.aspect = typicalAspect(image);
  sheet.marks = markDifferences(sheet);
  return sheet;
}

const varyingAxes = (sheet) => sheet.axes.filter((axis) => axis.values.length > 1);

const textOf = (sheet, row, name) => sheet.texts[name].values[sheet.texts[name].codes[row]];

const valueOf = (sheet, row, axisName) => {
  const axis = sheet.axisByName.get(axisName);
  return axis.values[axis.codes[row]];
};

const idOf = (sheet, row) => sheet.image.id[sheet.imageOf[row]];

const hasPixels = (sheet, row) =>
  sheet.status[row] !== FAILED && sheet.image.width[sheet.imageOf[row]] > 0;

/** What one row is, by the axes that vary: "a fox · openmoji · seed 3". */
function describeRow(sheet, row, axes = varyingAxes(sheet)) {
  const named = axes.length ? axes : [sheet.axisByName.get("subject"), sheet.axisByName.get("seed")];
  return named
    .map((axis) => (axis.isNumeric ? `${axis.name} ` : "") + short(axis.values[axis.codes[row]], 80))
    .join(" · ");
}

/** Width over height of most images; cells are cut to it. */
function typicalAspect(image) {
  const seen = new Map();
  for (let i = 0; i < image.width.length; i += 1) {
    if (!image.width[i]) continue;
    const aspect = Math.round((image.width[i] / image.height[i]) * 100) / 100;
    seen.set(aspect, (seen.get(aspect) || 0) + 1);
  }
  const [most] = [...seen].sort((a, b) => b[1] - a[1]);
  return most ? Math.min(4, Math.max(0.25, most[0])) : 1;
}

const SAME = 1;
const DIFFERS = 2;
const ALONE = 3;
const MARK_TEXT = { [SAME]: "same pixels in both runs", [DIFFERS]: "differs between the runs", [ALONE]: "in one run only" };

/**
 * Compare the runs of a sheet: each row is the same as, differs from, or lacks its partner.
 *
 * Partners agree on all axes but `run` and those that a run holds constant and another does not
 * share: comparing two temperatures in two runs, the temperature is the difference.
 */
function markDifferences(sheet) {
  const run = sheet.axisByName.get("run");
  if (!run) return null;
  const shared = sheet.axes.filter((axis) => axis !== run && !isConfounded(sheet, axis, run));
  const groups = new Map();
  for (let row = 0; row < sheet.numRows; row += 1) {
    const key = shared.map((axis) => axis.codes[row]).join(",");
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  const marks = new Int8Array(sheet.numRows);
  for (const rows of groups.values()) {
    const runs = new Set(rows.map((row) => run.codes[row]));
    const pixels = new Set(rows.map((row) => sheet.image.sha[sheet.imageOf[row]]));
    const mark = runs.size < 2 ? ALONE : pixels.size === 1 && !pixels.has(null) ? SAME : DIFFERS;
    for (const row of rows) marks[row] = mark;
  }
  return marks;
}

/** Whether an axis only says again which run it is: one value in each, not the same in all. */
function isConfounded(sheet, axis, run) {
  const codeOfRun = new Map();
  for (let row = 0; row < sheet.numRows; row += 1) {
    const known = codeOfRun.get(run.codes[row]);
    if (known === undefined) codeOfRun.set(run.codes[row], axis.codes[row]);
    else if (known !== axis.codes[row]) return false;
  }
  return new Set(codeOfRun.values()).size > 1;
}

/** The row that is like this one but for one axis; -1 if there is none. */
function counterpart(sheet, row, axisName, code) {
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
