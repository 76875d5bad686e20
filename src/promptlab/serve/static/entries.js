// The entries of the queue: what is drawn with its bar and newest images, what waits and its order,
// what has ended; and what waits on this device for a connection.

import { button, el, userText } from "./dom.js";
import { short } from "./text.js";

const NEWEST_MS = 2500; // between two looks at the images of one run
const GROUPS = [["drawing", "Drawing"], ["waiting", "Waiting"], ["ended", "Ended"]];
const MAX_ENDED = 40;
const WRITTEN = `=(?:'([^']*)'|"([^"]*)"|(\\S+))`; // a value in a line for a shell

export function makeEntries(node, app) {
  const cards = new Map(); // entry_id -> card
  const opened = new Set(); // entry_ids whose line is shown whole
  const unsent = el("div", { class: "entries" });
  const sections = new Map(GROUPS.map(([name, title]) => [name, { title: el("h2", { text: title }), list: el("div", { class: "entries" }) }]));
  const nothing = el("p", { class: "nothing", text: "Nothing is queued. Type a subject and draw." });
  const runs = el("ul", { class: "runs" });
  const allRuns = el("details", { ontoggle: () => allRuns.open && listRuns() }, el("summary", { text: "All runs" }), runs);
  node.append(unsent, nothing, ...[...sections.values()].flatMap(({ title, list }) => [title, list]), allRuns);

  const groupOf = ({ status }) => (status === "drawing" || status === "waiting" ? status : "ended");

  function fill() {
    const entries = app.entries();
    const waitingHere = app.unsent();
    unsent.replaceChildren(...waitingHere.map(unsentCard));
    nothing.hidden = entries.length + waitingHere.length > 0;
    const known = new Set(entries.map((entry) => entry.entry_id));
    for (const [id, card] of cards) {
      if (known.has(id)) continue;
      card.node.remove();
      cards.delete(id);
    }
    for (const [name, { title, list }] of sections) {
      const group = entries.filter((entry) => groupOf(entry) === name).slice(0, name === "ended" ? MAX_ENDED : undefined);
      title.hidden = !group.length;
      const nodes = group.map((entry, i) => cardOf(entry, group, i));
      if (nodes.length !== list.children.length || nodes.some((each, i) => list.children[i] !== each)) list.replaceChildren(...nodes);
    }
  }

  /** The card of an entry, made once; what changed is shown in it. */
  function cardOf(entry, group, place) {
    let card = cards.get(entry.entry_id);
    if (!card) {
      card = { node: el("article", { class: "entry" }), text: "", thumbs: el("div", { class: "thumbs", hidden: true }), ids: "", bar: el("progress", { "aria-label": "Drawn" }), lookedAt: 0 };
      cards.set(entry.entry_id, card);
    }
    const text = JSON.stringify([entry, place, group.length, opened.has(entry.entry_id), app.mayRun()]);
    if (text !== card.text) {
      card.text = text;
      card.entry = entry;
      card.status = el("span", { class: "entry-status", text: statusText(entry) });
      card.node.className = `entry is-${entry.status}`;
      card.bar.hidden = entry.status !== "drawing";
      card.bar.max = entry.num_pending || entry.num_images || 1;
      card.bar.value = entry.num_drawn;
      card.node.replaceChildren(
        el("div", { class: "entry-head" }, userText("span", titleOf(entry), { class: "entry-title" }), card.status),
        card.bar,
        card.thumbs,
        lineOf(entry),
        ...(entry.error ? [userText("p", short(entry.error, 2000), { class: "entry-error" })] : []),
        el("div", { class: "entry-actions" }, actionsOf(entry, group, place)),
      );
    }
    look(card);
    return card.node;
  }

  function lineOf(entry) {
    const isOpen = opened.has(entry.entry_id);
    const toggle = () => {
      if (isOpen) opened.delete(entry.entry_id);
      else opened.add(entry.entry_id);
      fill();
    };
    return userText("p", entry.line, { class: `entry-line${isOpen ? " is-open" : ""}`, dir: "ltr", title: "The command of this entry", onclick: toggle });
  }

  function actionsOf(entry, group, place) {
    const address = entry.run ? urlOfRun(entry.run) : "";
    const hasImages = address && entry.num_drawn + (entry.num_images || 0) > 0;
    const isOpen = groupOf(entry) !== "ended";
    const link = hasImages && entry.status !== "waiting" ? el("a", { class: "button primary", href: address, text: entry.status === "drawing" ? "Watch" : "Open" }) : null;
    if (!app.mayRun()) return [link].filter(Boolean);
    return [
      link,
      entry.status === "waiting" && place > 0 ? button("Draw it before the one above", () => app.act(entry, "move", { before: group[place - 1].entry_id }), { symbol: "up" }) : null,
      entry.status === "waiting" && place < group.length - 1 ? button("Draw it after the one below", () => app.act(group[place + 1], "move", { before: entry.entry_id }), { symbol: "down" }) : null,
      isOpen ? button("Cancel", once(() => app.act(entry, "cancel")), { text: entry.is_cancelling ? "Cancelling" : "Cancel", disabled: entry.is_cancelling }) : null,
      button("Put its line into the form", () => app.edit(entry.line), { text: "Edit" }),
      isOpen ? null : button("Draw it again with other seeds", () => app.act(entry, "again"), { text: "Other seeds" }),
    ].filter(Boolean);
  }

  function unsentCard({ client_id: clientId, wish, refused }) {
    const title = wish.line || wish.prompt || wish.subject.join(", ");
    return el("article", { class: "entry is-unsent" },
      el("div", { class: "entry-head" }, userText("span", short(title, 200), { class: "entry-title" }), el("span", { class: "entry-status", text: refused ? "refused" : "not sent yet" })),
      ...(refused ? [userText("p", short(refused, 1000), { class: "entry-error" })] : []),
      el("div", { class: "entry-actions" }, button("Discard", once(() => app.discard(clientId)), { text: "Discard" })),
    );
  }

  // ---------------------------------------------------------------- the newest images

  /** Show a run's newest images, asked for now and then while it is drawn, and once it has ended. */
  async function look(card) {
    const { entry } = card;
    const isDue = Date.now() - card.lookedAt > NEWEST_MS;
    const isOver = card.seenStatus === entry.status && entry.status !== "drawing";
    if (!entry.run || entry.status === "waiting" || isOver || !isDue) return;
    card.lookedAt = Date.now();
    card.seenStatus = entry.status;
    const address = urlOfRun(entry.run);
    try {
      const { image_ids: ids, progress } = await (await fetch(`${address}newest`)).json();
      fillThumbs(card, address, ids || []);
      if (progress?.images_s && entry.status === "drawing") card.status.textContent = `${statusText(entry)} · ${speedText(progress)}`;
    } catch {
      /* shown at the next look */
    }
  }

  function fillThumbs(card, address, ids) {
    if (ids.join() === card.ids) return;
    card.ids = ids.join();
    card.thumbs.hidden = !ids.length;
    const shown = new Map([...card.thumbs.children].map((img) => [img.dataset.id, img]));
    card.thumbs.replaceChildren(...ids.map((id) => shown.get(id) || thumbnail(card, `${address}thumbnails/${id}.webp`, id)));
  }

  /** One small image; without a connection it is asked for again at a later look. */
  function thumbnail(card, src, id) {
    const img = el("img", { alt: "", loading: "lazy", "data-id": id, src });
    img.addEventListener("error", () => {
      img.remove();
      Object.assign(card, { ids: "", seenStatus: "" });
    });
    return img;
  }

  /** List all runs of the server's folder, those of a shell included. */
  async function listRuns() {
    try {
      const { runs: names } = await (await fetch("/runs/")).json();
      runs.replaceChildren(...names.map((name) => el("li", {}, el("a", { href: urlOfRun(name), class: "text", text: short(name, 200) }))));
    } catch {
      runs.replaceChildren(el("li", { text: "No connection" }));
    }
  }

  setInterval(() => cards.forEach(look), NEWEST_MS);
  return { fill };
}

/** What the first click of a double click does: by the second, another entry may be under the pointer. */
const once = (how) => (event) => event.detail < 2 && how();

const urlOfRun = (name) => `/runs/${encodeURIComponent(name)}/`;

const speedText = ({ images_s: speed, eta_s: eta }) =>
  [speed >= 1 ? `${speed.toFixed(1)}/s` : `${(1 / speed).toFixed(1)} s each`, eta ? `${eta < 90 ? `${eta} s` : `${Math.round(eta / 60)} min`} left` : ""].filter(Boolean).join(" · ");

/** What an entry is of, for people: its subject, else its name, else its line. */
function titleOf({ line }) {
  const valueOf = (key) => new RegExp(`(?:^|\\s)${key}${WRITTEN}`).exec(line)?.slice(1).find(Boolean);
  const subject = valueOf("subject") || valueOf("name")?.replaceAll("_", " ");
  return short(subject ? subject.replace(/^'|'$|\\?"/g, "").replace(/,(?! )/g, ", ") : line.replace(/^promptlab sweep /, ""), 200);
}

function statusText({ status, num_drawn: numDrawn, num_pending: numPending, num_images: numImages, num_failed: numFailed, is_cancelling: isCancelling }) {
  const total = (numPending ?? numImages)?.toLocaleString("en") ?? "?";
  if (status === "waiting") return `${total} images`;
  const failed = numFailed ? `, ${numFailed} failed` : "";
  if (status === "drawing") return `${isCancelling ? "cancelling, " : ""}${numDrawn} of ${total}${failed}`;
  return `${status}${status === "done" ? ` · ${(numImages ?? 0).toLocaleString("en")}` : ""}${failed}`;
}
