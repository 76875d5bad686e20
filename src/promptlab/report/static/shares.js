// What a bias audit found: how often each word was the nearest to a subject's images, as bars with
// intervals. Counts nothing.

import { el, userText } from "./dom.js";
import { formatCount, formatPercent } from "./text.js";

const MAX_WORDS = 8; // of a group at first

/** The audits of the sheet's runs; nothing without one. */
export function sharesOf(sheet) {
  return sheet.shares.flatMap((audit) => [
    sheet.shares.length > 1 ? userText("h3", audit.run) : null,
    el("p", { class: "hint", text: audit.warning }),
    ...audit.groups.map((group, i) => groupOf(group, i === 0)),
  ]);
}

function groupOf(group, isOpen) {
  return el("details", { class: "shares", open: isOpen },
    el("summary", {}, userText("span", group.name), el("span", { class: "hint", text: formatCount(group.num_images, "image") })),
    group.words.slice(0, MAX_WORDS).map(wordOf),
    group.words.length > MAX_WORDS ? el("p", { class: "hint", text: `${group.words.length - MAX_WORDS} more words` }) : null,
  );
}

function wordOf([word, share, low, high]) {
  const bar = el("span", { class: "share-bar", "aria-hidden": "true" }, el("span", {}), el("i", {}));
  bar.style.setProperty("--share", share);
  bar.style.setProperty("--low", low);
  bar.style.setProperty("--high", high);
  const text = `${formatPercent(share)} (${Math.round(low * 100)}–${Math.round(high * 100)})`;
  return el("div", { class: "share" }, userText("span", word), bar, el("span", { class: "share-number", text }));
}
