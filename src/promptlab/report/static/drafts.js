// Drafts: a note that is being typed survives a reload. Takes over what an earlier visit left.

import { memory } from "./memory.js";

export function makeDrafts(sheet, picks) {
  const key = `promptlab-draft:${sheet.sheet_id}`;
  const left = memory.read(key);
  if (left && sheet.imageById.has(left.id) && typeof left.text === "string") picks.annotate(left.id, left.text);
  memory.write(key, null);
  return {
    keep: (id, text) => memory.write(key, { id, text }),
    drop: () => memory.write(key, null),
  };
}
