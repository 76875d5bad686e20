// Comparing runs: how each row of one run relates to its partner in another. Takes a sheet, returns
// one mark a row; only what is the exception is marked on pictures.

export const SAME = 1;
export const DIFFERS = 2;
export const ALONE = 3;
export const MARK_TEXT = { [SAME]: "same pixels in both runs", [DIFFERS]: "differs between the runs", [ALONE]: "in one run only" };

/**
 * Compare the runs of a sheet: each row is the same as, differs from, or lacks its partner.
 *
 * Partners agree on all axes but `run` and those that a run holds constant and another does not
 * share: comparing two temperatures in two runs, the temperature is the difference.
 */
export function markDifferences(sheet) {
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

/** The mark that stands for news: same or different, whichever is rarer; a lone row always is. */
export function rareMark(sheet) {
  let numSame = 0;
  let numDiffering = 0;
  for (const mark of sheet.marks || []) {
    if (mark === SAME) numSame += 1;
    if (mark === DIFFERS) numDiffering += 1;
  }
  if (!numSame || !numDiffering) return 0; // all alike: a mark on every picture is noise
  return numDiffering <= numSame ? DIFFERS : SAME;
}
