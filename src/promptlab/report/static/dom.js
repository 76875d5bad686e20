// Elements from plain values. Every text goes in as text: nothing here, or anywhere on this page,
// parses markup.

import { short } from "./text.js";

export const byId = (id) => document.getElementById(id);

/** Make an element: `text` is its text, on* are listeners, the rest are attributes. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "value") node.value = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** A text that a user wrote: its direction and its bidi controls end where it ends. */
export function userText(tag, text, attributes = {}) {
  return el(tag, { dir: "auto", ...attributes, class: `text ${attributes.class || ""}`, text });
}

/** A label that breaks between words only: "_" reads as a space, and "/" may end a line. */
export function prettyText(tag, text, attributes = {}) {
  const parts = short(text, 300).replaceAll("_", " ").split("/");
  const node = userText(tag, "", attributes);
  parts.forEach((part, i) => node.append(...(i ? ["/", el("wbr")] : []), part));
  return node;
}

const ICONS = {
  close: "M5 5 15 15M15 5 5 15",
  swap: "M4 7h11M12 4l3 3-3 3M16 13H5M8 10l-3 3 3 3",
  more: "M4 6h12M4 10h12M4 14h12",
  heart: "M10 16.5 4.2 10.7a3.6 3.6 0 0 1 5.1-5.1l.7.7.7-.7a3.6 3.6 0 0 1 5.1 5.1z",
  reject: "M5.5 5.5l9 9M14.5 5.5l-9 9",
  star: "M10 3.2l2.1 4.3 4.7.7-3.4 3.3.8 4.7-4.2-2.2-4.2 2.2.8-4.7-3.4-3.3 4.7-.7z",
  note: "M5 4h10v9l-3 3H5zM8 8h4M8 11h3",
  save: "M10 4v8M6.5 9 10 12.5 13.5 9M4.5 16h11",
  left: "M12.5 4.5 7 10l5.5 5.5",
  right: "M7.5 4.5 13 10l-5.5 5.5",
  up: "M4.5 12.5 10 7l5.5 5.5",
  down: "M4.5 7.5 10 13l5.5-5.5",
  flip: "M10 3v14M7 6 3.5 10 7 14M13 6l3.5 4-3.5 4",
  compare: "M3.5 4.5h5.5v11H3.5zM11 4.5h5.5v11H11z",
  first: "M4 5v10M15.5 4.5 10 10l5.5 5.5",
  cull: "M3.5 5.5h9v9h-9zM14.5 7.5l2.5 2.5-2.5 2.5",
  undo: "M7 5 4 8l3 3M4 8h7a4 4 0 0 1 0 8H8",
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export function button(label, onclick, { symbol = null, text = null, ...attributes } = {}, ...children) {
  return el(
    "button",
    { type: "button", "aria-label": label, title: label, onclick, ...attributes },
    symbol ? icon(symbol) : null,
    text === null ? null : el("span", { text }),
    ...children,
  );
}

/** A <select> with a label; options are [value, text] pairs. */
export function select(label, options, value, onchange, attributes = {}) {
  const node = el("select", { "aria-label": label, title: label, ...attributes });
  for (const [optionValue, text] of options) {
    node.append(el("option", { value: optionValue, text: short(text, 60) }));
  }
  node.value = value;
  node.addEventListener("change", () => onchange(node.value));
  return node;
}

let toastTimer = 0;

/** Say something in passing; screen readers hear it too. */
export function say(text) {
  const toast = byId("toast");
  toast.textContent = short(text, 160);
  if (toast.showPopover) {
    if (toast.matches(":popover-open")) toast.hidePopover();
    toast.showPopover(); // above any dialog that is open
  }
  toast.classList.add("is-shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => toast.classList.remove("is-shown"), 2200);
}

/** Take away what was said: it is about something that is no longer shown. */
export function hush() {
  clearTimeout(toastTimer);
  byId("toast").classList.remove("is-shown");
}

/** Copy a text, also where the clipboard is closed to pages: then it is shown, ready to copy. */
export async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied`);
    return;
  } catch {
    /* a sandboxed frame, or an old browser: try the older way */
  }
  const host = document.querySelector("dialog[open]") || document.body;
  const area = el("textarea", { class: "offscreen", "aria-hidden": "true", value: text });
  host.append(area);
  area.select();
  let isCopied = false;
  try {
    isCopied = document.execCommand("copy");
  } catch {
    isCopied = false;
  }
  area.remove();
  if (isCopied) say(`${what} copied`);
  else showText(what, text);
}

/** Show a text in a dialog, selected. */
function showText(title, text) {
  const area = el("textarea", { class: "plain-text", readonly: true, value: text, "aria-label": title });
  const dialog = openDialog(title, [area], "small");
  area.focus();
  area.select();
  return dialog;
}

/** Open a modal dialog with a title and a close button; it leaves the page when closed, then `left` is called. */
export function openDialog(title, children, kind, left = () => {}) {
  const dialog = el("dialog", { class: `dialog ${kind || ""}`, "aria-label": short(title, 120) });
  const leave = leaving(dialog, () => {
    dialog.remove();
    left();
  });
  const close = button("Close (Esc)", leave, { symbol: "close", class: "quiet" });
  dialog.append(
    el("header", { class: "dialog-head" }, userText("h2", short(title, 200)), close),
    el("div", { class: "dialog-body" }, ...children),
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) leave(); // the backdrop
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Return what closes a dialog and calls `left` at once, as Escape does from now on. The browser's
 * own event comes later: keys pressed until then would find the page as it was in the dialog.
 */
export function leaving(dialog, left) {
  let isLeft = false;
  const leave = () => {
    if (isLeft) return;
    isLeft = true;
    dialog.close();
    left();
  };
  dialog.addEventListener("cancel", (event) => event.target === dialog && leave());
  dialog.addEventListener("close", leave);
  return leave;
}
