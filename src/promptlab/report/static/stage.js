// The stage: one to twelve images side by side under one zoom, so that the same spot is compared;
// a second image may lie over the first, as a wipe or a difference. Knows no verdicts.

import { PENDING } from "./data.js";
import { el } from "./dom.js";
import { short } from "./text.js";

const MAX_ZOOM = 32;
const CLOSE_ZOOM = 4; // of Z and of a double click; again: back
const MAX_ENLARGED = 4; // times an image's own size: enough to judge, not yet a mosaic
const SWIPE_PX = 48;
const CLICK_PX = 6; // a longer way is a drag
const DOUBLE_TAP_MS = 320;

export function makeStage(app, { onSwipe, onPick, onDoubleTap } = {}) {
  const { sheet, packs } = app;
  const node = el("div", { class: "stage" });
  const pointers = new Map();
  let panes = [];
  let view = { zoom: 1, x: 0, y: 0 }; // x, y: the image's center off the pane's, in shares of it
  let drag = null;
  let lastTap = 0;

  // ---------------------------------------------------------------- images

  /** Show images by number, with a caption each (null for none). The zoom stays when asked. */
  function show(images, captions, { keepsZoom = false } = {}) {
    if (!keepsZoom) view = { zoom: 1, x: 0, y: 0 };
    while (panes.length > images.length) {
      const pane = panes.pop();
      packs.cancel(pane.token);
      pane.node.remove();
    }
    while (panes.length < images.length) panes.push(makePane());
    images.forEach((image, i) => fill(panes[i], image, captions[i]));
    apply();
  }

  function makePane() {
    const img = el("img", { alt: "", draggable: "false" });
    const over = el("img", { alt: "", draggable: "false", class: "over", hidden: true });
    const caption = el("figcaption", { class: "text", dir: "auto" });
    const pane = { img, over, caption, token: {}, node: el("figure", { class: "pane" }, img, over, caption) };
    node.append(pane.node);
    return pane;
  }

  function fill(pane, image, caption) {
    pane.caption.textContent = caption ? short(caption, 160) : "";
    pane.caption.hidden = !caption;
    pane.img.alt = caption ? short(caption, 120) : "";
    packs.cancel(pane.token);
    const picture = app.pictureOf(image); // in the same place: flipping moves nothing
    pane.image = picture;
    const row = sheet.rowOfImage[image];
    pane.node.classList.toggle("is-failed", !sheet.image.width[image]);
    pane.node.classList.toggle("is-pending", sheet.status[row] === PENDING);
    pane.width = sheet.numbers.width[row] || sheet.image.width[image] || 1;
    pane.height = sheet.numbers.height[row] || sheet.image.height[image] || 1;
    load(picture, pane.token, pane.img, () => pane.image === picture);
  }

  /** Put an image into an element: its thumbnail at once, the whole of it when it is decoded. */
  function load(image, token, img, isWanted) {
    img.style.visibility = "hidden"; // no picture rather than the one before, if it is not here yet
    packs.whenLoaded(image, token, (pack) => {
      img.style.visibility = "";
      const whole = packs.wholeUrl(pack, image) || packs.fileUrl(image);
      img.onerror = null;
      if (!packs.isDecoded(whole)) img.src = packs.thumbUrl(pack, image);
      if (whole) packs.decode(whole).then((isFine) => isFine && isWanted() && (img.src = whole));
    });
  }

  /** Lay another image over the first: mode "wipe" or "difference"; "" takes it away. */
  function lay(image, mode) {
    const [pane] = panes;
    node.dataset.over = mode;
    pane.over.hidden = !mode;
    if (!mode) return;
    const picture = app.pictureOf(image);
    pane.overImage = picture;
    load(picture, {}, pane.over, () => pane.overImage === picture);
    apply();
  }

  // ---------------------------------------------------------------- sizes

  /** The number of columns in which `count` images of an aspect are largest. */
  function bestColumns(count, width, height, aspect) {
    let best = 1;
    let bestWidth = 0;
    for (let columns = 1; columns <= count; columns += 1) {
      const lines = Math.ceil(count / columns);
      const fit = Math.min(width / columns, (height / lines) * aspect);
      if (fit > bestWidth + 1) [best, bestWidth] = [columns, fit];
    }
    return best;
  }

  function apply() {
    const whole = node.getBoundingClientRect();
    if (!whole.width || !panes.length) return;
    const columns = bestColumns(panes.length, whole.width, whole.height, panes[0].width / panes[0].height);
    node.dataset.count = panes.length;
    node.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    node.style.gridTemplateRows = `repeat(${Math.ceil(panes.length / columns)}, minmax(0, 1fr))`;
    for (const pane of panes) {
      const box = pane.node.getBoundingClientRect();
      if (!box.width) continue;
      const fit = Math.min(box.width / pane.width, box.height / pane.height, MAX_ENLARGED);
      const width = pane.width * fit;
      const height = pane.height * fit;
      const x = view.x * width * view.zoom;
      const y = view.y * height * view.zoom;
      for (const img of [pane.img, pane.over]) {
        img.style.width = `${width}px`;
        img.style.height = `${height}px`;
        img.style.transform = `translate(-50%, -50%) translate(${x}px, ${y}px) scale(${view.zoom})`;
        img.style.imageRendering = view.zoom * fit >= 6 ? "pixelated" : "auto";
      }
    }
    node.classList.toggle("is-zoomed", view.zoom > 1);
  }

  // ---------------------------------------------------------------- zoom

  const paneAt = (event) =>
    panes.findIndex((pane) => {
      const box = pane.node.getBoundingClientRect();
      return event.clientX >= box.left && event.clientX < box.right && event.clientY >= box.top && event.clientY < box.bottom;
    });

  /** Zoom by a factor, keeping the spot under the pointer where it is. */
  function zoomBy(factor, event) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
    const pane = event && panes[paneAt(event)];
    if (pane) {
      const box = pane.node.getBoundingClientRect();
      const px = (event.clientX - box.left - box.width / 2) / parseFloat(pane.img.style.width);
      const py = (event.clientY - box.top - box.height / 2) / parseFloat(pane.img.style.height);
      view.x += px / zoom - px / view.zoom;
      view.y += py / zoom - py / view.zoom;
    }
    view.zoom = zoom;
    clampView();
    apply();
  }

  const toggleZoom = (event) => zoomBy(view.zoom > 1 ? 1 / MAX_ZOOM : CLOSE_ZOOM, event);

  function clampView() {
    const reach = view.zoom === 1 ? 0 : 0.5;
    view.x = Math.max(-reach, Math.min(reach, view.x));
    view.y = Math.max(-reach, Math.min(reach, view.y));
  }

  function resetZoom() {
    view = { zoom: 1, x: 0, y: 0 };
    apply();
  }

  /** Zoom by the keys + − 0 Z; false for any other key. */
  function onKey(event) {
    if (event.key === "+" || event.key === "=") zoomBy(1.5);
    else if (event.key === "-") zoomBy(1 / 1.5);
    else if (event.key === "0" && view.zoom > 1) resetZoom();
    else if (event.key.toLowerCase() === "z") toggleZoom();
    else return false;
    return true;
  }

  // ---------------------------------------------------------------- pointers

  node.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * 0.0022), event);
  }, { passive: false });
  node.addEventListener("dblclick", (event) => {
    if (!onPick && !onDoubleTap) toggleZoom(event);
  });
  node.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    node.setPointerCapture(event.pointerId);
    drag = { x: event.clientX, y: event.clientY, view: { ...view }, spread: spreadOf(pointers) };
  });
  node.addEventListener("pointermove", (event) => {
    const box = node.getBoundingClientRect();
    node.style.setProperty("--wipe", `${Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * 100}%`);
    if (!pointers.has(event.pointerId) || !drag) return;
    pointers.set(event.pointerId, event);
    const [pane] = panes;
    if (pointers.size === 2) {
      const spread = spreadOf(pointers);
      if (drag.spread) view.zoom = Math.min(MAX_ZOOM, Math.max(1, drag.view.zoom * (spread / drag.spread)));
    } else if (view.zoom > 1 && pane) {
      view.x = drag.view.x + (event.clientX - drag.x) / (parseFloat(pane.img.style.width) * view.zoom);
      view.y = drag.view.y + (event.clientY - drag.y) / (parseFloat(pane.img.style.height) * view.zoom);
    }
    clampView();
    apply();
  });
  node.addEventListener("pointerup", (event) => {
    const start = drag;
    const isLast = pointers.size === 1;
    pointers.delete(event.pointerId);
    drag = null;
    if (!isLast || !start) return;
    const across = event.clientX - start.x;
    const down = event.clientY - start.y;
    const far = Math.max(Math.abs(across), Math.abs(down));
    if (far < CLICK_PX) onClick(event);
    else if (far > SWIPE_PX && view.zoom === 1 && onSwipe) onSwipe(across, down);
  });
  node.addEventListener("pointercancel", (event) => {
    pointers.delete(event.pointerId);
    drag = null;
  });
  new ResizeObserver(apply).observe(node);

  function onClick(event) {
    if (onDoubleTap && event.pointerType === "touch") {
      const isSecond = event.timeStamp - lastTap < DOUBLE_TAP_MS;
      lastTap = isSecond ? 0 : event.timeStamp;
      if (isSecond) onDoubleTap();
    }
    if (onPick && paneAt(event) >= 0) onPick(paneAt(event));
  }

  return { node, show, lay, onKey, panes: () => panes.map((pane) => pane.node) };
}

function spreadOf(pointers) {
  if (pointers.size !== 2) return 0;
  const [a, b] = [...pointers.values()];
  return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
}
