// The toolbar: what is shown where, which images, and how large. Chips filter and count; tabs show
// one value of an axis at a time. Controls change the state and give the keys back to the images.

import { button, byId, el, prettyText, select, userText } from "./dom.js";
import { candidateRows, tabCode, viewsOf } from "./filters.js";
import { ranks } from "./layout.js";
import { SIZES, swapAxis } from "./state.js";
import { formatCount, short } from "./text.js";

const MAX_TABS = 24; // as buttons; more are a list

export function makeToolbar(app) {
  const { sheet, picks } = app;
  const toolbar = byId("toolbar");
  const filters = byId("filters");
  const parts = {};

  const axisOptions = () => [
    ["", "nothing"],
    ...sheet.axes
      .filter((axis) => axis.values.length > 1 || ["subject", "style"].includes(axis.name))
      .map((axis) => [axis.name, `${axis.name} (${axis.values.length})`]),
  ];

  function build() {
    parts.title = userText("h1", short(sheet.title, 120), { title: short(sheet.title, 400) });
    parts.summary = el("span", { class: "summary" });
    parts.rows = select("Rows", axisOptions(), "", (name) => set(swapAxis(app.state, "rows", name)));
    parts.cols = select("Columns", axisOptions(), "", (name) => set(swapAxis(app.state, "cols", name)));
    parts.size = el("input", {
      type: "range",
      min: SIZES.min,
      max: Math.max(SIZES.max, sheet.nativeWidth),
      step: 8,
      "aria-label": "Image size",
      title: "Image size",
      oninput: () => app.setState({ size: Number(parts.size.value) }),
      onchange: app.grid.focus,
    });
    parts.open = button("Open the stacks: every candidate in its cell (O)", () => set({ open: !app.state.open }), { text: "Open stacks", class: "toggle wide-only" });
    parts.wall = button("Every image in one wall, wrapped (W)", () => set({ wall: !app.grid.layout().isUnrolled }), { text: "Wall", class: "toggle wide-only" });
    parts.enlarged = button("Enlarged images in the place of those that they enlarge (E)", () => set({ enlarged: !app.state.enlarged }), { text: "Enlarged", class: "toggle wide-only" });
    parts.cull = button("Judge all unjudged images, one after the other (A)", app.cull, { symbol: "cull", text: "Cull" });
    parts.save = button("Save the verdicts", () => app.exchange.save(), { symbol: "save", text: "Save" });
    parts.help = button("Keys (?)", app.help, { text: "?", class: "quiet wide-only" });
    parts.more = button("Settings (S)", () => app.drawer.toggle(), { symbol: "more", class: "quiet", "aria-expanded": "false", "aria-controls": "drawer" });
    parts.axes = el("div", { class: "toolbar-axes" },
      el("label", { class: "field" }, el("span", { text: "Rows" }), parts.rows),
      button("Swap rows and columns", swap, { symbol: "swap", class: "quiet" }),
      el("label", { class: "field" }, el("span", { text: "Columns" }), parts.cols),
    );
    toolbar.append(
      el("div", { class: "toolbar-title" }, parts.title, parts.summary),
      parts.axes,
      el("div", { class: "toolbar-view" }, parts.size, parts.open, parts.wall, parts.enlarged),
      el("div", { class: "toolbar-end" }, parts.cull, parts.save, parts.help, parts.more),
    );
    parts.find = el("input", { type: "search", class: "find text", dir: "auto", placeholder: matchMedia("(pointer: coarse)").matches ? "Find" : "Find  /", "aria-label": "Find in prompts", oninput: () => app.setState({ find: parts.find.value }) });
    parts.chips = el("div", { class: "chips", role: "group", "aria-label": "Which images" });
    parts.tabs = el("div", { class: "tabs", role: "tablist", "aria-label": "Values" });
    filters.append(parts.chips, parts.find, parts.tabs);
  }

  /** Change the state and give the keys back to the images. */
  function set(change) {
    app.setState(change);
    app.grid.focus();
  }

  const swap = () => set({ rows: app.state.cols, cols: app.state.rows, sortRows: app.state.sortCols, sortCols: app.state.sortRows });

  // ---------------------------------------------------------------- chips

  function fillChips() {
    const rows = candidateRows(sheet, app.state);
    const { view } = app.state;
    const chips = viewsOf(sheet, picks, sheet.pick_rating).map(({ name, label, title, test }) => {
      const count = test ? rows.filter(test).length : rows.length;
      if (!count && name !== view && !["all", "unjudged"].includes(name)) return null;
      const isStale = name === view && count !== app.grid.layout().numShown;
      const shown = isStale ? `${count.toLocaleString("en")} ↻` : count.toLocaleString("en");
      return el("button", {
        type: "button",
        class: "chip",
        "data-view": name,
        "aria-pressed": String(name === view),
        "aria-label": `${title}: ${count}`,
        title: isStale ? `${title}. The verdicts have changed: click to filter again` : title,
        onclick: () => set({ view: name }),
      }, el("span", { text: label }), el("span", { class: "chip-count", text: shown }));
    });
    parts.chips.replaceChildren(...chips.filter(Boolean));
  }

  // ---------------------------------------------------------------- tabs

  const orderOf = (axis) => {
    const rank = ranks(axis, app.state.order[axis.name]);
    return axis.values.map((_, code) => code).sort((a, b) => rank[a] - rank[b]);
  };

  function fillTabs() {
    const [name] = app.state.tabs;
    parts.tabs.hidden = !name;
    if (!name) return;
    const axis = sheet.axisByName.get(name);
    const now = tabCode(sheet, app.state, name);
    const show = (code) => set({ tab: { ...app.state.tab, [name]: code } });
    const codes = orderOf(axis);
    const list = codes.length <= MAX_TABS
      ? codes.map((code) => el("button", { type: "button", role: "tab", class: "tab", "aria-selected": String(code === now), title: `${name} ${axis.values[code]}  [ ]`, onclick: () => show(code) }, prettyText("span", axis.values[code])))
      : [select(name, codes.map((code) => [code, axis.values[code]]), now, (code) => show(Number(code)))];
    parts.tabs.replaceChildren(el("span", { class: "hint", text: name }), ...list);
  }

  /** Show the next or the previous value of the axis of tabs. */
  function stepTab(by) {
    const [name] = app.state.tabs;
    if (!name) return;
    const codes = orderOf(sheet.axisByName.get(name));
    const at = codes.indexOf(tabCode(sheet, app.state, name));
    app.setState({ tab: { ...app.state.tab, [name]: codes[(at + by + codes.length) % codes.length] } });
  }

  // ---------------------------------------------------------------- upkeep

  function update(layout) {
    const { state } = app;
    parts.rows.value = state.rows[0] || "";
    parts.cols.value = state.cols[0] || "";
    parts.axes.hidden = layout.isUnrolled || sheet.axes.every((axis) => axis.values.length < 2);
    parts.size.value = Math.round(app.grid.size().base);
    parts.open.setAttribute("aria-pressed", String(state.open && layout.maxStack > 1));
    parts.open.querySelector("span").textContent = state.open ? "Close stacks" : "Open stacks";
    parts.open.hidden = layout.maxStack < 2;
    parts.wall.setAttribute("aria-pressed", String(layout.isUnrolled));
    parts.enlarged.setAttribute("aria-pressed", String(state.enlarged));
    parts.enlarged.hidden = !sheet.hasEnlarged;
    parts.wall.hidden = layout.isWall && !layout.isUnrolled;
    const numFailed = sheet.status.filter((status) => status === 2).length;
    const shown = layout.numShown === sheet.numRows ? formatCount(sheet.numRows, "image") : `${layout.numShown.toLocaleString("en")} of ${formatCount(sheet.numRows, "image")}`;
    const failed = numFailed ? `${numFailed.toLocaleString("en")} failed` : "";
    const unknown = sheet.isAllUnknown ? "unknown words in every prompt" : "";
    parts.summary.textContent = [shown, failed, unknown].filter(Boolean).join(", ");
    if (document.activeElement !== parts.find) parts.find.value = state.find;
    document.documentElement.dataset.theme = state.theme;
    fillTabs();
    updateVerdicts();
  }

  function updateVerdicts() {
    if (app.sync) updateSync();
    else updateSave();
    fillChips();
  }

  /** On a served page verdicts are saved at once: the button says how far that is. */
  function updateSync() {
    const isWaiting = app.sync.numWaiting() > 0;
    parts.save.querySelector("span").textContent = app.sync.stateText();
    parts.save.classList.toggle("has-picks", isWaiting);
    parts.save.title = isWaiting && app.sync.trouble() ? `Not sent yet: ${app.sync.trouble()}. They are kept and sent later` : "Verdicts are kept with the run at once";
  }

  function updateSave() {
    const count = picks.numNew();
    const isLost = count > 0 && !picks.isKept();
    parts.save.querySelector("span").textContent = isLost ? `Save ${count}: not kept here` : count ? `Save ${count}` : "Save";
    parts.save.classList.toggle("has-picks", count > 0);
    parts.save.title = isLost ? "This view keeps no verdicts: save them before you close it" : "Save the verdicts";
  }

  build();
  return {
    update,
    updateVerdicts,
    stepTab,
    focusFind: () => parts.find.focus(),
    setExpanded: (isOpen) => parts.more.setAttribute("aria-expanded", String(isOpen)),
  };
}
