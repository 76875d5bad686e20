// The lightbox: one image large, everything about it beside it. Arrow keys walk the grid, Space
// flips to the counterpart in place, judging keys judge the image that is shown.

import { makeBlink } from "./blink.js";
import { describeRow, hasPixels, idOf, textOf, valueText, varyingAxes } from "./data.js";
import { makeDetails } from "./details.js";
import { button, copyText, el, hush, leaving, userText } from "./dom.js";
import { makeStage } from "./stage.js";
import { makeStrip } from "./strip.js";
import { short } from "./text.js";

const AXES_SHOWN_BLIND = ["subject", "seed"]; // what blind mode still says

export function makeLightbox(app) {
  const { sheet, picks, packs } = app;
  let dialog = null;
  let row = -1; // of data
  let place = null; // in the grid
  let stage = null;
  let blink = null;
  let strip = null;
  let details = null;
  let noteShown = ""; // what the note's box was filled with: what it holds besides was typed here
  const parts = {};

  const isHidden = () => app.blind.isHidden(idOf(sheet, row));

  function open(data, at) {
    row = data;
    place = at || app.grid.placeOf(data);
    if (!dialog) build();
    blink.forget();
    refresh();
  }

  function build() {
    stage = makeStage(app, { onSwipe });
    blink = makeBlink(app, { row: () => row, isHidden, show: showInPlace }, stage);
    strip = makeStrip(app, (member) => goTo(member, place));
    details = makeDetails(app, (data) => open(data, null));
    parts.title = el("h2", { class: "lightbox-title" });
    parts.counter = el("span", { class: "counter hint" });
    parts.verdict = el("div", { class: "verdict-bar", role: "group", "aria-label": "Verdict" });
    parts.note = el("textarea", {
      class: "note text",
      dir: "auto",
      rows: 2,
      placeholder: "Note",
      "aria-label": "Note on this image",
      oninput: () => app.drafts.keep(idOf(sheet, row), parts.note.value),
      onchange: commitNote,
    });
    parts.actions = el("div", { class: "actions" });
    const panel = el("div", { class: "panel" }, parts.verdict, parts.note, blink.node, parts.actions, details.node);
    dialog = el("dialog", { class: "lightbox", "aria-label": "Image" });
    const close = button("Close (Esc)", leaving(dialog, closed), { symbol: "close", class: "quiet close" });
    dialog.append(
      el("div", { class: "lightbox-main" }, el("header", {}, parts.title, parts.counter, walkButtons(), close), stage.node, strip.node),
      panel,
    );
    dialog.addEventListener("keydown", onKey);
    dialog.addEventListener("keyup", (event) => event.key === " " && blink.release(event));
    document.body.append(dialog);
    dialog.showModal();
    stage.node.tabIndex = 0;
    stage.node.setAttribute("role", "group");
    stage.node.setAttribute("aria-label", "Image, zoom with plus and minus");
    focusStage();
  }

  const focusStage = () => stage.node.focus({ preventScroll: true });

  function walkButtons() {
    return el("div", { class: "walk", role: "group", "aria-label": "Walk" },
      button("Left (←)", () => walk(0, -1), { symbol: "left", class: "quiet" }),
      button("Up (↑)", () => walk(-1, 0), { symbol: "up", class: "quiet" }),
      button("Down (↓)", () => walk(1, 0), { symbol: "down", class: "quiet" }),
      button("Right (→)", () => walk(0, 1), { symbol: "right", class: "quiet" }),
    );
  }

  function closed() {
    commitNote();
    hush();
    const last = blink.base() >= 0 ? blink.base() : row;
    dialog.remove();
    dialog = null;
    app.setState({ at: "" }, { keepsLayout: true });
    app.settle(null);
    app.cursor.setRow(last);
    app.grid.focus();
  }

  function commitNote() {
    const id = idOf(sheet, row);
    app.drafts.drop();
    if (parts.note.value === noteShown) return;
    noteShown = parts.note.value;
    picks.annotate(id, noteShown);
  }

  /** Fill the note's box. */
  function showNote() {
    parts.note.value = picks.ofRow(row)?.note || "";
    noteShown = parts.note.value; // the box has its own ends of lines
  }

  /** Verdicts changed, here or elsewhere. */
  function update() {
    if (!dialog) return;
    if (parts.note.value === noteShown && document.activeElement !== parts.note) showNote();
    fill();
  }

  // ---------------------------------------------------------------- showing

  function refresh({ keepsZoom = false } = {}) {
    stage.show([sheet.imageOf[row]], [null], { keepsZoom });
    showNote();
    app.setState({ at: idOf(sheet, row) }, { keepsLayout: true }); // fills the rest
  }

  /** Show again what verdicts and choices change. */
  function fill() {
    const axes = varyingAxes(sheet).filter((axis) => !isHidden() || AXES_SHOWN_BLIND.includes(axis.name));
    parts.title.replaceChildren(...titleParts(axes));
    dialog.setAttribute("aria-label", short(describeRow(sheet, row, axes), 120));
    const members = place ? app.grid.membersAt(place.row, place.col) : [];
    const at = members.indexOf(blink.base() >= 0 ? blink.base() : row);
    parts.counter.textContent = members.length > 1 && at >= 0 ? `${at + 1} of ${members.length}` : "";
    strip.fill(members, row, isHidden());
    fillVerdict();
    blink.fill();
    fillActions();
    details.fill(row, isHidden());
    if (document.activeElement === document.body) focusStage(); // the button that had the keys was replaced
  }

  function titleParts(axes) {
    const shown = axes.length ? axes : [sheet.axisByName.get("subject")];
    return shown.map((axis) => {
      const isFlipped = axis.name === blink.axisName();
      return userText("span", short(valueText(axis, axis.codes[row]), 120), { class: isFlipped ? "is-flipped" : "", title: axis.name });
    });
  }

  /** Show another row without moving anything: the place and the zoom stay. */
  function showInPlace(data) {
    commitNote();
    hush();
    row = data;
    refresh({ keepsZoom: true });
  }

  /** Rows of data were drawn: the image that is shown may be one of them, or beside them. */
  function arrive(rows) {
    if (!dialog) return;
    place = app.grid.placeOf(row) || place;
    if (rows.has(row) && document.activeElement !== parts.note) refresh({ keepsZoom: true });
    else if (place && app.grid.membersAt(place.row, place.col).some((member) => rows.has(member))) fill();
  }

  // ---------------------------------------------------------------- walking

  function walk(down, across) {
    if (!place) return;
    const next = app.grid.neighbour(place, down, across);
    if (!next) return;
    const stack = app.grid.slotsAt(next.row, next.col)[place.slot] || [];
    const members = app.grid.membersAt(next.row, next.col);
    const inner = app.state.inner.map((name) => sheet.axisByName.get(name).codes);
    const seed = sheet.axisByName.get("seed").codes;
    const same = members.find((other) => seed[other] === seed[row] && inner.every((codes) => codes[other] === codes[row]));
    goTo(same === undefined || app.state.blind ? (stack[0] ?? members[0]) : same, next);
  }

  function walkStack(by) {
    const members = place ? app.grid.membersAt(place.row, place.col) : [row];
    const next = members[members.indexOf(row) + by];
    if (next !== undefined) goTo(next, place);
  }

  function goTo(data, at) {
    commitNote();
    hush();
    row = data;
    place = at;
    blink.forget();
    refresh();
  }

  function onSwipe(across, down) {
    if (Math.abs(across) > Math.abs(down)) walk(0, across < 0 ? 1 : -1);
    else walk(down < 0 ? 1 : -1, 0);
  }

  // ---------------------------------------------------------------- verdict and actions

  function fillVerdict() {
    const pick = picks.ofRow(row);
    const stars = [1, 2, 3, 4, 5].map((rating) =>
      button(`Rate ${rating} of 5 (${rating})`, () => app.judge.judge("rate", [row], rating), {
        symbol: "star",
        class: `star${pick?.rating >= rating ? " is-on" : ""}`,
        "aria-pressed": pick?.rating === rating,
      }),
    );
    parts.verdict.replaceChildren(
      el("span", { class: "stars" }, stars),
      button("Favourite (F)", () => app.judge.judge("favour", [row]), { symbol: "heart", class: `favour${pick?.is_favourite ? " is-on" : ""}`, "aria-pressed": Boolean(pick?.is_favourite) }),
      button("Reject (X)", () => app.judge.judge("reject", [row]), { symbol: "reject", class: `reject${pick?.is_reject ? " is-on" : ""}`, "aria-pressed": Boolean(pick?.is_reject) }),
      button("Undo (U)", undo, { symbol: "undo", class: "quiet" }),
    );
  }

  function fillActions() {
    const file = packs.fileUrl(app.pictureOf(sheet.imageOf[row]));
    const id = idOf(sheet, row);
    const children = [];
    if (!isHidden()) {
      children.push(
        button("Copy the prompt", () => copyText(textOf(sheet, row, "prompt"), "Prompt"), { text: "Copy prompt" }),
        button("Copy the command that draws this image again", copyCommand, { text: "Copy redraw command" }),
      );
    }
    children.push(
      button("Choose it, to survey several side by side (C)", () => app.selection.toggle([id]), {
        text: app.selection.has(id) ? "Chosen" : "Choose",
        "aria-pressed": app.selection.has(id),
      }),
    );
    if (app.act && hasPixels(sheet, row) && !isHidden()) {
      children.push(button("Draw more from this image", (event) => app.act.open(row, event.currentTarget), { text: "Draw …" }));
    }
    if (sheet.image.enlarged[sheet.imageOf[row]] >= 0) {
      const text = app.state.enlarged ? "As drawn" : "Enlarged";
      children.push(button(`${text} (E)`, flipEnlarged, { text }));
    }
    if (blink.base() >= 0) {
      children.push(button("Both side by side", () => app.survey([blink.base(), row]), { text: "Side by side" }));
    }
    if (file && hasPixels(sheet, row) && !isHidden()) {
      children.push(el("a", { class: "button", href: file, target: "_blank", rel: "noopener", text: "Open PNG" }));
    }
    parts.actions.replaceChildren(...children);
  }

  function flipEnlarged() {
    app.setState({ enlarged: !app.state.enlarged });
    refresh({ keepsZoom: true });
  }

  function copyCommand() {
    const image = sheet.imageOf[row];
    packs.whenLoaded(image, {}, (pack) => copyText(packs.commandOf(pack, image), "Command"));
  }

  /** Take the last verdict back and show the image that it was on. */
  function undo() {
    const [id] = app.judge.undo();
    const image = sheet.imageById.get(id);
    if (image !== undefined && id !== idOf(sheet, row)) goTo(sheet.rowOfImage[image], app.grid.placeOf(sheet.rowOfImage[image]));
  }

  // ---------------------------------------------------------------- keys

  function onKey(event) {
    if (event.target === parts.note || event.target.tagName === "SELECT") {
      if (event.key === "Escape") {
        event.preventDefault();
        focusStage();
      }
      event.stopPropagation();
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key === "z") undo();
    else if (event.ctrlKey || event.metaKey || event.altKey || !actOn(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  function actOn(event) {
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const down = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.shiftKey && across) walkStack(across);
    else if (key === ",") walkStack(-1);
    else if (key === ".") walkStack(1);
    else if (across) walk(0, across);
    else if (down) walk(down, 0);
    else if (key === " " && event.target.tagName !== "BUTTON") blink.press(event);
    else if (stage.onKey(event)) return true;
    else if (key === "d") blink.nextOverlay();
    else if (key === "e") flipEnlarged();
    else if (key === "n") parts.note.focus();
    else if (key === "u") undo();
    else if (key === "c") app.selection.toggle([idOf(sheet, row)]);
    else if (key === "v") app.survey(app.state.chosen.length > 1 ? app.selection.rows() : place ? app.grid.membersAt(place.row, place.col) : [row]);
    else if (key === "t") app.rounds(place ? app.grid.membersAt(place.row, place.col) : [row]);
    else {
      const judgement = app.judge.actionOf(event);
      if (!judgement) return false;
      judgement([row]);
    }
    return true;
  }

  return {
    open,
    arrive,
    update,
    focusNote: () => dialog && parts.note.focus(),
    isOpen: () => dialog !== null,
    commitNote: () => dialog && commitNote(),
  };
}
