// Survey: up to twelve images fill the screen under one zoom. One is current, and keys judge it; X
// takes it out and the rest grow; Enter keeps it and offers to reject the others. Captions say only
// what differs.

import { describeRow, differingAxes, hasPixels, idOf } from "./data.js";
import { button, el, hush, leaving, say } from "./dom.js";
import { verdictText } from "./picks.js";
import { makeStage } from "./stage.js";
import { MAX_CHOSEN } from "./state.js";
import { formatCount } from "./text.js";

export function openSurvey(app, rows) {
  const { sheet, picks } = app;
  const drawn = [...new Map(rows.filter((row) => hasPixels(sheet, row)).map((row) => [idOf(sheet, row), row])).values()];
  if (drawn.length < 2) {
    say("A survey needs two images: choose some with C, Ctrl-click or a rectangle");
    return;
  }
  let left = drawn.slice(0, MAX_CHOSEN);
  const out = []; // [row, its index]: what U brings back
  let at = 0;
  const stage = makeStage(app, { onPick: setCurrent });
  const title = el("h2", { class: "lightbox-title" });
  const bar = el("div", { class: "cull-bar", role: "group", "aria-label": "Verdict" });
  const dialog = el("dialog", { class: "lightbox survey", "aria-label": "Survey" });
  const leave = leaving(dialog, closed);
  const close = button("Close (Esc)", leave, { symbol: "close", class: "quiet close" });
  dialog.append(el("header", {}, title, close), stage.node, el("footer", {}, bar));
  dialog.addEventListener("keydown", onKey);
  document.body.append(dialog);
  dialog.showModal();
  stage.node.tabIndex = 0;
  show();
  stage.node.focus({ preventScroll: true });
  if (drawn.length > MAX_CHOSEN) say(`The first ${MAX_CHOSEN} of ${drawn.length} images`);

  const forget = app.picks.onChange(() => dialog.isConnected && mark());

  function captions() {
    const axes = differingAxes(sheet, left);
    return left.map((row) => {
      const name = app.blind.isHidden(idOf(sheet, row)) || !axes.length ? "" : describeRow(sheet, row, axes);
      const pick = picks.ofRow(row);
      const verdict = pick ? verdictText(pick) : "";
      return [name, verdict === "not judged" ? "" : verdict].filter(Boolean).join(" · ") || null;
    });
  }

  function show() {
    stage.show(left.map((row) => sheet.imageOf[row]), captions(), { keepsZoom: true });
    mark();
  }

  function mark() {
    title.textContent = `Survey of ${left.length}`;
    const texts = captions();
    stage.panes().forEach((pane, i) => {
      pane.classList.toggle("is-cursor", i === at);
      pane.querySelector("figcaption").textContent = texts[i] || "";
      pane.querySelector("figcaption").hidden = !texts[i];
    });
    fillBar();
  }

  function fillBar() {
    const pick = picks.ofRow(left[at]);
    const stars = [1, 2, 3, 4, 5].map((rating) =>
      button(`Rate ${rating} of 5 (${rating})`, () => judge("rate", rating), { symbol: "star", class: `star${pick?.rating >= rating ? " is-on" : ""}` }));
    bar.replaceChildren(
      button("Take it out (X)", takeOut, { text: "Take out", disabled: left.length < 2 }),
      el("span", { class: "stars" }, stars),
      button("Favourite (F)", () => judge("favour"), { symbol: "heart", class: `favour${pick?.is_favourite ? " is-on" : ""}` }),
      button("Keep this one (Enter)", keep, { text: "Keep this one", class: "primary" }),
      button("Bring the last one back (U)", bringBack, { symbol: "undo", class: "quiet", disabled: !out.length }),
    );
  }

  const judge = (how, ...rest) => {
    app.judge.judge(how, [left[at]], ...rest);
    if (picks.isKept()) hush(); // the caption says it
    stage.node.focus({ preventScroll: true });
  };

  function setCurrent(index) {
    at = Math.max(0, Math.min(left.length - 1, index));
    mark();
  }

  function takeOut() {
    if (left.length < 2) return;
    out.push([left[at], at]);
    left.splice(at, 1);
    at = Math.min(at, left.length - 1);
    show();
    stage.node.focus({ preventScroll: true });
  }

  function bringBack() {
    const last = out.pop();
    if (!last) {
      app.judge.undo();
      return;
    }
    left.splice(last[1], 0, last[0]);
    [, at] = last;
    show();
  }

  /** The current image becomes a favourite; the others may become rejects, by one undo. */
  function keep() {
    const kept = left[at];
    if (!picks.ofRow(kept)?.is_favourite) app.judge.judge("favour", [kept]);
    const others = [...left.filter((row) => row !== kept), ...out.map(([row]) => row)].filter((row) => !picks.ofRow(row)?.is_reject);
    if (!others.length) {
      leave();
      return;
    }
    const reject = () => {
      app.judge.judge("reject", others);
      leave();
    };
    bar.replaceChildren(
      el("span", { text: "Kept." }),
      button(`Reject the other ${others.length} (Enter)`, reject, { text: `Reject the other ${others.length}`, class: "primary" }),
      button("Leave them as they are (Esc)", leave, { text: "Leave them" }),
    );
    bar.querySelector(".primary").focus();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isButton = event.target.tagName === "BUTTON";
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const columns = Math.round(stage.node.clientWidth / (stage.panes()[0].clientWidth || 1));
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    if (by) setCurrent(at + by < 0 || at + by >= left.length ? at : at + by);
    else if (key === "x" || key === "Delete") takeOut();
    else if (key === "u") bringBack();
    else if (key === "Enter" && !isButton) keep();
    else if (stage.onKey(event)) return void event.preventDefault();
    else {
      const judgement = app.judge.actionOf(event);
      if (!judgement) return;
      judgement([left[at]]);
      if (picks.isKept()) hush();
    }
    event.preventDefault();
    event.stopPropagation();
  }

  function closed() {
    forget();
    dialog.remove();
    hush();
    app.lightbox.update();
    if (app.lightbox.isOpen()) return;
    app.settle(null);
    app.cursor.setRow(left[at]);
    app.grid.focus();
    if (app.state.chosen.length) say(`${formatCount(app.state.chosen.length, "image")} still chosen · Esc clears`);
  }
}
