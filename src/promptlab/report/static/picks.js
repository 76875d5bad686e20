// Picks: verdicts on images. Those baked into the page come from picks.parquet; those given here
// are kept by `save`, which the page or a server provides, and leave as picks.json or at once. The
// newer verdict wins. Knows no element.

import { idOf } from "./data.js";

/**
 * `kept` are the verdicts given here before; `save(verdicts, changed)` gets all verdicts and those
 * that changed, and returns whether it kept them. `who` names the person who judges now; verdicts of
 * others, from their picks.json or from before, stay beside the own ones. Where verdicts are sent at
 * once, the server tells what it holds by then (`hear`), and one that is undone is a new one.
 */
export function makePicks(sheet, { kept = [], save = () => false, who = () => "", now = () => new Date().toISOString(), isSent = false } = {}) {
  const baked = new Map(sheet.picks.map((pick) => [pick.image_id, pick]));
  const here = new Map(); // image_id -> Map(who -> verdict)
  const undoable = []; // groups of [image_id, who, what was here before]
  const revealed = new Set(); // in blind mode: judged since, so labels may show
  const listeners = [];
  for (const pick of kept) {
    const known = isVerdict(pick) && heldOf(pick.image_id, pick.who || "");
    if (isVerdict(pick) && !(known && known.picked_at >= pick.picked_at)) put(pick.image_id, pick.who || "", pick);
  }
  let isKept = save(all(), []);

  const empty = (id) => ({ image_id: id, rating: null, is_favourite: false, is_reject: false, note: "" });
  const ofRow = (row) => of(idOf(sheet, row));

  function all() {
    return [...here.values()].flatMap((given) => [...given.values()]);
  }

  function put(id, name, pick) {
    if (!here.has(id)) here.set(id, new Map());
    const given = here.get(id);
    if (pick) given.set(name, pick);
    else given.delete(name);
    if (!given.size) here.delete(id);
  }

  /** The verdict on an image: the own one, else the newest given here, else what the run holds. */
  function of(id) {
    const given = here.get(id);
    const mine = isSent && own(id);
    if (mine) return mine;
    if (!given) return baked.get(id) || null;
    return given.get(who()) || [...given.values()].reduce((a, b) => (b.picked_at > a.picked_at ? b : a));
  }

  /** What the run holds of a person; without a name it may be of anyone. */
  function heldOf(id, name) {
    const pick = baked.get(id) || null;
    const said = sheet.said[id];
    if (!name) return pick;
    return said ? said.find((each) => each.who === name) || null : pick && (!pick.who || pick.who === name) ? pick : null;
  }

  /** Each person's verdict. One without a name replaces that of the only person the run names. */
  function saidOf(id) {
    const held = sheet.said[id] || (baked.has(id) ? [baked.get(id)] : []);
    const given = here.get(id);
    if (!given) return held;
    const byName = new Map(held.map((pick) => [pick.who, pick]));
    for (const [name, pick] of given) {
      if (held.length === 1 && (!name || !held[0].who)) byName.delete(held[0].who);
      byName.set(name, pick);
    }
    return [...byName.values()];
  }

  /** What a new verdict of this person starts from: the own one, not what others said. */
  function own(id) {
    const mine = here.get(id)?.get(who());
    if (mine) return mine;
    const said = sheet.said[id];
    return said ? said.find((pick) => pick.who === who()) || null : heldOf(id, who());
  }

  function changed(ids) {
    isKept = save(all(), ids.flatMap((id) => [...(here.get(id)?.values() || [])]));
    for (const listener of listeners) listener(ids);
  }

  /** Change the verdict on images; `change(now)` returns the fields that change. One undo. */
  function set(ids, change) {
    const name = who();
    undoable.push(ids.map((id) => [id, name, isSent ? own(id) : here.get(id)?.get(name)]));
    for (const id of ids) {
      const before = { ...empty(id), ...own(id) };
      put(id, name, { ...before, ...change(before), who: name, picked_at: now() });
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
    for (const [id, name, before] of last) put(id, name, isSent ? { ...(before || empty(id)), who: name, picked_at: now() } : before);
    const ids = last.map(([id]) => id);
    changed(ids);
    return ids;
  }

  /** The verdicts given here that say something the run does not know yet. */
  const news = () => all().filter((pick) => !isCleared(pick) || baked.has(pick.image_id));

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
      const name = pick.who || "";
      const known = here.get(pick.image_id)?.get(name) || heldOf(pick.image_id, name);
      if (known && known.picked_at >= pick.picked_at) continue;
      put(pick.image_id, name, { ...empty(pick.image_id), who: "", ...pick });
      ids.push(pick.image_id);
    }
    changed(ids);
    return ids.length;
  }

  /**
   * Take in what the run holds by now: of each image, its newest verdicts and what they make. A
   * verdict that is not sent yet (`isWaiting`) stays, whatever the clocks of device and server say.
   */
  function hear(news, isWaiting = () => false) {
    for (const { image_id: id, pick, said } of news) {
      if (pick) baked.set(id, pick);
      else baked.delete(id);
      const standing = said.filter((each) => !isCleared(each));
      if (standing.length > 1) sheet.said[id] = standing;
      else delete sheet.said[id];
      for (const each of said) {
        const mine = here.get(id)?.get(each.who);
        if (mine && !isWaiting(mine) && mine.picked_at <= each.picked_at) put(id, each.who, null);
        if (each.who === who()) revealed.add(id);
      }
    }
    for (const listener of news.length ? listeners : []) listener(news.map((each) => each.image_id), true);
  }

  return {
    of,
    ofRow,
    hear,
    saidOf,
    rate,
    favour,
    reject,
    clear,
    annotate,
    undo,
    exportText,
    importText,
    numNew: () => news().length,
    /** Whether several people judged the same image. */
    isShared: () => Object.keys(sheet.said).length > 0 || [...here.keys()].some((id) => saidOf(id).length > 1),
    isKept: () => isKept,
    isRevealed: (id) => revealed.has(id),
    /** Tell a listener which images changed, and whether the server said so; returns what ends that. */
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
