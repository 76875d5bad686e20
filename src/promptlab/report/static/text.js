// Texts: cutting, formatting and naming. Plain strings in and out.

/** Cut a text for places with no room, by whole characters, and name invisible controls. */
export function short(text, length) {
  const line = String(text).replace(/[\u0000-\u001f\u007f\u2028\u2029]+/g, " ");
  const visible = line.replace(/[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]/g, "·");
  if (visible.length <= length) return visible;
  return Array.from(visible.slice(0, length * 2)).slice(0, length - 1).join("") + "…";
}

export const formatNumber = (value, digits = 3) =>
  value === null || value === undefined || Number.isNaN(value)
    ? "–"
    : String(Number(Number(value).toPrecision(digits)));

export const formatCount = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export const formatPercent = (part) => `${Math.round(part * 100)} %`;

/** 32-bit FNV-1a of a text, in base 36: names a value in the URL, whatever it holds. */
export function shortHash(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  return (hash >>> 0).toString(36);
}

/** What all values begin with and a label can leave out, up to the last "/" or "_"; "" for none. */
export function commonPrefix(values) {
  if (values.length < 3) return "";
  let prefix = values[0];
  for (const value of values) {
    while (prefix && !value.startsWith(prefix)) prefix = prefix.slice(0, -1);
  }
  const end = Math.max(prefix.lastIndexOf("/"), prefix.lastIndexOf("_"));
  prefix = prefix.slice(0, end + 1);
  return values.some((value) => value.length === prefix.length) ? "" : prefix;
}

/** Quote a text for a POSIX shell. */
export function quoteShell(text) {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
}

/** A text as part of a file name. */
export const slugify = (text) => text.normalize("NFC").replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 80);
