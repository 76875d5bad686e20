// The page as a whole: data in, parts made, state and keys between them.

import { makeAct, queueButton } from "./act.js";
import { makeBlind } from "./blind.js";
import { openCull } from "./cull.js";
import { makeCursor } from "./cursor.js";
import { idOf, makeSheet } from "./data.js";
import { button, byId, el } from "./dom.js";
import { makeDrafts } from "./drafts.js";
import { makeDrawer } from "./drawer.js";
import { makeEquals } from "./equals.js";
import { makeExchange } from "./exchange.js";
import { takePressesOnce } from "./gestures.js";
import { makeGrid } from "./grid.js";
import { makeHeads } from "./heads.js";
import { makeHint } from "./hint.js";
import { makeHoverBar, makeJudge } from "./judge.js";
import { listenToKeys, openHelp } from "./keys.js";
import { computeLayout } from "./layout.js";
import { makeLightbox } from "./lightbox.js";
import { makeLive } from "./live.js";
import { cellStats, rangeOf } from "./margins.js";
import { memory } from "./memory.js";
import { makePacks } from "./packs.js";
import { makePageFlip } from "./pageflip.js";
import { makePicks } from "./picks.js";
import { openRounds } from "./rounds.js";
import { makeSelection } from "./selection.js";
import { readHash, writeHash } from "./state.js";
import { openSurvey } from "./survey.js";
import { makeSync, signature } from "./sync.js";
import { makeToolbar } from "./toolbar.js";
import { makeTray } from "./tray.js";

function start(source) {
  const sheet = makeSheet(source);
  const storageKey = `promptlab-picks:${sheet.sheet_id}`;
  const app = { sheet, state: readHash(sheet, location.hash), heatRange: null, unfinishedRounds: new Map() };
  const { served } = sheet;
  let who = memory.read("promptlab-who") || ""; // also where the browser keeps nothing
  app.name = () => who;
  app.who = () => (served ? signature(served, who) : who);
  app.setWho = (name) => {
    who = name;
    memory.write("promptlab-who", name);
    app.relayout();
  };
  app.packs = makePacks(sheet);
  window.addEventListener("pagehide", () => app.lightbox.commitNote()); // before what waits is sent
  app.sync = served ? makeSync(sheet, { onState: () => app.toolbar.updateVerdicts(), picks: () => app.picks, who: () => app.who() }) : null;
  app.picks = makePicks(sheet, {
    kept: app.sync ? app.sync.kept : memory.read(storageKey) || [],
    save: app.sync ? app.sync.save : (verdicts) => memory.write(storageKey, verdicts),
    who: () => app.who(),
    isSent: Boolean(app.sync),
  });
  app.equals = makeEquals(sheet);
  app.blind = makeBlind(app);
  app.drafts = makeDrafts(sheet, app.picks);
  app.act = served?.role === "run" ? makeAct(app) : null;
  app.heads = makeHeads(app);
  app.grid = makeGrid(app);
  app.pageFlip = makePageFlip(app);
  app.judge = makeJudge(app);
  app.hoverBar = makeHoverBar(app);
  app.selection = makeSelection(app);
  app.cursor = makeCursor(app);
  app.lightbox = makeLightbox(app);
  app.cull = () => openCull(app);
  app.survey = (rows) => openSurvey(app, rows);
  app.rounds = (rows) => openRounds(app, rows);
  app.open = (row, place) => app.lightbox.open(row, place);
  app.help = openHelp;
  app.exchange = makeExchange(app);
  app.toolbar = makeToolbar(app);
  app.drawer = makeDrawer(app);
  app.tray = makeTray(app);
  app.hint = makeHint(app);
  let hashTimer = 0;

  /** Change what is shown. `keepsLayout`: nothing moves in the grid. */
  app.setState = (change, { keepsLayout = false } = {}) => {
    Object.assign(app.state, change);
    clearTimeout(hashTimer);
    hashTimer = setTimeout(saveState, 120);
    if (!keepsLayout) {
      app.relayout();
      return;
    }
    app.grid.refreshVerdicts(null);
    app.tray.fill();
    app.lightbox.update();
  };

  function saveState() {
    try {
      history.replaceState(null, "", `#${writeHash(sheet, app.state)}`);
    } catch {
      /* a frame without an address of its own */
    }
  }

  /** The image that is shown for one: the enlarged one in its place, if there is one. */
  app.pictureOf = (image) => {
    const enlarged = app.state.enlarged ? sheet.image.enlarged[image] : -1;
    return enlarged >= 0 ? enlarged : image;
  };

  /** Show rows of data that were drawn just now; what is looked at stays where it is. */
  app.arrive = (rows) => {
    const shown = app.grid.allMembers(); // also what was judged since
    const layout = computeLayout(sheet, app.picks, app.state, app.grid.roomPx(), (row) => shown.has(row));
    app.heatRange = app.state.heat ? heatRange(layout) : null;
    app.cursor.stayWhile(() => app.grid.update(layout));
    app.toolbar.update(layout);
    fillDrawer();
    app.lightbox.arrive(rows);
    showEmptiness(layout);
  };

  function fillDrawer() {
    if (!byId("drawer").contains(document.activeElement)) app.drawer.fill(); // a name may be half typed
  }

  app.relayout = () => {
    app.pageFlip.stop();
    const layout = computeLayout(sheet, app.picks, app.state, app.grid.roomPx());
    app.heatRange = app.state.heat ? heatRange(layout) : null;
    app.grid.reset(layout);
    app.cursor.follow();
    app.toolbar.update(layout);
    app.drawer.fill();
    app.tray.fill();
    showEmptiness(layout);
  };

  function heatRange(layout) {
    const all = [];
    for (let row = 0; row < layout.rows.length; row += 1) {
      for (let col = 0; col < layout.cols.length; col += 1) {
        const members = layout.membersAt(row, col);
        if (members.length) all.push(cellStats(sheet, app.picks, members));
      }
    }
    return rangeOf(sheet, all, app.state.heat);
  }

  function showEmptiness(layout) {
    byId("main").querySelector(".message")?.remove();
    if (layout.numShown) return;
    const texts = { picks: "No picks yet. 1–5 rates, F is a favourite, X rejects.", unjudged: "Every image is judged.", failures: "Nothing failed.", differences: "The runs do not differ." };
    byId("main").append(
      el("div", { class: "message" }, el("p", { text: texts[app.state.view] || "No images match these filters." }),
        button("Show all images", () => app.setState({ view: "all", find: "", hidden: {} }), { text: "Show all images" })),
    );
  }

  /** The best not rejected candidate is on top of every closed stack; a dialog's order stays. */
  app.settle = (ids) => {
    if (document.querySelector("dialog[open]")) return;
    app.grid.settle(ids);
    app.heatRange = app.state.heat ? heatRange(app.grid.layout()) : null;
    app.grid.recount();
    app.cursor.settle();
    fillDrawer();
  };

  app.picks.onChange((ids, isHeard = false) => {
    app.grid.refreshVerdicts(ids);
    app.settle(isHeard ? ids.filter((id) => !app.cursor.isBeside(id)) : ids); // the ring's image stays
    app.lightbox.update();
    app.toolbar.updateVerdicts();
    app.hint.drop();
    // a filtered or sorted view follows when the person comes back to it: nothing jumps away
  });

  byId("plane").addEventListener("click", (event) => {
    const slot = event.target.closest(".slot");
    if (!slot?.place || app.selection.tookClick()) return;
    app.cursor.setImage(slot.place);
    app.grid.focus();
    const row = app.pageFlip.rowShownFor(app.cursor.row());
    if (event.ctrlKey || event.metaKey || event.shiftKey) app.selection.toggle([idOf(sheet, row)]);
    else app.open(row, slot.place);
  });

  // a control keeps the keys only while it is used; who walks the settings by Tab stays there
  let isByMouse = false;
  document.addEventListener("pointerdown", () => (isByMouse = true), { capture: true });
  document.addEventListener("keydown", () => (isByMouse = false), { capture: true });
  for (const bar of ["toolbar", "filters", "drawer"]) {
    byId(bar).addEventListener("change", (event) => {
      if (event.target.matches("select, input[type=checkbox]") && (isByMouse || bar !== "drawer")) app.grid.focus();
    });
    byId(bar).addEventListener("click", (event) => {
      if (isByMouse && event.target.closest("button, input[type=range]") && !document.querySelector("dialog[open]")) app.grid.focus();
    });
  }

  takePressesOnce();
  listenToKeys(app);
  window.addEventListener("hashchange", () => {
    Object.assign(app.state, readHash(sheet, location.hash));
    app.relayout();
    openFromState();
  });

  function openFromState() {
    const image = sheet.imageById.get(app.state.at);
    if (image === undefined || app.lightbox.isOpen()) return;
    app.open(sheet.rowOfImage[image], null);
  }

  app.relayout();
  openFromState();
  app.grid.focus();
  if (served) {
    byId("toolbar").firstChild.prepend(queueButton());
    makeLive(app);
  }
  window.promptlabGrid = { numLive: app.grid.numLive, numPacks: app.packs.numKept }; // for measuring
  document.documentElement.dataset.ready = "1";
}

const inside = byId("sheet-data");
if (inside) start(JSON.parse(inside.textContent));
else {
  window.promptlabSheet = start;
  const script = document.createElement("script");
  script.src = document.body.dataset.sheet;
  script.onerror = () => {
    const isServed = location.protocol.startsWith("http");
    byId("main").append(el("p", { class: "message", text: isServed ? "The server does not send this run's data: load the page again." : "The folder sheet/ is not beside this page: copy both, or ask for a single file with promptlab report --standalone." }));
  };
  document.head.append(script);
}
