// The stage: one to four images side by side under one zoom, so that the same spot is compared.

const MAX_ZOOM = 32;

function makeStage(app, { onSwipe } = {}) {
  const { sheet, packs } = app;
  const node = el("div", { class: "stage" });
  const pointers = new Map();
  let panes = [];
  let view = { zoom: 1, x: 0, y: 0 }; // x, y: the image's center off the pane's, in shares of it
  let drag = null;

  /** Show images by number, with a caption each (null for none). The zoom stays when asked. */
  function show(images, captions, { keepsZoom = false } = {}) {
    if (!keepsZoom) view = { zoom: 1, x: 0, y: 0 };
    while (panes.length > images.length) {
      const pane = panes.pop();
      packs.cancel(pane.token);
      pane.node.remove();
    }
    while (panes.length < images.length) {
      const img = el("img", { alt: "", draggable: "false" });
      const caption = el("figcaption", { class: "text", dir: "auto" });
      const pane = { img, caption, token: {}, node: el("figure", { class: "pane" }, img, caption) };
      panes.push(pane);
      node.append(pane.node);
    }
    node.dataset.count = images.length;
    images.forEach((image, i) => fill(panes[i], image, captions[i]));
    apply();
  }

  function fill(pane, image, caption) {
    pane.caption.textContent = caption ? short(caption, 160) : "";
    pane.caption.hidden = !caption;
    pane.img.alt = caption ? short(caption, 120) : "";
    packs.cancel(pane.token);
    pane.image = image;
    pane.node.classList.toggle("is-failed", !sheet.image.width[image]);
    const row = sheet.rowOfImage[image];
    const width = sheet.numbers.width[row] || sheet.image.width[image] || 1;
    const height = sheet.numbers.height[row] || sheet.image.height[image] || 1;
    pane.width = width;
    pane.height = height;
    const file = packs.fileUrl(image);
    packs.whenLoaded(image, pane.token, (pack) => {
      const thumb = packs.thumbUrl(pack, image);
      const whole = packs.wholeUrl(pack, image) || file;
      pane.img.onerror = null;
      pane.img.src = thumb;
      if (!whole) return;
      const loader = new Image();
      loader.onload = () => {
        if (pane.image === image) pane.img.src = loader.src;
      };
      loader.src = whole;
    });
  }

  function apply() {
    for (const pane of panes) {
      const box = pane.node.getBoundingClientRect();
      if (!box.width) continue;
      // small images are enlarged up to four times: enough to judge, not yet a mosaic
      const fit = Math.min(box.width / pane.width, box.height / pane.height, 4);
      const width = pane.width * fit;
      const height = pane.height * fit;
      pane.img.style.width = `${width}px`;
      pane.img.style.height = `${height}px`;
      const x = view.x * width * view.zoom;
      const y = view.y * height * view.zoom;
      pane.img.style.transform = `translate(-50%, -50%) translate(${x}px, ${y}px) scale(${view.zoom})`;
      pane.img.style.imageRendering = view.zoom * fit >= 6 ? "pixelated" : "auto";
    }
    node.classList.toggle("is-zoomed", view.zoom > 1);
  }

  /** Zoom by a factor, keeping the spot under the pointer where it is. */
  function zoomBy(factor, event) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
    const pane = event && panes.find((each) => each.node.contains(event.target));
    if (pane) {
      const box = pane.node.getBoundingClientRect();
      const width = parseFloat(pane.img.style.width);
      const height = parseFloat(pane.img.style.height);
      const px = (event.clientX - box.left - box.width / 2) / width;
      const py = (event.clientY - box.top - box.height / 2) / height;
      view.x += px / zoom - px / view.zoom;
      view.y += py / zoom - py / view.zoom;
    }
    view.zoom = zoom;
    clampView();
    apply();
  }

  function clampView() {
    const reach = view.zoom === 1 ? 0 : 0.5;
    view.x = Math.max(-reach, Math.min(reach, view.x));
    view.y = Math.max(-reach, Math.min(reach, view.y));
  }

  node.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * 0.0022), event);
  }, { passive: false });
  node.addEventListener("dblclick", (event) => zoomBy(view.zoom > 1 ? 1 / MAX_ZOOM : 4, event));
  node.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    node.setPointerCapture(event.pointerId);
    drag = { x: event.clientX, y: event.clientY, view: { ...view }, spread: spreadOf(pointers) };
  });
  node.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId) || !drag) return;
    pointers.set(event.pointerId, event);
    const pane = panes[0];
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
  const release = (event) => {
    if (pointers.size === 1 && drag && view.zoom === 1 && onSwipe) {
      const across = event.clientX - drag.x;
      const down = event.clientY - drag.y;
      if (Math.max(Math.abs(across), Math.abs(down)) > 48) onSwipe(across, down);
    }
    pointers.delete(event.pointerId);
    drag = null;
  };
  node.addEventListener("pointerup", release);
  node.addEventListener("pointercancel", release);
  new ResizeObserver(apply).observe(node);

  return { node, show, zoomBy, view: () => ({ ...view }), resetZoom: () => { view = { zoom: 1, x: 0, y: 0 }; apply(); } };
}

function spreadOf(pointers) {
  if (pointers.size !== 2) return 0;
  const [a, b] = [...pointers.values()];
  return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
}
