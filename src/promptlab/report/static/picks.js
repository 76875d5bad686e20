// Picks: verdicts on images. Those baked into the page come from picks.parquet; those given here
// are kept by `save`, which the page or a server provides, and leave as picks.json. The newer
// verdict wins. Knows no element.

import { idOf } from "./data.js";

/**
 * `kept` are the verdicts given here before; `save(verdicts, changed)` gets all verdicts and those
 * that changed, and returns whether it kept them.
 */
export function makePicks(sheet, { kept = [], save = () => false, who = () => "", now = () => new Date().toISOString() } = {}) {
  const baked = new Map(sheet.picks.map((pick) => [pick.image_id, pick]));
  const here = new Map();
  const undoable = []; // groups of [image_id, what was here before]
  const revealed = new Set(); // in blind mode: judged since, so labels may show
  const listeners = [];
  for (const pick of kept) {
    const bakedPick = baked.get(pick?.image_id);
    if (isVerdict(pick) && !(bakedPick && bakedPick.picked_at >= pick.picked_at)) here.set(pick.image_id, pick);
  }
  let isKept = save([...here.values()], []);

  const empty = (id) => ({ image_id: id, rating: null, is_favourite: false, is_reject: false, note: "" });
  const of = (id) => here.get(id) || baked.get(id) || null;
  const ofRow = (row) => of(idOf(sheet, row));

  /** What a new verdict of this person starts from: the own one, not what others said. */
  function own(id) {
    const said = sheet.said[id];
    if (here.has(id) || !said) return of(id);
    return said.find((pick) => pick.who === who()) || null;
  }

  function changed(ids) {
    isKept = save([...here.values()], ids.map((id) => here.get(id)).filter(Boolean));
    for (const listener of listeners) listener(ids);
  }

  /** Change the verdict on images; `change(now)` returns the fields that change. One undo. */
  function set(ids, change) {
    undoable.push(ids.map((id) => [id, here.get(id)]));
    for (const id of ids) {
      const before = { ...empty(id), ...own(id) };
      here.set(id, { ...before, ...change(before), who: who(), picked_at: now() });
      revealed.add(id);
    }
    changed(ids);
  }

  /** Rate images; a rating that all of them have is taken back. A rated image is no reject. */
  function rate(ids, rating) {
    const isTakenBack = ids.every((id) => own(id)?.rating === rating);
    set(ids, () => (isTakenBack ? { rating: null } : { rating, is_reject: false }));
  }

  function favour(ids) {
    const isTakenBack = ids.every((id) => own(id)?.is_favourite);
    set(ids, () => (isTakenBack ? { is_favourite: false } : { is_favourite: true, is_reject: false }));
  }

  /** Reject images; a reject has no rating and is no favourite. */
  function reject(ids) {
    const isTakenBack = ids.every((id) => own(id)?.is_reject);
    set(ids, () => (isTakenBack ? { is_reject: false } : { is_reject: true, is_favourite: false, rating: null }));
  }

  const clear = (ids) => set(ids, () => ({ rating: null, is_favourite: false, is_reject: false, note: "" }));
  const annotate = (id, note) => set([id], () => ({ note }));

  /** Take the last change back; returns the images it was on, null if there is none. */
  function undo() {
    const last = undoable.pop();
    if (!last) return null;
    for (const [id, before] of last) {
      if (before) here.set(id, before);
      else here.delete(id);
    }
    const ids = last.map(([id]) => id);
    changed(ids);
    return ids;
  }

  /** The verdicts given here that say something the run does not know yet. */
  const news = () => [...here.values()].filter((pick) => !isCleared(pick) || baked.has(pick.image_id));

  function exportText() {
    const picks = news().sort((a, b) => (a.picked_at < b.picked_at ? -1 : 1));
    const runs = sheet.runs.map(({ name, root, run_id: runId }) => ({ name, root, run_id: runId }));
    return JSON.stringify({ format: sheet.picks_format, version: 1, sheet: sheet.title, runs, picks }, null, 1);
  }

  /** Take the verdicts of another picks.json; returns how many were newer than those here. */
  function importText(text) {
    const document = JSON.parse(text.replace(/^\ufeff/, ""));
    if (document?.format !== sheet.picks_format || !Array.isArray(document.picks)) throw new Error("no picks.json");
    const ids = [];
    for (const pick of document.picks) {
      if (!isVerdict(pick) || !sheet.imageById.has(pick.image_id)) continue;
      const now = of(pick.image_id);
      if (now && now.picked_at >= pick.picked_at) continue;
      here.set(pick.image_id, { ...empty(pick.image_id), who: "", ...pick });
      ids.push(pick.image_id);
    }
    changed(ids);
    return ids.length;
  }

  return {
    of,
    ofRow,
    rate,
    favour,
    reject,
    clear,
    annotate,
    undo,
    exportText,
    importText,
    numNew: () => news().length,
    isKept: () => isKept,
    isRevealed: (id) => revealed.has(id),
    /** Tell a listener which images changed; returns what ends that. */
    onChange(listener) {
      listeners.push(listener);
      return () => listeners.splice(listeners.indexOf(listener), 1);
    },
  };
}

function isVerdict(pick) {
  return (
    pick !== null &&
    typeof pick === "object" &&
    /^[0-9a-f]{16}$/.test(pick.image_id) &&
    typeof pick.picked_at === "string" &&
    (pick.rating === null || [1, 2, 3, 4, 5].includes(pick.rating)) &&
    typeof pick.note === "string"
  );
}

const isCleared = (pick) => !pick.rating && !pick.is_favourite && !pick.is_reject && !pick.note;

/** Whether an image is picked: a favourite, or at least as many stars as the threshold. */
export const isPick = (pick, minRating) =>
  Boolean(pick && !pick.is_reject && (pick.is_favourite || (pick.rating || 0) >= minRating));

export const isJudged = (pick) => Boolean(pick && (pick.is_reject || pick.is_favourite || pick.rating));

/** How much people like an image; orders the candidates of a cell. */
export function liking(pick) {
  if (!pick) return 0;
  if (pick.is_reject) return -10;
  return (pick.is_favourite ? 10 : 0) + (pick.rating || 0);
}

export function verdictText(pick) {
  if (!pick) return "not judged";
  const parts = [];
  if (pick.is_favourite) parts.push("favourite");
  if (pick.is_reject) parts.push("rejected");
  if (pick.rating) parts.push(`${pick.rating} of 5`);
  if (pick.note) parts.push("has a note");
  return parts.join(", ") || "not judged";
}
