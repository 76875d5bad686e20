// What the page shows, as one plain object: written to the URL's hash, so that a reload, a
// bookmark or a link sent to a friend shows the same.

const SIZES = { min: 40, max: 384, initial: 128, largestFitting: 208 };
const VIEWS = [
  ["all", "All images"],
  ["picks", "Picks"],
  ["favourites", "Favourites"],
  ["unjudged", "Not judged yet"],
  ["rejects", "Rejects"],
  ["failures", "Failures"],
  ["differences", "Differences"],
];

const FLAGS = ["open", "margins", "blind"];

function defaultState(sheet) {
  const names = new Set(sheet.axes.map((axis) => axis.name));
  const { rows, columns } = sheet.defaults;
  return {
    rows: [rows],
    cols: [columns],
    inner: names.has("run") ? ["run"] : [],
    open: sheet.defaults.open,
    hidden: {}, // axis -> Set of codes
    order: {}, // axis -> codes, in the order wanted
    sortRows: "",
    sortCols: "",
    size: 0, // px; 0: as large as the columns fit
    view: "all",
    find: "",
    heat: "",
    margins: false,
    blind: false,
    theme: "",
    at: "", // image_id in the lightbox
    compare: [], // image_ids side by side
  };
}

function readHash(sheet, hash) {
  const state = defaultState(sheet);
  let query;
  try {
    query = new URLSearchParams(hash.replace(/^#/, ""));
  } catch {
    return state;
  }
  const axisNames = (text) => split(text).filter((name) => sheet.axisByName.has(name));
  const codes = (axis, text) =>
    split(text).map((key) => axis.keys.indexOf(key)).filter((code) => code >= 0);
  for (const place of ["rows", "cols", "inner"]) {
    if (query.has(place)) state[place] = axisNames(query.get(place));
  }
  for (const axis of sheet.axes) {
    const hidden = query.get(`hide.${axis.name}`);
    const order = query.get(`order.${axis.name}`);
    if (hidden) state.hidden[axis.name] = new Set(codes(axis, hidden));
    if (order) state.order[axis.name] = codes(axis, order);
  }
  for (const flag of FLAGS) if (query.has(flag)) state[flag] = query.get(flag) === "1";
  for (const name of ["sortRows", "sortCols", "find", "heat", "at"]) state[name] = query.get(name) || "";
  const size = Number(query.get("size"));
  if (size) state.size = Math.min(SIZES.max, Math.max(SIZES.min, size));
  const view = query.get("view");
  if (VIEWS.some(([name]) => name === view)) state.view = view;
  if (["dark", "light"].includes(query.get("theme"))) state.theme = query.get("theme");
  state.compare = split(query.get("compare") || "").filter((id) => sheet.imageById.has(id)).slice(0, 4);
  if (!sheet.imageById.has(state.at)) state.at = "";
  // an axis is shown once: rows win over columns, columns over the inner grid
  state.cols = state.cols.filter((name) => !state.rows.includes(name));
  state.inner = state.inner.filter((name) => !state.rows.includes(name) && !state.cols.includes(name));
  return state;
}

function writeHash(sheet, state) {
  const initial = defaultState(sheet);
  const query = new URLSearchParams();
  for (const place of ["rows", "cols", "inner"]) {
    const text = join(state[place]);
    if (text !== join(initial[place])) query.set(place, text);
  }
  for (const axis of sheet.axes) {
    const hidden = state.hidden[axis.name];
    const order = state.order[axis.name];
    if (hidden && hidden.size) query.set(`hide.${axis.name}`, join([...hidden].map((code) => axis.keys[code])));
    if (order && order.length) query.set(`order.${axis.name}`, join(order.map((code) => axis.keys[code])));
  }
  for (const flag of FLAGS) if (state[flag] !== initial[flag]) query.set(flag, state[flag] ? "1" : "0");
  for (const name of ["sortRows", "sortCols", "find", "heat", "at", "theme"]) {
    if (state[name]) query.set(name, state[name]);
  }
  if (state.size !== initial.size) query.set("size", state.size);
  if (state.view !== "all") query.set("view", state.view);
  if (state.compare.length) query.set("compare", join(state.compare));
  return query.toString();
}

const split = (text) => (text ? text.split(",").map((part) => decodePart(part)) : []);
const join = (parts) => parts.map((part) => encodeURIComponent(part)).join(",");

function decodePart(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Storage that outlives the page where the browser grants it, and never throws. */
const memory = {
  read(key) {
    try {
      return JSON.parse(localStorage.getItem(key) || "null");
    } catch {
      return null;
    }
  },
  write(key, value) {
    try {
      localStorage.setItem(key, JSON.stringify(value));
      return true;
    } catch {
      return false; // a sandboxed frame, private browsing, or full
    }
  },
};
