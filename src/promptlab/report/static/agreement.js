// Agreement: whether people who judged the same images pick the same ones. Takes each person's
// verdicts, returns shares; touches no element.

import { isJudged, isPick } from "./picks.js";

/**
 * The share of pairs of people who say the same of one image: a pick, or none; null where fewer than
 * two judged it.
 */
export function agreementOn(said, minRating) {
  const judged = said.filter(isJudged);
  const pairs = (count) => (count * (count - 1)) / 2;
  if (judged.length < 2) return null;
  const numPicks = judged.filter((pick) => isPick(pick, minRating)).length;
  return (pairs(numPicks) + pairs(judged.length - numPicks)) / pairs(judged.length);
}

/** Who judged how many images of a sheet, and on how many of them they agree. */
export function agreementOfSheet(sheet, picks) {
  const numBy = new Map();
  let sum = 0;
  let numShared = 0;
  for (const id of sheet.imageById.keys()) {
    const said = picks.saidOf(id);
    for (const pick of said) if (isJudged(pick)) numBy.set(pick.who, (numBy.get(pick.who) || 0) + 1);
    const share = agreementOn(said, sheet.pick_rating);
    if (share === null) continue;
    sum += share;
    numShared += 1;
  }
  return { people: [...numBy].sort(([a], [b]) => (a < b ? -1 : 1)), share: numShared ? sum / numShared : null, numShared };
}
