// Cull mode: every unjudged image large, one after the other in reading order. A verdict shows the
// next image at once; with Shift the image stays. The next cull leaves judged images out, so that it
// resumes where this one stopped.

import { describeRow, hasPixels, idOf } from "./data.js";
import { button, el, hush, leaving, say } from "./dom.js";
import { isJudged, isPick, liking, verdictText } from "./picks.js";
import { makeStage } from "./stage.js";
import { formatCount } from "./text.js";

const NUM_BEST = 12; // picks shown at the end
const NUM_AHEAD = 3; // images decoded before they are shown

export function openCull(app) {
  const { sheet, picks, packs } = app;
  const shown = [...new Map(app.grid.readingOrder().filter((row) => hasPixels(sheet, row)).map((row) => [idOf(sheet, row), row])).values()];
  const rows = shown.filter((row) => !isJudged(picks.ofRow(row)));
  const numBefore = shown.length - rows.length;
  if (!rows.length) {
    say(shown.length ? "Every image shown is judged already" : "There is no image to judge");
    return;
  }
  let at = 0;
  const judged = []; // places in `rows` that were judged here, in order: what U returns to
  const stage = makeStage(app, { onSwipe, onDoubleTap: () => act("favour") });
  const title = el("h2", { class: "lightbox-title" });
  const progress = el("progress", { max: shown.length, "aria-label": "Judged" });
  const counts = el("p", { class: "cull-counts", role: "status" });
  const verdict = el("span", { class: "cull-verdict" });
  const bar = el("div", { class: "cull-bar", role: "group", "aria-label": "Verdict" });
  const dialog = el("dialog", { class: "lightbox cull", "aria-label": "Cull" });
  const leave = leaving(dialog, closed);
  const close = button("Close (Esc)", leave, { symbol: "close", class: "quiet close" });
  dialog.append(el("header", {}, title, counts, close), progress, stage.node, el("footer", {}, verdict, bar));
  dialog.addEventListener("keydown", onKey);
  fillBar();
  document.body.append(dialog);
  dialog.showModal();
  stage.node.tabIndex = 0;
  show();
  stage.node.focus({ preventScroll: true });

  function fillBar() {
    const stars = [1, 2, 3, 4, 5].map((rating) => button(`Rate ${rating} of 5 (${rating})`, () => act("rate", rating), { symbol: "star", class: "star", "data-rating": rating }));
    bar.replaceChildren(
      button("Back (←)", () => go(-1), { symbol: "left", class: "quiet" }),
      button("Reject (X)", () => act("reject"), { symbol: "reject", class: "reject" }),
      el("span", { class: "stars" }, stars),
      button("Favourite (F)", () => act("favour"), { symbol: "heart", class: "favour" }),
      button("Skip (→)", () => go(1), { symbol: "right", class: "quiet" }),
    );
  }

  // ---------------------------------------------------------------- showing

  function show() {
    if (at >= rows.length) {
      finish();
      return;
    }
    const row = rows[at];
    const isHidden = app.blind.isHidden(idOf(sheet, row));
    title.textContent = isHidden ? "" : describeRow(sheet, row);
    stage.show([sheet.imageOf[row]], [null]);
    dialog.setAttribute("aria-label", isHidden ? "Cull" : `Cull: ${describeRow(sheet, row)}`);
    showVerdict();
    for (let i = at + 1; i <= at + NUM_AHEAD && i < rows.length; i += 1) packs.prepare(app.pictureOf(sheet.imageOf[rows[i]]));
  }

  function showVerdict() {
    const numJudged = shown.filter((row) => isJudged(picks.ofRow(row))).length;
    const numPicked = shown.filter((row) => isPick(picks.ofRow(row), sheet.pick_rating)).length;
    progress.value = numJudged;
    counts.textContent = `${Math.min(numBefore + at + 1, shown.length)} of ${shown.length} · ${numPicked} picked · ${shown.length - numJudged} left`;
    const pick = at < rows.length ? picks.ofRow(rows[at]) : null;
    const isOwn = isJudged(pick);
    verdict.classList.toggle("hint", !isOwn);
    verdict.textContent = isOwn ? verdictText(pick) : lastVerdict();
    for (const star of bar.querySelectorAll(".star")) star.classList.toggle("is-on", (pick?.rating || 0) >= Number(star.dataset.rating));
    bar.querySelector(".favour")?.classList.toggle("is-on", Boolean(pick?.is_favourite));
    bar.querySelector(".reject")?.classList.toggle("is-on", Boolean(pick?.is_reject));
  }

  /** What the last key did, while the next image is shown. */
  function lastVerdict() {
    if (!judged.length) return "";
    const row = rows[judged[judged.length - 1]];
    const name = app.state.blind ? "" : `${describeRow(sheet, row)}: `;
    const undoing = matchMedia("(pointer: coarse)").matches ? "" : " · U takes it back";
    return `${name}${verdictText(picks.ofRow(row))}${undoing}`;
  }

  function finish() {
    const all = shown.map((row) => picks.ofRow(row));
    const numJudged = all.filter(isJudged).length;
    const numPicked = all.filter((pick) => isPick(pick, sheet.pick_rating)).length;
    title.textContent = "Done";
    const best = shown.filter((row) => isPick(picks.ofRow(row), sheet.pick_rating)).sort((a, b) => liking(picks.ofRow(b)) - liking(picks.ofRow(a)));
    stage.show(best.slice(0, NUM_BEST).map((row) => sheet.imageOf[row]), best.map(() => null));
    verdict.textContent = "";
    showVerdict();
    counts.textContent = `${formatCount(numJudged, "image")} judged · ${numPicked} picked · ${all.filter((pick) => pick?.is_reject).length} rejected · ${shown.length - numJudged} skipped`;
    const look = () => {
      app.setState({ view: "picks", wall: true, sortRows: "liking" });
      leave();
    };
    const nextTab = () => {
      app.toolbar.stepTab(1);
      leave();
      app.cull();
    };
    bar.replaceChildren(
      button("Back (←)", () => go(-1), { symbol: "left", text: "Back" }),
      ...(app.state.tabs.length ? [button("Cull the next tab", nextTab, { text: `Next ${app.state.tabs[0]}` })] : []),
      button("Look at the picks", look, { text: `Look at the ${formatCount(numPicked, "pick")}`, class: "primary" }),
      button("Save the verdicts", () => {
        leave();
        app.exchange.save();
      }, { symbol: "save", text: "Save" }),
    );
    bar.querySelector(".primary").focus();
  }

  // ---------------------------------------------------------------- acting

  function go(by) {
    const wasDone = at >= rows.length;
    at = Math.max(0, Math.min(rows.length, at + by));
    hush();
    if (wasDone && at < rows.length) {
      fillBar();
      stage.node.focus({ preventScroll: true });
    }
    show();
  }

  /** Give a verdict and go on, unless it was taken back or the person wants to stay. */
  function act(how, ...rest) {
    let isStaying = false;
    if (rest[rest.length - 1] === "stay") {
      isStaying = true;
      rest.pop();
    }
    if (at >= rows.length) return;
    const row = rows[at];
    app.judge.judge(how, [row], ...rest);
    judged.push(at);
    if (picks.isKept()) hush(); // the bar says it; a toast would lie over the next image
    if (isStaying || !isJudged(picks.ofRow(row))) showVerdict();
    else go(1);
  }

  function undo() {
    if (!judged.length) {
      say("Nothing to undo");
      return;
    }
    app.judge.undo();
    hush();
    const back = judged.pop();
    if (at >= rows.length) fillBar();
    at = back;
    show();
  }

  function onSwipe(across, down) {
    if (Math.abs(across) > Math.abs(down)) go(across < 0 ? 1 : -1);
  }

  function onKey(event) {
    if (event.altKey) return;
    const digit = /^Digit([1-5])$/.exec(event.code); // Shift+3 is another character on every layout
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const stay = event.shiftKey ? ["stay"] : [];
    const isButton = event.target.tagName === "BUTTON";
    if (event.repeat && !key.startsWith("Arrow")) return void event.preventDefault(); // held down: once
    if ((event.ctrlKey || event.metaKey) && key === "z") undo();
    else if (event.ctrlKey || event.metaKey) return;
    else if (digit) act("rate", Number(digit[1]), ...stay);
    else if (/^[1-5]$/.test(key)) act("rate", Number(key), ...stay);
    else if (key === "f") act("favour", ...stay);
    else if (key === "x") act("reject", ...stay);
    else if (key === "u") undo();
    else if (key === "ArrowLeft") go(-1);
    else if (key === "ArrowRight" || (key === " " && !isButton)) go(1);
    else if (!stage.onKey(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  function closed() {
    dialog.remove();
    hush();
    app.relayout();
    app.cursor.setRow(rows[Math.min(at, rows.length - 1)]);
    app.grid.focus();
  }
}
