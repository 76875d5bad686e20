// A menu at a point of the window: a list of things to do, closed by a choice, Esc or a click
// elsewhere.

import { el, prettyText } from "./dom.js";

/** Open a menu; `items` are [text, action] pairs, nulls left out. */
export function openMenu(x, y, title, items) {
  document.querySelector(".menu")?.remove();
  const buttons = items
    .filter(Boolean)
    .map(([text, action]) => el("button", { type: "button", role: "menuitem", class: "menu-item", onclick: () => choose(action) }, prettyText("span", text)));
  const menu = el("div", { class: "menu", role: "menu", "aria-label": title, popover: "auto" }, prettyText("p", title, { class: "menu-title" }), buttons);
  (document.querySelector("dialog[open]") || document.body).append(menu); // above what is modal
  menu.addEventListener("toggle", (event) => event.newState === "closed" && menu.remove());
  menu.addEventListener("keydown", onKey);
  if (menu.showPopover) menu.showPopover();
  const box = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(4, Math.min(x, window.innerWidth - box.width - 4))}px`;
  menu.style.top = `${Math.max(4, Math.min(y, window.innerHeight - box.height - 4))}px`;
  buttons[0].focus();

  function choose(action) {
    if (menu.hidePopover) menu.hidePopover();
    menu.remove();
    action();
  }

  function onKey(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) buttons[(buttons.indexOf(document.activeElement) + by + buttons.length) % buttons.length].focus();
    else if (event.key === "Escape") menu.remove();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
