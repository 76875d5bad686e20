// Packs: thumbnails and commands of 64 images at a time, loaded when one of them comes near. They
// are inside this file as JSON, or beside it as scripts: from disk a page may load scripts and
// fetch nothing.

const MAX_LOADING = 6;
const MAX_KEPT = 320; // packs in memory, ~20,000 thumbnails; the ones longest unused go first

function makePacks(sheet) {
  const { size, names } = sheet.packs;
  const kept = new Map(); // number -> pack, in order of last use
  const waiting = new Map(); // number -> Map(token -> callback), newest last
  const loading = new Set();

  function take(number) {
    const pack = kept.get(number);
    if (pack) {
      kept.delete(number);
      kept.set(number, pack);
    }
    return pack;
  }

  function keep(number, pack) {
    kept.set(number, pack);
    if (kept.size > MAX_KEPT) kept.delete(kept.keys().next().value);
    loading.delete(number);
    const callbacks = waiting.get(number);
    waiting.delete(number);
    if (callbacks) for (const callback of callbacks.values()) callback(pack);
    pump();
  }

  function pump() {
    if (loading.size >= MAX_LOADING || waiting.size === 0) return;
    const newestFirst = [...waiting.keys()].reverse();
    for (const number of newestFirst) {
      if (loading.size >= MAX_LOADING) return;
      if (!loading.has(number)) load(number);
    }
  }

  function load(number) {
    loading.add(number);
    if (!names.length) {
      // one a task: parsing many packs in one go would hold up scrolling
      setTimeout(() => keep(number, JSON.parse(byId(`pack-${number}`).textContent)), 0);
      return;
    }
    const script = document.createElement("script");
    script.src = names[number];
    script.onload = () => script.remove();
    script.onerror = () => {
      script.remove();
      keep(number, { t: [], c: [], isMissing: true });
    };
    document.head.append(script);
  }

  window.promptlabPack = (number, pack) => keep(number, pack);

  /** Call back with the pack of an image, at once if it is here; `token` can be cancelled. */
  function whenLoaded(image, token, callback) {
    const number = Math.floor(image / size);
    const pack = take(number);
    if (pack) {
      callback(pack);
      return;
    }
    if (!waiting.has(number)) waiting.set(number, new Map());
    waiting.get(number).set(token, callback);
    token.pack = number;
    pump();
  }

  /** Forget a request that is no longer wanted: what scrolled by unseen is not loaded. */
  function cancel(token) {
    if (token.pack === undefined) return;
    const callbacks = waiting.get(token.pack);
    if (callbacks) {
      callbacks.delete(token);
      if (callbacks.size === 0 && !loading.has(token.pack)) waiting.delete(token.pack);
    }
    token.pack = undefined;
  }

  const dataUrl = (base64) => (base64 ? `data:image/webp;base64,${base64}` : "");
  const thumbUrl = (pack, image) => dataUrl(pack.t[image % size]);
  const wholeUrl = (pack, image) => dataUrl(pack.f && pack.f[image % size]);
  const commandOf = (pack, image) => pack.c[image % size] || "";

  /** URL of the PNG itself; "" where this page cannot reach it. */
  function fileUrl(image) {
    const base = sheet.runs[sheet.image.run[image]].base;
    const path = sheet.image.path[image];
    if (base === null || !path || isSandboxed) return "";
    return base + path.split("/").map(encodeURIComponent).join("/");
  }

  return { whenLoaded, cancel, thumbUrl, wholeUrl, commandOf, fileUrl, numKept: () => kept.size };
}

/** Whether this page runs in a frame without an origin, as in MLflow: no files are beside it. */
const isSandboxed = (() => {
  try {
    return window.origin === "null" && location.protocol !== "file:";
  } catch {
    return true;
  }
})();
