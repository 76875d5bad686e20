// Live: what is new of a run comes to its served page while it is drawn. A stream that was cut
// resumes after the last row that the page has; nothing that is looked at moves.

import { byId, el } from "./dom.js";

const REOPEN_MS = 4000; // after an answer that the browser does not ask again for
const RELOADED = "promptlab-reloaded"; // when a page of another time was loaded anew, and where it was
const MIN_RELOAD_MS = 10_000;

export function makeLive(app) {
  const { sheet } = app;
  const [address, first] = sheet.served.events.split("&from=");
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Drawn" });
  const text = el("span", { class: "live-text" });
  const node = el("div", { class: "live", role: "status", hidden: true }, text, bar);
  byId("filters").before(node);
  let numRows = first;
  let source = null;
  let arrived = []; // rows of data that the next frame shows
  let isLost = false;
  let progress = null;

  function open() {
    source = new EventSource(`${address}&from=${numRows}`);
    source.addEventListener("chunk", (event) => {
      numRows = event.lastEventId;
      const chunk = JSON.parse(event.data);
      sheet.add(chunk);
      if (!arrived.length) requestAnimationFrame(show);
      arrived.push(...chunk.row.at);
    });
    source.addEventListener("progress", (event) => {
      progress = JSON.parse(event.data);
      fill();
    });
    source.addEventListener("picks", (event) => app.sync.hear(JSON.parse(event.data)));
    source.addEventListener("reload", reload);
    source.addEventListener("open", () => {
      setLost(false);
      app.sync.retry();
    });
    source.addEventListener("error", () => {
      setLost(true);
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      source.close();
      setTimeout(open, REOPEN_MS);
    });
  }

  function setLost(isSo) {
    isLost = isSo;
    fill();
  }

  function show() {
    const rows = new Set(arrived);
    arrived = [];
    app.arrive(rows);
  }

  function fill() {
    const isDrawing = Boolean(progress?.is_drawing);
    node.hidden = !isDrawing && !isLost;
    node.classList.toggle("is-lost", isLost);
    bar.hidden = !isDrawing;
    if (progress) {
      bar.max = progress.num_images;
      bar.value = progress.num_drawn;
    }
    text.textContent = [isLost ? "No connection: trying again" : "", isDrawing ? progressText(progress) : ""].filter(Boolean).join(" · ");
    document.title = isDrawing ? `(${progress.num_drawn}/${progress.num_images}) ${sheet.title}` : sheet.title;
  }

  /** The server has begun anew: its numbers mean other rows now. The page stays where it is scrolled. */
  function reload() {
    source.close();
    const last = JSON.parse(sessionStorage.getItem(RELOADED) || "{}");
    const { scrollTop: top, scrollLeft: left } = byId("scroller");
    sessionStorage.setItem(RELOADED, JSON.stringify({ at: Date.now(), top, left }));
    setTimeout(() => location.reload(), Date.now() - last.at < MIN_RELOAD_MS ? MIN_RELOAD_MS : 0);
  }

  const { at, top, left } = JSON.parse(sessionStorage.getItem(RELOADED) || "{}");
  if (Date.now() - at < MIN_RELOAD_MS) byId("scroller").scrollTo(left, top);
  window.addEventListener("offline", () => setLost(true));
  window.addEventListener("online", () => setLost(source.readyState !== EventSource.OPEN));
  open();
  return { isLost: () => isLost };
}

/** How far a run is, for people: "12 of 40 · 2.4 images/s · 3 min left". */
export function progressText({ num_drawn: numDrawn, num_images: numImages, images_s: speed, eta_s: eta }) {
  const parts = [`${numDrawn.toLocaleString("en")} of ${numImages.toLocaleString("en")}`];
  if (speed) parts.push(speed >= 1 ? `${speed.toFixed(1)} images/s` : `${(1 / speed).toFixed(1)} s an image`);
  if (eta) parts.push(`${durationText(eta)} left`);
  return parts.join(" · ");
}

function durationText(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
