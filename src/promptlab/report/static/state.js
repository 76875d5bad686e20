// What the page shows, as one plain object: written to the URL's hash, so that a reload, a
// bookmark or a link sent to a friend shows the same.


export const SIZES = { min: 40, max: 640, initial: 128 };
export const MAX_CHOSEN = 12; // images side by side
const VIEW_NAMES = ["all", "unjudged", "picks", "stars", "favourites", "rejects", "failures", "flagged", "unknown", "pending", "differences"];
const PLACES = ["rows", "cols", "inner", "tabs"];
const FLAGS = ["open", "wall", "margins", "blind", "fold", "enlarged"];
const TEXTS = ["sortRows", "sortCols", "find", "heat", "at"];

export function defaultState(sheet) {
  const { rows, columns, inner, tabs, open } = sheet.defaults;
  return {
    rows: rows ? [rows] : [],
    cols: columns ? [columns] : [],
    inner: [...inner],
    tabs: [...tabs], // one value at a time
    tab: {}, // axis -> code
    open,
    wall: null, // every image with a caption, wrapped, instead of rows and columns; null: where most cells are empty
    enlarged: true, // enlarged images stand in the place of what they enlarge
    fold: false, // near duplicates as one
    hidden: {}, // axis -> Set of codes
    order: {}, // axis -> codes, in the order wanted
    sortRows: "",
    sortCols: "",
    size: 0, // px; 0: as large as the columns fit
    view: "all",
    find: "",
    heat: "",
    margins: false,
    blind: Boolean(sheet.served?.is_blind),
    theme: "",
    at: "", // image_id in the large view
    chosen: [], // image_ids, to survey or to judge together
  };
}

export function readHash(sheet, hash) {
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
  for (const place of PLACES) {
    if (query.has(place)) state[place] = axisNames(query.get(place));
  }
  for (const axis of sheet.axes) {
    const hidden = query.get(`hide.${axis.name}`);
    const order = query.get(`order.${axis.name}`);
    const [tab] = codes(axis, query.get(`tab.${axis.name}`));
    if (hidden) state.hidden[axis.name] = new Set(codes(axis, hidden));
    if (order) state.order[axis.name] = codes(axis, order);
    if (tab !== undefined) state.tab[axis.name] = tab;
  }
  for (const flag of FLAGS) if (query.has(flag)) state[flag] = query.get(flag) === "1";
  for (const name of TEXTS) state[name] = query.get(name) || "";
  const size = Number(query.get("size"));
  if (size) state.size = Math.min(SIZES.max, Math.max(SIZES.min, size));
  if (VIEW_NAMES.includes(query.get("view"))) state.view = query.get("view");
  if (["dark", "light"].includes(query.get("theme"))) state.theme = query.get("theme");
  const chosen = query.get("chosen") || query.get("compare") || "";
  state.chosen = split(chosen).filter((id) => sheet.imageById.has(id));
  if (!sheet.imageById.has(state.at)) state.at = "";
  // an axis is shown once: rows win over columns, columns over the inner grid, that over tabs
  const shown = new Set();
  for (const place of PLACES) {
    state[place] = state[place].filter((name) => !shown.has(name) && shown.add(name));
  }
  return state;
}

export function writeHash(sheet, state) {
  const initial = defaultState(sheet);
  const query = new URLSearchParams();
  for (const place of PLACES) {
    const text = join(state[place]);
    if (text !== join(initial[place])) query.set(place, text);
  }
  for (const axis of sheet.axes) {
    const hidden = state.hidden[axis.name];
    const order = state.order[axis.name];
    const tab = state.tab[axis.name];
    if (hidden && hidden.size) query.set(`hide.${axis.name}`, join([...hidden].map((code) => axis.keys[code])));
    if (order && order.length) query.set(`order.${axis.name}`, join(order.map((code) => axis.keys[code])));
    if (tab !== undefined) query.set(`tab.${axis.name}`, axis.keys[tab]);
  }
  for (const flag of FLAGS) if (state[flag] !== initial[flag]) query.set(flag, state[flag] ? "1" : "0");
  for (const name of [...TEXTS, "theme"]) {
    if (state[name]) query.set(name, state[name]);
  }
  if (state.size !== initial.size) query.set("size", state.size);
  if (state.view !== "all") query.set("view", state.view);
  if (state.chosen.length) query.set("chosen", join(state.chosen));
  return query.toString();
}

/** Where an axis is: the name of its place, "" for the stack. */
export const placeOfAxis = (state, name) => PLACES.find((place) => state[place].includes(name)) || "";

/** Put an axis into a place; what it displaces goes where the axis was. */
export function swapAxis(state, where, name) {
  const change = Object.fromEntries(PLACES.map((place) => [place, [...state[place]]]));
  const displaced = change[where][0];
  for (const other of PLACES) {
    if (other === where) continue;
    const at = change[other].indexOf(name);
    if (at < 0) continue;
    if (displaced && at === 0) change[other][at] = displaced;
    else change[other].splice(at, 1);
  }
  change[where] = name ? [name, ...change[where].slice(1).filter((each) => each !== name)] : [];
  return change;
}

/** Put an axis after those of a place; "" puts it into the stack. */
export function moveAxis(state, where, name) {
  const change = Object.fromEntries(PLACES.map((place) => [place, state[place].filter((each) => each !== name)]));
  if (where) change[where].push(name);
  return change;
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
