// Equal images: which rows have the very pixels of an earlier one, and which nearly repeat another
// candidate of their cell. Takes a sheet, answers for rows.

export function makeEquals(sheet) {
  let numRows = -1;
  let firstBySha = new Map();
  let twins = new Map();

  function look() {
    if (numRows === sheet.numRows) return;
    numRows = sheet.numRows;
    firstBySha = new Map();
    twins = new Map();
    for (let row = 0; row < numRows; row += 1) {
      const sha = sheet.image.sha[sheet.imageOf[row]];
      if (sha && !firstBySha.has(sha)) firstBySha.set(sha, row);
      const twin = sheet.twin[row];
      if (twin !== row) twins.set(twin, (twins.get(twin) || 0) + 1);
    }
  }

  return {
    /** The first row with the same pixels, in another cell or of another seed; -1 for none. */
    firstOf(row) {
      look();
      const first = firstBySha.get(sheet.image.sha[sheet.imageOf[row]]);
      return first === undefined || sheet.imageOf[first] === sheet.imageOf[row] ? -1 : first;
    },
    /** How many candidates nearly equal this one. */
    numTwins(row) {
      look();
      return twins.get(row) || 0;
    },
    hasTwins() {
      look();
      return twins.size > 0;
    },
  };
}
