// The best of many, in rounds of nine: up to nine images at a time, of which any number may pass,
// none too. Who passes meets in the next round; the rounds that an image passed are its rank. The
// state is kept until it ends, through Esc and reload.

import { describeRow, differingAxes, hasPixels, idOf } from "./data.js";
import { button, el, hush, leaving, say } from "./dom.js";
import { memory } from "./memory.js";
import { makeStage } from "./stage.js";
import { formatCount, shortHash } from "./text.js";

const NUM_AT_ONCE = 9;

/** Begin or resume the rounds over some rows of data. */
export function openRounds(app, rows) {
  const { sheet, picks } = app;
  const drawn = [...new Map(rows.filter((row) => hasPixels(sheet, row)).map((row) => [idOf(sheet, row), row])).values()];
  const left = drawn.filter((row) => !picks.ofRow(row)?.is_reject);
  const contenders = left.length > 1 ? left : drawn; // who is out already is not asked about again
  if (contenders.length < 2) {
    say("This needs two images of one cell");
    return;
  }
  const key = `promptlab-rounds:${sheet.sheet_id}:${shortHash(contenders.map((row) => idOf(sheet, row)).sort().join())}`;
  const rowOf = (id) => sheet.rowOfImage[sheet.imageById.get(id)];
  let state = stored() || fresh();
  let chosen = new Set();
  const stage = makeStage(app, { onPick: toggle });
  const title = el("h2", { class: "lightbox-title" });
  const progress = el("p", { class: "cull-counts", role: "status" });
  const bar = el("div", { class: "cull-bar" });
  const dialog = el("dialog", { class: "lightbox rounds", "aria-label": "Best of" });
  const leave = leaving(dialog, closed);
  const close = button("Close; the rounds resume here the next time (Esc)", leave, { symbol: "close", class: "quiet close" });
  dialog.append(el("header", {}, title, progress, close), stage.node, el("footer", {}, bar));
  dialog.addEventListener("keydown", onKey);
  document.body.append(dialog);
  dialog.showModal();
  stage.node.tabIndex = 0;
  let isDone = false;
  const numScreens = () => Math.ceil(state.waiting.length / NUM_AT_ONCE);
  const group = () => state.waiting.slice(0, Math.ceil(state.waiting.length / Math.max(1, numScreens()))); // even ones
  ask();

  /** ids of images: those to ask about, those that passed, and how far each one out came. */
  function fresh() {
    return { waiting: contenders.map((row) => idOf(sheet, row)), passed: [], rank: {}, round: 1, history: [] };
  }

  function stored() {
    const kept = memory.read(key) || app.unfinishedRounds.get(key);
    return kept && kept.waiting?.every((id) => sheet.imageById.has(id)) ? kept : null;
  }

  function keep() {
    app.unfinishedRounds.set(key, state); // also where the browser keeps nothing
    memory.write(key, state);
  }

  function ask() {
    if (!state.waiting.length && !nextRound()) {
      finish();
      return;
    }
    chosen = new Set();
    const rowsShown = group().map(rowOf);
    const axes = differingAxes(sheet, contenders);
    const numbers = rowsShown.map((row, i) => (app.state.blind ? `${i + 1}` : `${i + 1} · ${describeRow(sheet, row, axes)}`));
    stage.show(rowsShown.map((row) => sheet.imageOf[row]), numbers);
    title.textContent = `Best of ${contenders.length}`;
    mark();
    stage.node.focus({ preventScroll: true });
    keep();
  }

  /** Those that passed meet again; false when there is nothing more to ask. */
  function nextRound() {
    if (state.passed.length < 2) return false;
    state = { ...state, waiting: state.passed, passed: [], round: state.round + 1 };
    return true;
  }

  function mark() {
    progress.textContent = `Round ${state.round} · ${formatCount(numScreens(), "screen")} left · ${state.passed.length} passed`;
    stage.panes().forEach((pane, i) => pane.classList.toggle("is-passing", chosen.has(i)));
    bar.replaceChildren(
      button("Back (U)", back, { symbol: "undo", text: "Back", disabled: !state.history.length }),
      button("None of these passes (0)", () => pass([]), { text: "None" }),
      button("Those that are marked pass (Enter)", () => pass([...chosen]), { text: chosen.size ? `Pass ${chosen.size}` : "1–9 or tap: who passes?", class: "primary", disabled: !chosen.size }),
      button("End here: those that passed are favourites", finish, { text: "End here", class: "quiet", disabled: !state.passed.length }),
    );
  }

  function toggle(index) {
    if (index >= group().length) return;
    if (chosen.has(index)) chosen.delete(index);
    else chosen.add(index);
    mark();
  }

  function pass(indices) {
    const ids = group();
    const { waiting, passed, rank, round } = state;
    const history = [...state.history, { waiting, passed, rank, round }].slice(-40);
    const through = [...indices].sort((a, b) => a - b).map((i) => ids[i]);
    const newRank = { ...rank };
    for (const id of ids) newRank[id] = round - (through.includes(id) ? 0 : 1);
    state = { waiting: waiting.slice(ids.length), passed: [...passed, ...through], rank: newRank, round, history };
    ask();
  }

  function back() {
    const last = state.history[state.history.length - 1];
    if (!last) return;
    state = { ...last, history: state.history.slice(0, -1) };
    ask();
  }

  // ---------------------------------------------------------------- the end

  /** Who is left is a favourite; everyone is shown by rank. */
  function finish() {
    const best = state.passed;
    const ranking = contenders.map((row) => idOf(sheet, row)).sort((a, b) => best.includes(b) - best.includes(a) || (state.rank[b] || 0) - (state.rank[a] || 0));
    const rowsBest = best.map(rowOf).filter((row) => !picks.ofRow(row)?.is_favourite);
    if (rowsBest.length) app.judge.judge("favour", rowsBest);
    hush();
    memory.write(key, null);
    app.unfinishedRounds.delete(key);
    chosen = new Set();
    const axes = differingAxes(sheet, contenders);
    const first = ranking.slice(0, NUM_AT_ONCE).map(rowOf);
    stage.show(first.map((row) => sheet.imageOf[row]), first.map((row, i) => `${i + 1} · ${describeRow(sheet, row, axes)}`));
    stage.panes().forEach((pane, i) => pane.classList.toggle("is-passing", best.includes(ranking[i])));
    title.textContent = `Best of ${contenders.length}`;
    const now = best.length > 1 ? `${best.length} are now favourites` : "now a favourite";
    progress.textContent = best.length ? `The best of ${contenders.length}: ${now}.` : "None passed: no verdict is changed.";
    bar.replaceChildren(button("Done", leave, { text: "Done", class: "primary" }));
    bar.firstChild.focus();
    state = { ...fresh(), waiting: [] };
    isDone = true;
  }

  function onKey(event) {
    if (isDone || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (/^[1-9]$/.test(key)) toggle(Number(key) - 1);
    else if (key === "0") pass([]);
    else if (key === "enter" && event.target.tagName !== "BUTTON") {
      if (chosen.size) pass([...chosen]);
    } else if (key === "u") back();
    else if (!stage.onKey(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  function closed() {
    dialog.remove();
    hush();
    app.relayout(); // the best one is the cover of its stack
    app.lightbox.update();
    if (!app.lightbox.isOpen()) app.grid.focus();
  }
}
