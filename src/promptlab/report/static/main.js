// The page as a whole: data in, parts made, keys and state between them.

function start(source) {
  const sheet = makeSheet(source);
  const app = { sheet, state: readHash(sheet, location.hash), heatRange: null };
  app.packs = makePacks(sheet);
  app.picks = makePicks(sheet);
  app.grid = makeGrid(app);
  app.lightbox = makeLightbox(app);
  let hashTimer = 0;

  /** Change what is shown. `keepsLayout`: nothing moves in the grid. */
  app.setState = (change, { keepsLayout = false } = {}) => {
    Object.assign(app.state, change);
    clearTimeout(hashTimer);
    hashTimer = setTimeout(saveState, 120);
    if (keepsLayout) {
      app.grid.refreshVerdicts(null);
      app.panels.fillTray();
      return;
    }
    relayout();
  };

  function saveState() {
    try {
      history.replaceState(null, "", `#${writeHash(sheet, app.state)}`);
    } catch {
      /* a frame without an address of its own */
    }
  }

  function relayout() {
    const layout = computeLayout(sheet, app.picks, app.state, app.grid.roomPx());
    app.heatRange = app.state.heat ? heatRange(layout) : null;
    app.grid.reset(layout);
    app.panels.update(layout);
    app.panels.fillDrawer();
    showEmptiness(layout);
  }

  function heatRange(layout) {
    const all = [];
    for (let row = 0; row < layout.rows.length; row += 1) {
      for (let col = 0; col < layout.cols.length; col += 1) {
        const members = layout.membersAt(row, col);
        if (members.length) all.push({ value: cellMetric(sheet, app.picks, members, app.state.heat) });
      }
    }
    return rangeOf(all, "value");
  }

  function showEmptiness(layout) {
    byId("main").querySelector(".message")?.remove();
    if (layout.numShown) return;
    const text = { picks: "No picks yet. 1–5 rates, F is a favourite, X rejects.", failures: "Nothing failed.", differences: "The runs do not differ." }[app.state.view];
    byId("main").append(
      el("div", { class: "message" }, el("p", { text: text || "No image is left by these filters." }),
        button("Show all images", () => app.setState({ view: "all", find: "", hidden: {} }), { text: "Show all images" })),
    );
  }

  app.open = (row, place) => app.lightbox.open(row, place);

  /** Give a verdict: `how` is a function of picks. */
  app.judge = (how, row, ...rest) => {
    const pick = app.picks[how](idOf(sheet, row), ...rest);
    const isHidden = app.state.blind && !app.picks.isRevealed(idOf(sheet, row));
    say(`${verdictText(pick)}${isHidden ? "" : ` · ${describeRow(sheet, row)}`}`);
  };

  app.undo = () => {
    const id = app.picks.undo();
    say(id ? "Undone" : "Nothing to undo");
  };

  /** Give the verdict that a key stands for; false if it stands for none. */
  app.judgeByKey = (key, row) => {
    if ("12345".includes(key) && key.length === 1) app.judge("rate", row, Number(key));
    else if (key === "0" || key === "Backspace") app.judge("clear", row);
    else if (key === "f" || key === "F") app.judge("favour", row);
    else if (key === "x" || key === "X") app.judge("reject", row);
    else if (key === "c" || key === "C") app.toggleCompare(idOf(sheet, row));
    else if (key === "u" || key === "U") app.undo();
    else if (key === "v" || key === "V") app.compare(app.state.compare);
    else return false;
    return true;
  };

  app.toggleCompare = (id) => {
    const { compare } = app.state;
    if (compare.includes(id)) app.setState({ compare: compare.filter((other) => other !== id) }, { keepsLayout: true });
    else if (compare.length === 4) say("Four images are compared at most");
    else app.setState({ compare: [...compare, id] }, { keepsLayout: true });
    app.lightbox.update();
  };

  app.compare = (ids) => openComparison(app, ids);
  app.tournament = (rows) => openTournament(app, rows);

  app.picks.onChange((id) => {
    app.grid.refreshVerdicts(id);
    app.lightbox.update();
    app.panels.updatePicks();
    // a filtered or sorted view follows when the person comes back to it: nothing jumps away
  });

  const TOGGLES = { o: "open", m: "margins", b: "blind" };

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest && event.target.closest("input:not([type=range]):not([type=checkbox]), textarea, select");
    if (isTyping || document.querySelector("dialog[open]")) return;
    if ((event.ctrlKey || event.metaKey) && event.key === "z") {
      app.undo();
      event.preventDefault();
      return;
    }
    const isMove = event.ctrlKey && (event.key === "Home" || event.key === "End");
    if ((event.ctrlKey || event.metaKey || event.altKey) && !isMove) return;
    const isOnGrid = event.target === document.body || event.target.closest("#plane, #scroller");
    if (isOnGrid && app.grid.move(event)) event.preventDefault();
    else if (onLetter(event, isOnGrid)) event.preventDefault();
  });

  function onLetter(event, isOnGrid) {
    const key = event.key.toLowerCase();
    if (TOGGLES[key]) app.setState({ [TOGGLES[key]]: !app.state[TOGGLES[key]] });
    else if (key === "p") app.setState({ view: app.state.view === "picks" ? "all" : "picks" });
    else if (key === "s") app.panels.toggleDrawer();
    else if (key === "escape" && app.panels.isDrawerOpen()) app.panels.toggleDrawer();
    else if (key === "v") app.compare(app.state.compare);
    else if (key === "u") app.undo();
    else if (isOnGrid) return onImageKey(event, key);
    else return false;
    return true;
  }

  function onImageKey(event, key) {
    const found = app.grid.target();
    if (!found) return false;
    if (key === "enter" || key === " ") app.open(found.row, found.place);
    else if (key === "t") app.tournament(app.grid.membersAt(found.place.row, found.place.col));
    else if (key === "n") {
      app.open(found.row, found.place);
      app.lightbox.focusNote();
    } else return app.judgeByKey(event.key, found.row);
    return true;
  }

  window.addEventListener("hashchange", () => {
    Object.assign(app.state, readHash(sheet, location.hash));
    relayout();
    openFromState();
  });

  function openFromState() {
    const image = sheet.imageById.get(app.state.at);
    if (image === undefined || app.lightbox.isOpen()) return;
    app.open(sheet.rowOfImage[image], null);
  }

  app.panels = makePanels(app);
  relayout();
  openFromState();
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
    byId("main").append(el("p", { class: "message", text: "The folder sheet/ is not beside this page: copy both, or ask for a single file with promptlab report --standalone." }));
  };
  document.head.append(script);
}
