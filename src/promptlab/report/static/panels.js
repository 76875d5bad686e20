// Toolbar, settings drawer and the comparison tray: controls that change the state, nothing else.

function makePanels(app) {
  const { sheet, picks } = app;
  const toolbar = byId("toolbar");
  const drawer = byId("drawer");
  const tray = byId("tray");
  const parts = {};

  const axisOptions = (none) => [
    ...(none ? [["", none]] : []),
    ...sheet.axes
      .filter((axis) => axis.values.length > 1 || ["subject", "style"].includes(axis.name))
      .map((axis) => [axis.name, `${axis.name} (${axis.values.length})`]),
  ];

  // ---------------------------------------------------------------- toolbar

  function buildToolbar() {
    parts.title = userText("h1", short(sheet.title, 120), { title: short(sheet.title, 400) });
    parts.summary = el("span", { class: "summary" });
    parts.rows = select("Rows", axisOptions("nothing"), "", (name) => place("rows", name));
    parts.cols = select("Columns", axisOptions("nothing"), "", (name) => place("cols", name));
    parts.view = select("Which images", viewOptions(), "all", (view) => app.setState({ view }));
    parts.size = el("input", {
      type: "range",
      min: SIZES.min,
      max: SIZES.max,
      step: 8,
      "aria-label": "Image size",
      title: "Image size",
      oninput: () => app.setState({ size: Number(parts.size.value) }),
    });
    parts.open = button("Open the stacks: every candidate in its cell (O)", () => app.setState({ open: !app.state.open }), { text: "Open stacks", class: "toggle wide-only" });
    parts.export = button("Save the picks as picks.json", exportPicks, { symbol: "save", text: "Picks" });
    parts.more = button("Settings (S)", toggleDrawer, { symbol: "more", class: "quiet", "aria-expanded": "false", "aria-controls": "drawer" });
    toolbar.append(
      el("div", { class: "toolbar-title" }, parts.title, parts.summary),
      el("div", { class: "toolbar-axes" },
        el("label", { class: "field" }, el("span", { text: "Rows" }), parts.rows),
        button("Swap rows and columns", () => app.setState({ rows: app.state.cols, cols: app.state.rows, sortRows: app.state.sortCols, sortCols: app.state.sortRows }), { symbol: "swap", class: "quiet" }),
        el("label", { class: "field" }, el("span", { text: "Columns" }), parts.cols),
      ),
      el("div", { class: "toolbar-view" }, parts.view, parts.size, parts.open),
      el("div", { class: "toolbar-end" }, parts.export, parts.more),
    );
  }

  const viewOptions = () => VIEWS.filter(([name]) => name !== "differences" || sheet.marks);

  /** Put an axis in a place; whatever place it had gets what it displaces. */
  function place(where, name) {
    const change = { rows: [...app.state.rows], cols: [...app.state.cols], inner: [...app.state.inner] };
    const displaced = change[where][0];
    for (const other of ["rows", "cols", "inner"]) {
      if (other === where) continue;
      const at = change[other].indexOf(name);
      if (at < 0) continue;
      if (displaced && at === 0) change[other][at] = displaced;
      else change[other].splice(at, 1);
    }
    change[where] = name ? [name, ...change[where].slice(1).filter((each) => each !== name)] : [];
    app.setState(change);
  }

  /** Put an axis in one of rows, columns, the inner grid or the stack, after what is there. */
  function arrange(name, where) {
    const change = {};
    for (const other of ["rows", "cols", "inner"]) change[other] = app.state[other].filter((each) => each !== name);
    if (where) change[where] = [...change[where], name];
    app.setState(change);
  }

  // ---------------------------------------------------------------- drawer

  function toggleDrawer() {
    drawer.hidden = !drawer.hidden;
    parts.more.setAttribute("aria-expanded", String(!drawer.hidden));
    document.body.classList.toggle("has-drawer", !drawer.hidden);
    if (!drawer.hidden) {
      fillDrawer();
      drawer.querySelector("button, select, input").focus();
    }
  }

  const section = (title, ...children) => el("section", {}, el("h2", { text: title }), ...children);

  function fillDrawer() {
    if (drawer.hidden) return;
    const { state } = app;
    const metrics = metricsOf(sheet);
    const sorts = [["", "as in the sweep"], ["name", "name"], ...metrics];
    const opened = new Set([...drawer.querySelectorAll("details[open]")].map((node) => node.dataset.axis));
    const scroll = drawer.scrollTop;
    const focusName = drawer.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    drawer.replaceChildren(
      el("header", {}, el("h2", { text: "Settings" }), button("Close settings", toggleDrawer, { symbol: "close", class: "quiet" })),
      section("Find",
        el("input", { type: "search", class: "text", dir: "auto", placeholder: "words of the prompt, or an image id", "aria-label": "Find in prompts", value: state.find, oninput: (event) => app.setState({ find: event.target.value }) }),
        select("Which images", viewOptions(), state.view, (view) => app.setState({ view })),
      ),
      section("Axes", ...sheet.axes.filter((axis) => axis.values.length > 1).map((axis) => axisControl(axis, opened))),
      section("Order",
        labelled("Rows", select("Sort rows", sorts, state.sortRows, (sortRows) => app.setState({ sortRows }))),
        labelled("Columns", select("Sort columns", sorts, state.sortCols, (sortCols) => app.setState({ sortCols }))),
      ),
      section("Show",
        toggle("Every candidate in its cell", "open", "O"),
        toggle("Numbers in the margins", "margins", "M"),
        labelled("Heat map", select("Heat map", [["", "off"], ...metrics], state.heat, (heat) => app.setState({ heat }))),
        labelled("Size", el("input", { type: "range", min: SIZES.min, max: SIZES.max, step: 8, "aria-label": "Image size in settings", value: app.grid.imageSize(), oninput: (event) => app.setState({ size: Number(event.target.value) }) })),
        labelled("Colors", select("Colors", [["", "as the system"], ["dark", "dark"], ["light", "light"]], state.theme, (theme) => app.setState({ theme }))),
      ),
      section("Judge",
        toggle("Blind: hide labels until judged", "blind", "B"),
        labelled("Your name", el("input", { type: "text", class: "text", dir: "auto", "aria-label": "Your name", value: memory.read("promptlab-who") || "", onchange: (event) => memory.write("promptlab-who", event.target.value.slice(0, 200)) })),
        el("div", { class: "button-row" },
          button("Save the picks as picks.json", exportPicks, { text: "Save picks" }),
          button("Load a picks.json", importPicks, { text: "Load picks" }),
          button("Undo the last verdict (U)", app.undo, { text: "Undo" }),
        ),
      ),
      section("Keys", keyList()),
      section("About", about()),
    );
    drawer.scrollTop = scroll;
    if (focusName) [...drawer.querySelectorAll("[aria-label]")].find((node) => node.getAttribute("aria-label") === focusName)?.focus();
  }

  const labelled = (text, control) => el("label", { class: "line" }, el("span", { text }), control);

  function toggle(text, name, key) {
    const box = el("input", { type: "checkbox", "aria-label": text, onchange: () => app.setState({ [name]: box.checked }) });
    box.checked = app.state[name];
    return el("label", { class: "line" }, el("span", {}, text, key ? el("kbd", { text: key }) : ""), box);
  }

  function axisControl(axis, opened) {
    const { state } = app;
    const where = ["rows", "cols", "inner"].find((each) => state[each].includes(axis.name)) || "";
    const places = [["rows", "rows"], ["cols", "columns"], ["inner", "inside a cell"], ["", "in the stack"]];
    const hidden = state.hidden[axis.name] || new Set();
    const details = el("details", { "data-axis": axis.name },
      el("summary", {},
        userText("span", axis.name, { class: "axis-name" }),
        el("span", { class: "hint", text: hidden.size ? `${axis.values.length - hidden.size} of ${axis.values.length}` : String(axis.values.length) }),
      ),
    );
    if (opened.has(axis.name)) details.open = true;
    const fill = () => {
      if (details.querySelector(".values")) return;
      details.append(valueList(axis, hidden));
    };
    details.addEventListener("toggle", () => details.open && fill());
    if (details.open) fill();
    return el("div", { class: "axis" }, details, select(`Place of ${axis.name}`, places, where, (to) => arrange(axis.name, to)));
  }

  const MAX_VALUES = 400; // listed at once; the search finds the rest

  function valueList(axis, hidden) {
    const rank = ranks(axis, app.state.order[axis.name]);
    const codes = axis.values.map((_, code) => code).sort((a, b) => rank[a] - rank[b]);
    const setHidden = (codesHidden) => app.setState({ hidden: { ...app.state.hidden, [axis.name]: codesHidden } });
    const move = (code, by) => {
      const order = [...codes];
      const at = order.indexOf(code);
      const to = at + by;
      if (to < 0 || to >= order.length) return;
      [order[at], order[to]] = [order[to], order[at]];
      app.setState({ order: { ...app.state.order, [axis.name]: order } });
    };
    const lines = codes.slice(0, MAX_VALUES).map((code) => {
      const name = short(axis.values[code], 80);
      const box = el("input", { type: "checkbox", "aria-label": `Show ${axis.name} ${name}`, onchange: () => {
        const next = new Set(hidden);
        if (box.checked) next.delete(code);
        else next.add(code);
        setHidden(next);
      } });
      box.checked = !hidden.has(code);
      return el("li", {},
        el("label", {}, box, userText("span", name)),
        button(`Only ${name}`, () => setHidden(new Set(codes.filter((other) => other !== code))), { text: "only", class: "quiet tiny" }),
        button(`Move ${name} up`, () => move(code, -1), { symbol: "up", class: "quiet tiny" }),
        button(`Move ${name} down`, () => move(code, 1), { symbol: "down", class: "quiet tiny" }),
      );
    });
    return el("div", { class: "values" },
      el("div", { class: "button-row" },
        button(`Show all of ${axis.name}`, () => setHidden(new Set()), { text: "all", class: "quiet tiny" }),
        button(`Show none of ${axis.name}`, () => setHidden(new Set(codes)), { text: "none", class: "quiet tiny" }),
        button(`Order of the sweep for ${axis.name}`, () => app.setState({ order: { ...app.state.order, [axis.name]: [] } }), { text: "reset order", class: "quiet tiny" }),
      ),
      el("ul", {}, lines),
      codes.length > MAX_VALUES ? el("p", { class: "hint", text: `${codes.length - MAX_VALUES} more` }) : null,
    );
  }

  const KEYS = [
    ["← ↑ ↓ →", "walk along rows and columns"],
    ["Shift ← →, or , .", "walk along a cell's candidates"],
    ["Enter", "look closely"],
    ["Space", "flip in place (in the large view)"],
    ["+ − 0", "zoom"],
    ["1 … 5", "rate"],
    ["F / X / N", "favourite / reject / note"],
    ["Backspace", "clear the verdict"],
    ["U", "undo"],
    ["C / V", "collect to compare / compare"],
    ["T", "tournament of a cell"],
    ["P", "picks only"],
    ["O / M / B", "open stacks / margins / blind"],
    ["S", "settings"],
  ];

  const keyList = () => el("dl", { class: "keys" }, KEYS.flatMap(([key, text]) => [el("dt", {}, el("kbd", { text: key })), el("dd", { text })]));

  function about() {
    const facts = [];
    for (const run of sheet.runs) {
      facts.push(userText("h3", run.name));
      facts.push(el("dl", { class: "facts" }, run.facts.flatMap(([name, value]) => {
        const isDifferent = sheet.runs.length > 1 && sheet.runs.some((other) => (other.facts.find(([key]) => key === name) || [])[1] !== value);
        return [userText("dt", name), userText("dd", value, { class: isDifferent ? "is-different" : "" })];
      })));
    }
    return el("div", {}, el("p", { class: "hint", text: `Made ${sheet.made_at} by promptlab ${sheet.version}.` }), el("details", {}, el("summary", { text: "What was run" }), facts));
  }

  // ---------------------------------------------------------------- picks in and out

  function exportPicks() {
    if (!picks.numHere()) {
      say("No picks yet: 1–5 rates, F is a favourite, X rejects");
      return;
    }
    const text = picks.exportText();
    const root = sheet.runs[0].root;
    const command = `promptlab pick --import picks.json ${quoteShell(root)}`;
    const area = el("textarea", { class: "plain-text", readonly: true, value: text, "aria-label": "picks.json" });
    const link = el("a", { class: "button primary", download: "picks.json", href: URL.createObjectURL(new Blob([text], { type: "application/json" })), text: "Save picks.json" });
    const dialog = openDialog(formatCount(picks.numHere(), "pick"), [
      el("p", { text: picks.isKept() ? "Kept in this browser. To keep them with the run, save the file and hand it to promptlab:" : "This frame keeps nothing: save the picks before you close it." }),
      el("pre", { class: "command text", text: command, tabindex: 0 }),
      el("div", { class: "button-row" }, link,
        button("Copy the command", () => copyText(command, "Command"), { text: "Copy command" }),
        button("Copy picks.json", () => copyText(text, "picks.json"), { text: "Copy picks.json" }),
      ),
      area,
    ], "small");
    dialog.addEventListener("close", () => URL.revokeObjectURL(link.href));
  }

  function importPicks() {
    const input = el("input", { type: "file", accept: ".json,application/json" });
    input.addEventListener("change", async () => {
      try {
        const count = picks.importText(await input.files[0].text());
        say(`${formatCount(count, "new pick")}`);
      } catch {
        say("This is no picks.json of a contact sheet");
      }
    });
    input.click();
  }

  // ---------------------------------------------------------------- comparison tray

  function fillTray() {
    const ids = app.state.compare;
    tray.hidden = ids.length === 0;
    tray.replaceChildren(
      ...ids.map((id) => {
        const image = sheet.imageById.get(id);
        const img = el("img", { alt: "", draggable: "false" });
        app.packs.whenLoaded(image, {}, (pack) => (img.src = app.packs.thumbUrl(pack, image)));
        const isHidden = app.state.blind && !picks.isRevealed(id);
        const name = isHidden ? "this image" : describeRow(sheet, sheet.rowOfImage[image]);
        return el("button", { type: "button", class: "tray-image", "aria-label": `Take ${name} out of the comparison`, title: name, onclick: () => app.toggleCompare(id) }, img);
      }),
      button("Compare side by side (V)", () => app.compare(ids), { text: "Compare", class: "primary", disabled: ids.length < 2 }),
      button("Clear the comparison", () => app.setState({ compare: [] }, { keepsLayout: true }), { symbol: "close", class: "quiet" }),
    );
  }

  // ---------------------------------------------------------------- upkeep

  function update(layout) {
    const { state } = app;
    parts.rows.value = state.rows[0] || "";
    parts.cols.value = state.cols[0] || "";
    parts.view.value = state.view;
    parts.size.value = app.grid.imageSize();
    parts.open.setAttribute("aria-pressed", String(state.open));
    const shown = layout.numShown === sheet.numRows ? formatCount(sheet.numRows, "image") : `${layout.numShown.toLocaleString("en")} of ${formatCount(sheet.numRows, "image")}`;
    parts.summary.textContent = shown;
    parts.summary.title = `${layout.rows.length} rows × ${layout.cols.length} columns`;
    document.documentElement.dataset.theme = state.theme;
    updatePicks();
    fillTray();
  }

  function updatePicks() {
    const count = picks.numHere();
    parts.export.querySelector("span").textContent = count ? `Picks ${count}` : "Picks";
    parts.export.classList.toggle("has-picks", count > 0);
  }

  buildToolbar();
  return { update, updatePicks, fillDrawer, fillTray, toggleDrawer, isDrawerOpen: () => !drawer.hidden };
}

/** Quote a text for a POSIX shell. */
function quoteShell(text) {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
}
