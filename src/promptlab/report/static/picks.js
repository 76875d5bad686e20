// Picks: verdicts on images. Those baked into the page come from picks.parquet; those given here
// live in the browser, where it lets them, and leave as picks.json. The newer verdict wins.

function makePicks(sheet) {
  const storageKey = `promptlab-picks:${sheet.sheet_id}`;
  const baked = new Map(sheet.picks.map((pick) => [pick.image_id, pick]));
  const here = new Map();
  const undoable = [];
  const revealed = new Set(); // in blind mode: judged since, so labels may show
  const listeners = [];
  for (const pick of memory.read(storageKey) || []) {
    const bakedPick = baked.get(pick.image_id);
    if (isPick(pick) && !(bakedPick && bakedPick.picked_at >= pick.picked_at)) {
      here.set(pick.image_id, pick);
    }
  }
  let isKept = memory.write(storageKey, [...here.values()]);

  const empty = (id) => ({ image_id: id, rating: null, is_favourite: false, is_reject: false, note: "" });
  const of = (id) => here.get(id) || baked.get(id) || null;
  const ofRow = (row) => of(idOf(sheet, row));

  function changed(id) {
    isKept = memory.write(storageKey, [...here.values()]);
    for (const listener of listeners) listener(id);
  }

  /** Change the verdict on an image; `change` holds the fields that change. */
  function set(id, change) {
    const before = here.get(id);
    const now = of(id) || empty(id);
    const who = memory.read("promptlab-who") || "";
    undoable.push({ id, before });
    here.set(id, { ...empty(id), ...now, ...change, who, picked_at: new Date().toISOString() });
    revealed.add(id);
    changed(id);
    return here.get(id);
  }

  function rate(id, rating) {
    const now = of(id);
    return set(id, { rating: now && now.rating === rating ? null : rating });
  }

  function favour(id) {
    const now = of(id);
    return set(id, { is_favourite: !(now && now.is_favourite), is_reject: false });
  }

  function reject(id) {
    const now = of(id);
    return set(id, { is_reject: !(now && now.is_reject), is_favourite: false });
  }

  const clear = (id) => set(id, { rating: null, is_favourite: false, is_reject: false, note: "" });
  const annotate = (id, note) => set(id, { note });

  function undo() {
    const last = undoable.pop();
    if (!last) return null;
    if (last.before) here.set(last.id, last.before);
    else here.delete(last.id);
    changed(last.id);
    return last.id;
  }

  function exportText() {
    const picks = [...here.values()].sort((a, b) => (a.picked_at < b.picked_at ? -1 : 1));
    const document = { format: sheet.picks_format, version: 1, sheet: sheet.title, picks };
    return JSON.stringify(document, null, 1);
  }

  /** Take the verdicts of another picks.json; returns how many were new. */
  function importText(text) {
    const document = JSON.parse(text);
    if (document.format !== sheet.picks_format || !Array.isArray(document.picks)) throw new Error("no picks.json");
    let count = 0;
    for (const pick of document.picks) {
      const now = of(pick.image_id);
      if (!isPick(pick) || !sheet.imageById.has(pick.image_id)) continue;
      if (now && now.picked_at >= pick.picked_at) continue;
      here.set(pick.image_id, { ...empty(pick.image_id), who: "", ...pick });
      count += 1;
    }
    changed(null);
    return count;
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
    numHere: () => here.size,
    isKept: () => isKept,
    isRevealed: (id) => revealed.has(id),
    onChange: (listener) => listeners.push(listener),
  };
}

function isPick(pick) {
  return (
    pick !== null &&
    typeof pick === "object" &&
    /^[0-9a-f]{16}$/.test(pick.image_id) &&
    typeof pick.picked_at === "string" &&
    (pick.rating === null || [1, 2, 3, 4, 5].includes(pick.rating)) &&
    typeof pick.note === "string"
  );
}

const isPicked = (pick) => Boolean(pick && !pick.is_reject && (pick.is_favourite || pick.rating));
const isJudged = (pick) => Boolean(pick && (pick.is_reject || pick.is_favourite || pick.rating));

/** How much a person likes an image; orders the candidates of a cell. */
function liking(pick) {
  if (!pick) return 0;
  if (pick.is_reject) return -10;
  return (pick.is_favourite ? 10 : 0) + (pick.rating || 0);
}

function verdictText(pick) {
  if (!pick) return "not judged";
  const parts = [];
  if (pick.is_favourite) parts.push("favourite");
  if (pick.is_reject) parts.push("rejected");
  if (pick.rating) parts.push(`${pick.rating} of 5`);
  if (pick.note) parts.push("has a note");
  return parts.join(", ") || "not judged";
}
