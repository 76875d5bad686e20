// The keyboard of the page: which key does what on the grid, and the overlay that tells it.

import { el, openDialog } from "./dom.js";

const TOGGLES = { o: "open", m: "margins", b: "blind", e: "enlarged" };

const KEYS = [
  ["1 … 5", "rate the image with the ring"],
  ["F / X / N", "favourite / reject / note"],
  ["0 or Backspace", "clear the verdict"],
  ["U", "undo"],
  ["A", "cull: judge all unjudged images, one after the other"],
  ["T", "best of a cell, in rounds of nine"],
  ["← ↑ ↓ →", "move along rows and columns"],
  ["Enter", "look closely"],
  ["Shift ← →, or , .", "go through a cell's candidates (large view)"],
  ["Space", "hold: the other value, in place; tap: stay there"],
  ["Shift+Space", "the next value"],
  ["D", "wipe or difference (large view)"],
  ["+ − 0 Z", "zoom; Z goes close and back (large view)"],
  ["C, Ctrl-click, drag", "choose images"],
  ["V", "survey the chosen images, or this cell"],
  ["E", "enlarged images, or as they were drawn"],
  ["[ ]", "previous / next tab"],
  ["P", "picks only"],
  ["/", "find"],
  ["W", "wall: every image wrapped, or rows and columns"],
  ["O / M / B", "open stacks / margins / blind"],
  ["S", "settings"],
  ["?", "this list"],
];

export const keyList = () =>
  el("dl", { class: "keys" }, KEYS.flatMap(([key, text]) => [el("dt", {}, el("kbd", { text: key })), el("dd", { text })]));

export const openHelp = () => openDialog("Keys", [keyList()], "small help");

const isText = (node) => Boolean(node?.closest?.("textarea, select, input:not([type=range]):not([type=checkbox])"));

/** Listen to the keys of the page while no dialog is open. */
export function listenToKeys(app) {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open], .menu")) return;
    if (isText(event.target)) {
      if (event.key === "Escape") app.grid.focus();
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key === "z") {
      undo();
      event.preventDefault();
      return;
    }
    const isMove = event.ctrlKey && (event.key === "Home" || event.key === "End");
    if ((event.ctrlKey || event.metaKey || event.altKey) && !isMove) return;
    const isControl = Boolean(event.target.closest?.("button, a, input, summary"));
    if (onKey(event, isControl)) event.preventDefault();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key === " ") app.pageFlip.release(event);
  });

  function undo() {
    const [id] = app.judge.undo();
    if (id) app.cursor.setRow(app.sheet.rowOfImage[app.sheet.imageById.get(id)]);
  }

  function onKey(event, isControl) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const isOfControl = isControl && (key === " " || key === "Enter" || (event.target.type === "range" && key.startsWith("Arrow")));
    if (isOfControl) return false;
    const judgement = app.judge.actionOf(event);
    if (judgement) {
      const rows = app.cursor.take();
      if (rows) judgement(rows);
      return true;
    }
    if (app.cursor.move(event)) return true;
    if (key === "w") app.setState({ wall: !app.grid.layout().isUnrolled });
    else if (TOGGLES[key]) app.setState({ [TOGGLES[key]]: !app.state[TOGGLES[key]] });
    else if (key === " ") app.pageFlip.press(event);
    else if (key === "p") app.setState({ view: app.state.view === "picks" ? "all" : "picks" });
    else if (key === "s") app.drawer.toggle();
    else if (key === "Escape") escape();
    else if (key === "u") undo();
    else if (key === "a") app.cull();
    else if (key === "/") app.toolbar.focusFind();
    else if (key === "?") openHelp();
    else if (key === "[" || key === "]") app.toolbar.stepTab(key === "[" ? -1 : 1);
    else return onImageKey(key);
    return true;
  }

  function escape() {
    if (app.drawer.isOpen()) app.drawer.toggle();
    else if (app.state.chosen.length) app.selection.clear();
    else app.pageFlip.stop();
  }

  function onImageKey(key) {
    if (key === "v" && app.state.chosen.length > 1) {
      app.survey(app.selection.rows());
      return true;
    }
    if (!["Enter", "t", "n", "c", "v"].includes(key)) return false;
    const found = app.cursor.image();
    if (!found) return true;
    const members = app.grid.membersAt(found.place.row, found.place.col);
    if (key === "Enter") app.open(found.row, found.place);
    else if (key === "t") app.rounds(members);
    else if (key === "c") app.selection.toggle([app.cursor.id()]);
    else if (key === "v") app.survey(members);
    else {
      app.open(found.row, found.place);
      app.lightbox.focusNote();
    }
    return true;
  }
}
