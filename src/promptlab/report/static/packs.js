// Packs: thumbnails and commands of some images at a time, loaded when one of them comes near. They
// are inside this file as JSON, or beside it as scripts: from disk a page may load scripts and
// fetch nothing. A server makes them of the images asked for.

import { byId } from "./dom.js";

const MAX_LOADING = 6;
const MAX_DECODED = 24; // whole images kept decoded
const RETRY_MS = 3000; // after a pack that the server did not send
const MAX_KEPT = 320; // packs in memory, ~20,000 thumbnails; the ones longest unused go first

export function makePacks(sheet) {
  const packOfImage = []; // image -> number of its pack
  const placeInPack = []; // image -> its place there
  let numKnown = 0; // packs
  const kept = new Map(); // number -> pack, in order of last use
  const waiting = new Map(); // number -> Map(token -> callback), newest last
  const loading = new Set();

  /** The number of an image's pack; of several, the newest. */
  function packOf(image) {
    for (; numKnown < sheet.packs.length; numKnown += 1) {
      imagesOf(numKnown).forEach((image, place) => {
        packOfImage[image] = numKnown;
        placeInPack[image] = place;
      });
    }
    return packOfImage[image];
  }

  function imagesOf(number) {
    const [first, count] = sheet.packs[number];
    return Array.isArray(first) ? first : Array.from({ length: count }, (_, i) => first + i);
  }

  /** Where a pack is, beside this page or on its server; "" for one inside. */
  function urlOf(number) {
    if (!sheet.served) return sheet.packs[number][2];
    return `${sheet.served.pack}/${number}.js?ids=${imagesOf(number).map((image) => sheet.image.id[image]).join(",")}`;
  }

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
    const name = urlOf(number);
    if (!name) {
      // one a task: parsing many packs in one go would hold up scrolling
      setTimeout(() => keep(number, JSON.parse(byId(`pack-${number}`).textContent)), 0);
      return;
    }
    const script = document.createElement("script");
    script.src = name;
    script.onload = () => script.remove();
    script.onerror = () => {
      script.remove();
      if (!sheet.served) keep(number, { t: [], c: [], isMissing: true });
      else setTimeout(() => (loading.delete(number), pump()), RETRY_MS);
    };
    document.head.append(script);
  }

  window.promptlabPack = (number, pack) => keep(number, pack);

  /** Call back with the pack of an image, at once if it is here; `token` can be cancelled. */
  function whenLoaded(image, token, callback) {
    const number = packOf(image);
    if (number === undefined) return; // not drawn yet
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
  const placeOf = (image) => placeInPack[image];
  const thumbUrl = (pack, image) => dataUrl(pack.t[placeOf(image)]);
  const wholeUrl = (pack, image) => dataUrl(pack.f && pack.f[placeOf(image)]);
  const commandOf = (pack, image) => pack.c[placeOf(image)] || "";

  /** URL of the PNG itself; "" where this page cannot reach it. */
  function fileUrl(image) {
    const base = sheet.runs[sheet.image.run[image]].base;
    const path = sheet.image.path[image];
    if (base === null || !path || isSandboxed) return "";
    return base + path.split("/").map(encodeURIComponent).join("/");
  }

  const decoded = new Map(); // URL -> promise of the decoded element, null if it failed; in order of use
  const ready = new Set(); // URLs that are decoded

  /** Decode a whole image ahead of its being shown. */
  function decode(url) {
    if (!decoded.has(url)) {
      const img = new Image();
      img.src = url;
      decoded.set(url, img.decode().then(() => (ready.add(url), img), () => (decoded.delete(url), null)));
      if (decoded.size > MAX_DECODED) {
        const [oldest] = decoded.keys();
        decoded.delete(oldest);
        ready.delete(oldest);
      }
    }
    return decoded.get(url);
  }

  /** Load and decode what the large view would show of an image. */
  function prepare(image) {
    whenLoaded(image, {}, (pack) => decode(wholeUrl(pack, image) || fileUrl(image) || thumbUrl(pack, image)));
  }

  return { whenLoaded, cancel, decode, prepare, isDecoded: (url) => ready.has(url), thumbUrl, wholeUrl, commandOf, fileUrl, numKept: () => kept.size };
}

/** Whether this page runs in a frame without an origin, as in MLflow: no files are beside it. */
const isSandboxed = (() => {
  try {
    return window.origin === "null" && location.protocol !== "file:";
  } catch {
    return true;
  }
})();
