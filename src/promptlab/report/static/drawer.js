// The settings drawer: axes and their values, order, numbers, judging, and what was run. Controls
// change the state, nothing else.

import { agreementOfSheet } from "./agreement.js";
import { valueText } from "./data.js";
import { button, byId, el, select, userText } from "./dom.js";
import { keyList } from "./keys.js";
import { ranks } from "./layout.js";
import { metricsOf } from "./margins.js";
import { sharesOf } from "./shares.js";
import { SIZES, moveAxis, placeOfAxis } from "./state.js";
import { formatCount, formatPercent, short } from "./text.js";

const MAX_VALUES = 400; // listed at once; the search finds the rest
const PLACE_OPTIONS = [["rows", "rows"], ["cols", "columns"], ["inner", "in the cell"], ["tabs", "tabs"], ["", "stacked"]];

export function makeDrawer(app) {
  const { sheet } = app;
  const drawer = byId("drawer");

  function toggle() {
    drawer.hidden = !drawer.hidden;
    app.toolbar.setExpanded(!drawer.hidden);
    document.body.classList.toggle("has-drawer", !drawer.hidden);
    if (drawer.hidden) app.grid.focus();
    else {
      fill();
      drawer.querySelector("button").focus();
    }
  }

  const section = (title, ...children) => el("section", {}, el("h2", { text: title }), ...children);
  const labelled = (text, control) => el("label", { class: "line" }, el("span", { text }), control);

  function fill() {
    if (drawer.hidden) return;
    const { state } = app;
    const metrics = metricsOf(sheet, app.picks);
    const looks = sheet.axisByName.get("seed").values.length > 1 ? [["look", "look: similar ones side by side"]] : [];
    const sorts = [["", "as in the sweep"], ["name", "name"], ["liking", "verdict: favourites first"], ...looks, ...metrics];
    const opened = new Set([...drawer.querySelectorAll("details[open]")].map((node) => node.dataset.axis));
    const scroll = drawer.scrollTop;
    const focusName = drawer.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    drawer.replaceChildren(
      el("header", {}, el("h2", { text: "Settings" }), button("Close settings", toggle, { symbol: "close", class: "quiet" })),
      section("Axes", ...sheet.axes.filter((axis) => axis.values.length > 1).map((axis) => axisControl(axis, opened))),
      section("Order",
        labelled("Rows", select("Sort rows", sorts, state.sortRows, (sortRows) => app.setState({ sortRows }))),
        labelled("Columns", select("Sort columns", sorts, state.sortCols, (sortCols) => app.setState({ sortCols }))),
        sheet.scores.length ? labelled("Candidates", select("Score that orders candidates", sheet.scores.map(({ name }) => [name, name]), sheet.sort || "", chooseScore)) : null,
      ),
      section("Show",
        toggleOf("Every candidate in its cell", "open", "O"),
        sheet.hasEnlarged ? toggleOf("Enlarged images in place", "enlarged", "E") : null,
        app.equals.hasTwins() ? toggleOf("Near duplicates as one", "fold") : null,
        toggleOf("Numbers in the margins", "margins", "M"),
        labelled("Heat map", select("Heat map", [["", "off"], ...metrics], state.heat, (heat) => app.setState({ heat }))),
        labelled("Size", el("input", { type: "range", min: SIZES.min, max: Math.max(SIZES.max, sheet.nativeWidth), step: 8, "aria-label": "Image size in settings", value: Math.round(app.grid.size().base), oninput: (event) => app.setState({ size: Number(event.target.value) }) })),
        labelled("Colors", select("Colors", [["", "as the system"], ["dark", "dark"], ["light", "light"]], state.theme, (theme) => app.setState({ theme }))),
      ),
      section("Judge",
        toggleOf("Blind: hide labels until judged", "blind", "B"),
        labelled("Your name", el("input", { type: "text", class: "text", dir: "auto", "aria-label": "Your name", value: app.name(), onchange: (event) => app.setWho(event.target.value.slice(0, 200)) })),
        ...people(),
        el("div", { class: "button-row" },
          button("Save the verdicts as a file", () => app.exchange.save(), { text: "Save verdicts" }),
          button("Load a picks.json", () => app.exchange.load(), { text: "Load picks" }),
          button("Undo the last verdict (U)", app.judge.undo, { text: "Undo" }),
        ),
      ),
      ...(sheet.shares.length ? [section("Nearest words", ...sharesOf(sheet))] : []),
      section("Keys", keyList()),
      section("About", about()),
    );
    drawer.scrollTop = scroll;
    if (focusName) [...drawer.querySelectorAll("[aria-label]")].find((node) => node.getAttribute("aria-label") === focusName)?.focus();
  }

  /** Who judged how much, and how far they agree; nothing while one person judges alone. */
  function people() {
    const { people: judges, share, numShared } = agreementOfSheet(sheet, app.picks);
    if (judges.length < 2) return [];
    const counts = judges.map(([name, count]) => `${name || "no name"} ${count}`).join(", ");
    const agree = share === null ? "no image in common" : `they agree on ${formatPercent(share)} of the ${formatCount(numShared, "image")} that several judged`;
    return [userText("p", short(`${counts}: ${agree}`, 300), { class: "hint people" })];
  }

  function chooseScore(name) {
    sheet.sort = name;
    app.relayout();
  }

  function toggleOf(text, name, key) {
    const box = el("input", { type: "checkbox", "aria-label": text, onchange: () => app.setState({ [name]: box.checked }) });
    box.checked = app.state[name];
    return el("label", { class: "line" }, el("span", {}, text, key ? el("kbd", { text: key }) : ""), box);
  }

  function axisControl(axis, opened) {
    const hidden = app.state.hidden[axis.name] || new Set();
    const details = el("details", { "data-axis": axis.name },
      el("summary", {}, userText("span", axis.name, { class: "axis-name" }), el("span", { class: "hint", text: hidden.size ? `${axis.values.length - hidden.size} of ${axis.values.length}` : String(axis.values.length) })),
    );
    if (opened.has(axis.name)) details.open = true;
    const fillValues = () => {
      if (!details.querySelector(".values")) details.append(valueList(axis, hidden));
    };
    details.addEventListener("toggle", () => details.open && fillValues());
    if (details.open) fillValues();
    const place = select(`Place of ${axis.name}`, PLACE_OPTIONS, placeOfAxis(app.state, axis.name), (to) => app.setState(moveAxis(app.state, to, axis.name)));
    return el("div", { class: "axis" }, details, place);
  }

  function valueList(axis, hidden) {
    const rank = ranks(axis, app.state.order[axis.name]);
    const codes = axis.values.map((_, code) => code).sort((a, b) => rank[a] - rank[b]);
    const setHidden = (codesHidden) => app.setState({ hidden: { ...app.state.hidden, [axis.name]: codesHidden } });
    const setOrder = (order) => app.setState({ order: { ...app.state.order, [axis.name]: order } });
    const move = (code, by) => {
      const order = [...codes];
      const at = order.indexOf(code);
      const to = at + by;
      if (to < 0 || to >= order.length) return;
      [order[at], order[to]] = [order[to], order[at]];
      setOrder(order);
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
        el("label", { title: valueText(axis, code) }, box, userText("span", name)),
        button(`Only ${name}`, () => setHidden(new Set(codes.filter((other) => other !== code))), { text: "only", class: "quiet tiny" }),
        button(`Move ${name} up`, () => move(code, -1), { symbol: "up", class: "quiet tiny" }),
        button(`Move ${name} down`, () => move(code, 1), { symbol: "down", class: "quiet tiny" }),
      );
    });
    return el("div", { class: "values" },
      el("div", { class: "button-row" },
        button(`Show all of ${axis.name}`, () => setHidden(new Set()), { text: "all", class: "quiet tiny" }),
        button(`Show none of ${axis.name}`, () => setHidden(new Set(codes)), { text: "none", class: "quiet tiny" }),
        button(`Order of the sweep for ${axis.name}`, () => setOrder([]), { text: "reset order", class: "quiet tiny" }),
      ),
      el("ul", {}, lines),
      codes.length > MAX_VALUES ? el("p", { class: "hint", text: `${codes.length - MAX_VALUES} more` }) : null,
    );
  }

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

  return { fill, toggle, isOpen: () => !drawer.hidden };
}
