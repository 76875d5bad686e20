// The form: subjects, a whole prompt or a pasted line; styles, template, seeds and model; and what
// the plan says of it before it is sent. What was typed outlives the page.

import { button, el, select, userText } from "./dom.js";
import { memory } from "./memory.js";
import { send } from "./outbox.js";

const KEY = "promptlab-compose";
const PLAN_MS = 500; // after the last change
const MODES = [["subject", "Subject"], ["prompt", "Whole prompt"], ["line", "Line"]];
const HINTS = {
  subject: "a fox reading a map\n(one subject a line)",
  prompt: "the prompt as the model is to read it",
  line: "promptlab sweep -m subject='a fox,a robot' style=… seeds=4",
};
const SEEDS = [1, 2, 3, 4, 6, 8, 9, 12, 16, 24, 32, 48, 64, 96, 128];

export function makeCompose(form, app) {
  const state = { mode: "subject", texts: {}, styles: [], template: "", model: "", seeds: 4, ...memory.read(KEY) };
  let choices = null;
  let plan = null; // what the server says of the wish as it is
  let timer = 0;
  let asked = 0; // number of the plan that is asked for

  const modes = el("div", { class: "modes", role: "group", "aria-label": "What to draw" });
  const words = el("textarea", { class: "words text", dir: "auto", "aria-label": "What to draw", rows: 3, spellcheck: "true", autocapitalize: "off", oninput: () => change({ texts: { ...state.texts, [state.mode]: words.value } }, { isTyping: true }) });
  const styles = el("div", { class: "styles", role: "group", "aria-label": "Styles" });
  const settings = el("div", { class: "settings" });
  const told = el("p", { class: "plan", role: "status" });
  const draw = el("button", { type: "submit", class: "primary draw" });
  form.append(modes, words, styles, settings, told, draw);
  form.addEventListener("submit", submit);

  function change(changes, { isTyping = false } = {}) {
    Object.assign(state, changes);
    memory.write(KEY, state);
    if (!isTyping) fill();
    askForPlan();
  }

  // ---------------------------------------------------------------- the wish

  const text = () => (state.texts[state.mode] || "").trim();

  /** What is asked for; null while there is nothing to draw. */
  function wish() {
    if (!text()) return null;
    if (state.mode === "line") return { line: text() };
    const common = { seeds: state.seeds, ...(state.model ? { model: state.model } : {}) };
    if (state.mode === "prompt") return { prompt: text(), ...common };
    const subject = text().split("\n").map((line) => line.trim()).filter(Boolean);
    return {
      subject,
      ...(state.styles.length ? { style: state.styles } : {}),
      ...(state.template ? { template: state.template } : {}),
      ...common,
    };
  }

  function askForPlan() {
    clearTimeout(timer);
    plan = null;
    asked += 1;
    fillPlan("");
    if (wish()) timer = setTimeout(makePlan, PLAN_MS, asked);
  }

  async function makePlan(number) {
    fillPlan("Planning …");
    try {
      const answer = await send("/api/plan", { wish: wish() });
      if (number !== asked) return;
      plan = answer;
      fillPlan(planText(answer));
    } catch (error) {
      if (number !== asked) return;
      fillPlan(error.status ? error.message : "No connection: it is planned and drawn later", Boolean(error.status) && error.status !== 429);
    }
  }

  function submit(event) {
    event.preventDefault();
    const wanted = wish();
    if (!wanted) {
      words.focus();
      return;
    }
    app.wish(wanted);
    words.blur();
    change({ texts: { ...state.texts, [state.mode]: "" } });
  }

  // ---------------------------------------------------------------- showing

  function fillPlan(message, isRefused = false) {
    told.textContent = message;
    told.classList.toggle("is-refused", isRefused);
    draw.textContent = plan ? `Draw ${plan.num_images.toLocaleString("en")}` : "Draw";
    draw.disabled = !wish() || isRefused;
  }

  function fill() {
    modes.replaceChildren(...MODES.map(([mode, label]) => button(label, () => change({ mode }), { text: label, "aria-pressed": String(state.mode === mode) })));
    words.placeholder = HINTS[state.mode];
    words.classList.toggle("is-code", state.mode === "line");
    if (words.value !== (state.texts[state.mode] || "")) words.value = state.texts[state.mode] || "";
    styles.hidden = state.mode !== "subject" || !choices;
    settings.hidden = state.mode === "line";
    if (choices) fillChoices();
  }

  function fillChoices() {
    const toggle = (name) => change({ styles: state.styles.includes(name) ? state.styles.filter((each) => each !== name) : [...state.styles, name] });
    const scroll = styles.scrollTop;
    styles.replaceChildren(...choices.styles.map(({ name, pattern, about }) =>
      el("button", { type: "button", class: "chip", "aria-pressed": String(state.styles.includes(name)), title: about || pattern, onclick: () => toggle(name) }, userText("span", name.replaceAll("_", " ")))));
    styles.scrollTop = scroll;
    const seedAt = (by) => SEEDS[Math.max(0, Math.min(SEEDS.length - 1, SEEDS.findIndex((count) => count >= state.seeds) + by))];
    const named = (list) => list.map(({ name }) => [name, name]);
    settings.replaceChildren(
      el("span", { text: "Seeds" }),
      el("div", { class: "stepper" },
        button("Fewer seeds", () => change({ seeds: seedAt(-1) }), { text: "−" }),
        el("output", { text: state.seeds, "aria-label": "Seeds" }),
        button("More seeds", () => change({ seeds: seedAt(1) }), { text: "+" }),
      ),
      el("span", { text: "Model" }),
      select("Model", [["", `${choices.default.model || "default"} (default)`], ...named(choices.models.filter((model) => !model.enlarges && model.name !== choices.default.model))], state.model, (model) => change({ model })),
      ...(state.mode === "subject" ? [
        el("span", { text: "Template" }),
        select("Template", [["", `${choices.default.template || "plain"} (default)`], ...named(choices.templates.filter(({ name }) => name !== choices.default.template))], state.template, (template) => change({ template })),
      ] : []),
    );
  }

  /** The connection is there: take what may be chosen. */
  function connect(offered) {
    choices = offered;
    form.hidden = offered.role !== "run";
    if (form.hidden) return;
    const known = new Set(choices.styles.map(({ name }) => name));
    state.styles = state.styles.filter((name) => known.has(name));
    if (!choices.models.some(({ name }) => name === state.model)) state.model = "";
    if (!choices.templates.some(({ name }) => name === state.template)) state.template = "";
    fill();
    if (!plan) askForPlan();
  }

  /** Put a line into the form, to be changed and drawn. */
  function edit(line) {
    change({ mode: "line", texts: { ...state.texts, line } });
    form.scrollIntoView({ block: "start" });
    words.focus();
  }

  fill();
  fillPlan("");
  return { connect, edit };
}

/** The plan in words: how many images, of how many cells, and how many are drawn already. */
function planText({ num_images: numImages, num_cells: numCells, num_pending: numPending, prompts }) {
  const counts = [`${numImages.toLocaleString("en")} images in ${numCells.toLocaleString("en")} cell${numCells === 1 ? "" : "s"}`];
  if (numPending < numImages) counts.push(`${(numImages - numPending).toLocaleString("en")} of them drawn before`);
  return `${counts.join(", ")}\n${prompts.slice(0, 2).join("\n")}${prompts.length > 2 ? "\n…" : ""}`;
}
