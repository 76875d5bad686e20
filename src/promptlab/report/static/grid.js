// The grid: only what is near the viewport is in the page. Rows of elements are used again as they
// leave; the browser itself scrolls, and headers stay by `position: sticky`, so that they move
// with the pixels under them.

const GAP = 3; // px between the slots of a cell
const CELL_PAD = 3; // px around a cell
const OVERSCAN_PX = 480; // rendered above and below what is visible
const OVERSCAN_PART = 0.35; // of the width, left and right

function makeGrid(app) {
  const { sheet, picks, packs } = app;
  const scroller = byId("scroller");
  const plane = byId("plane");
  const live = new Map(); // row -> row node
  const spare = [];
  let layout = null;
  let size = null; // measures in px
  let active = { row: 0, col: 0, slot: 0 };
  let hovered = null;
  let head = null;
  let isScheduled = false;
  let lastEdges = "";

  // ---------------------------------------------------------------- measures

  function measure() {
    const { state } = app;
    const isNarrow = scroller.clientWidth < 560;
    const many = layout.numSlots > 1;
    const barsW = state.margins && !isNarrow ? 64 : 0;
    const headW = isNarrow ? 76 : Math.round(Math.min(190, Math.max(108, 40 + longestOf(layout.rows) * 6.4)) + barsW);
    const limit = isNarrow ? Math.max(72, (scroller.clientWidth - headW) / 1.6) : SIZES.max;
    const base = Math.min(state.size || fittingSize(headW, isNarrow), limit);
    const slotW = Math.round(many ? Math.max(36, base * partOfSize()) : base);
    const slotH = Math.round(slotW / sheet.aspect);
    const lines = Math.ceil(layout.numSlots / layout.slotColumns);
    const ranges = {
      rows: state.margins && !state.blind ? marginRanges(sheet, layout.rows) : [],
      cols: state.margins && !state.blind ? marginRanges(sheet, layout.cols) : [],
    };
    const cellW = layout.slotColumns * (slotW + GAP) - GAP + 2 * CELL_PAD;
    const cellH = lines * (slotH + GAP) - GAP + 2 * CELL_PAD;
    const hasInnerHeads = innerLabels().length > 1;
    const barsH = (bars) => (bars.length ? bars.length * 14 + 8 : 0);
    const longest = layout.cols.reduce((most, line) => Math.max(most, longestLabel(line)), 0);
    const perLine = Math.max(4, (cellW - 12) / 6.6);
    const labelLines = Math.min(3, Math.max(1, Math.ceil(longest / perLine) + (app.state.cols.length > 1 ? 1 : 0)));
    return {
      base,
      slotW,
      slotH,
      cellW,
      cellH: Math.max(cellH, barsH(ranges.rows) + (ranges.rows.length ? 22 : 0)),
      headW,
      headH: 16 + labelLines * 16 + barsH(ranges.cols) + (hasInnerHeads ? 15 : 0),
      ranges,
      isNarrow,
    };
  }

  /** What stands side by side in every cell, where it is one line; shown below each column's name. */
  function innerLabels() {
    const isOneLine = layout.inner.length === layout.numSlots && layout.slotColumns === layout.numSlots;
    if (!isOneLine || layout.numSlots < 2 || app.state.blind) return [];
    return layout.inner.map((line) => lineLabel(line).join(" · "));
  }

  /** Several images of a cell are smaller than one would be, unless there are few cells. */
  function partOfSize() {
    if (layout.slotColumns === 1 || layout.cols.length === 1) return 1;
    return layout.slotColumns > 2 ? 0.55 : 0.8;
  }

  /** The size at which the columns fill the width, if that is a good size to look at. */
  function fittingSize(headW, isNarrow) {
    if (isNarrow) return (scroller.clientWidth - headW) / 2.25;
    const cell = (scroller.clientWidth - headW - 24) / layout.cols.length - 2 * CELL_PAD;
    const fitting = ((cell + GAP) / layout.slotColumns - GAP) / partOfSize();
    return fitting < 84 ? SIZES.initial : Math.min(fitting, SIZES.largestFitting);
  }

  const longestLabel = (line) => lineLabel(line).reduce((sum, text) => sum + Math.min(60, text.length), 0);
  const longestOf = (lines) => lines.reduce((most, line) => Math.max(most, longestLabel(line)), 4);

  // ---------------------------------------------------------------- blind mode

  const isBlindByColumns = () => app.state.rows.includes("subject") || !app.state.cols.includes("subject");

  /** Where in the layout the cell at a place comes from: in blind mode neighbours are shuffled. */
  function source(row, col) {
    if (!app.state.blind) return { row, col };
    if (isBlindByColumns()) return { row, col: shuffled(layout.cols.length, layout.rows[row].key)[col] };
    return { row: shuffled(layout.rows.length, layout.cols[col].key)[row], col };
  }

  const shuffles = new Map();

  function shuffled(count, key) {
    const name = `${count}:${key}`;
    if (!shuffles.has(name)) {
      const order = Array.from({ length: count }, (_, i) => i);
      let random = Number.parseInt(shortHash(name + sheet.sheet_id), 36) || 1;
      for (let i = count - 1; i > 0; i -= 1) {
        random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
        const j = Math.floor((random / 2 ** 32) * (i + 1));
        [order[i], order[j]] = [order[j], order[i]];
      }
      if (shuffles.size > 2000) shuffles.clear();
      shuffles.set(name, order);
    }
    return shuffles.get(name);
  }

  function slotsAt(row, col) {
    const from = source(row, col);
    const slots = layout.slotsAt(from.row, from.col);
    if (!slots || !app.state.blind || slots.length < 2) return slots;
    return shuffled(slots.length, `${layout.rows[from.row].key},${layout.cols[from.col].key}`).map((i) => slots[i]);
  }

  const membersAt = (row, col) => {
    const from = source(row, col);
    return layout.membersAt(from.row, from.col);
  };

  // ---------------------------------------------------------------- nodes

  function makeRow() {
    const header = el("div", { class: "row-head", role: "rowheader" });
    const node = el("div", { class: "row", role: "row" }, header);
    return { node, header, cells: new Map(), row: -1 };
  }

  function makeCell() {
    const node = el("div", { class: "cell", role: "gridcell" });
    const slots = Array.from({ length: layout.numSlots }, makeSlot);
    const heat = el("span", { class: "heat" });
    node.append(...slots.map((slot) => slot.node), heat);
    return { node, slots, heat };
  }

  function makeSlot() {
    const img = el("img", { alt: "", draggable: "false", hidden: true });
    const count = el("span", { class: "count" });
    const verdict = el("span", { class: "verdict" });
    const note = el("span", { class: "caption text", dir: "auto" });
    const node = el("div", { class: "slot", role: "img" }, img, count, verdict, note);
    img.addEventListener("load", () => (img.hidden = false));
    return { node, img, count, verdict, note, token: {}, image: -1, url: "" };
  }

  function bindRow(line, row) {
    line.row = row;
    line.node.style.transform = `translateY(${size.headH + row * size.cellH}px)`;
    line.node.setAttribute("aria-rowindex", row + 2);
    const isHidden = app.state.blind && !isBlindByColumns();
    fillHeader(line.header, layout.rows[row], isHidden ? letter(row) : null, size.ranges.rows);
    for (const [col, cell] of line.cells) bindCell(cell, row, col);
  }

  function bindCell(cell, row, col) {
    const { node } = cell;
    node.style.transform = `translateX(${size.headW + col * size.cellW}px)`;
    node.setAttribute("aria-colindex", col + 2);
    const stacks = slotsAt(row, col);
    const members = app.state.heat && stacks ? membersAt(row, col) : [];
    const value = members.length ? cellMetric(sheet, picks, members, app.state.heat) : null;
    node.classList.toggle("is-heat", Boolean(app.state.heat));
    node.classList.toggle("is-empty", !stacks);
    cell.heat.textContent = "";
    cell.heat.removeAttribute("style");
    if (app.state.heat && stacks) {
      cell.heat.textContent = metricText(app.state.heat, value);
      const range = app.heatRange;
      if (value !== null && range) {
        const part = range.high > range.low ? (value - range.low) / (range.high - range.low) : 0.5;
        const color = heatColor(part);
        cell.heat.style.backgroundColor = color.background;
        cell.heat.style.color = color.isLight ? "#1a1206" : "#fff";
      }
    }
    for (let i = 0; i < cell.slots.length; i += 1) bindSlot(cell.slots[i], stacks ? stacks[i] : [], row, col, i);
  }

  function bindSlot(slot, stack, row, col, index) {
    const { node, img } = slot;
    packs.cancel(slot.token);
    node.place = { row, col, slot: index };
    node.id = `at-${row}-${col}-${index}`;
    const isActive = active.row === row && active.col === col && active.slot === index;
    node.classList.toggle("is-active", isActive);
    const data = stack && stack.length ? stack[0] : -1;
    node.hidden = data < 0;
    slot.data = data;
    slot.stack = stack;
    if (data < 0) {
      slot.image = -1;
      return;
    }
    const image = sheet.imageOf[data];
    const status = sheet.status[data];
    node.className = `slot${isActive ? " is-active" : ""}${status === FAILED ? " is-failed" : ""}${status === 1 ? " is-flagged" : ""}`;
    if (sheet.marks) node.dataset.mark = sheet.marks[data];
    node.classList.toggle("is-stack", stack.length > 1);
    slot.count.textContent = stack.length > 1 ? stack.length : "";
    bindVerdict(slot);
    if (image === slot.image && slot.url) return; // the same picture stays
    slot.image = image;
    slot.url = "";
    img.hidden = true;
    img.removeAttribute("src");
    const tint = sheet.image.tint[image];
    node.style.backgroundColor = tint < 0 ? "" : `#${tint.toString(16).padStart(6, "0")}`;
    if (!hasPixels(sheet, data)) return;
    packs.whenLoaded(image, slot.token, (pack) => {
      slot.url = packs.thumbUrl(pack, image);
      const isEnlarged = size.slotW > 1.3 * Math.max(sheet.image.width[image], 1);
      const better = isEnlarged && !sheet.image.native[image] ? packs.wholeUrl(pack, image) || packs.fileUrl(image) : "";
      img.onerror = better ? () => ((img.onerror = null), (img.src = slot.url)) : null;
      img.src = better || slot.url;
    });
  }

  function bindVerdict(slot) {
    const pick = picks.ofRow(slot.data);
    const { node } = slot;
    node.classList.toggle("is-favourite", Boolean(pick?.is_favourite));
    node.classList.toggle("is-reject", Boolean(pick?.is_reject));
    node.classList.toggle("is-compared", app.state.compare.includes(idOf(sheet, slot.data)));
    const parts = [];
    if (pick?.is_favourite) parts.push("♥");
    if (pick?.rating) parts.push("★".repeat(pick.rating));
    if (pick?.note) parts.push("✎");
    slot.verdict.textContent = parts.join(" ");
    const isHidden = app.state.blind && !picks.isRevealed(idOf(sheet, slot.data));
    slot.note.textContent = app.state.blind && !isHidden ? short(blindCaption(slot.data), 60) : "";
    node.setAttribute("aria-label", slotLabel(slot, pick, isHidden));
    node.title = isHidden ? "" : describeRow(sheet, slot.data);
  }

  const blindCaption = (row) =>
    describeRow(sheet, row, varyingAxes(sheet).filter((axis) => !["subject", "seed"].includes(axis.name)));

  function slotLabel(slot, pick, isHidden) {
    const name = isHidden ? "label hidden" : describeRow(sheet, slot.data);
    const stack = slot.stack.length > 1 ? `, the first of ${slot.stack.length}` : "";
    const mark = sheet.marks ? `, ${MARK_TEXT[sheet.marks[slot.data]]}` : "";
    const failed = sheet.status[slot.data] === FAILED ? ", failed" : "";
    return `${name}${stack}${failed}, ${verdictText(pick)}${mark}`;
  }

  function fillHeader(node, line, hiddenAs, ranges) {
    const labels = hiddenAs ? [hiddenAs] : lineLabel(line);
    const isAlone = labels.length === 0;
    const parts = labels.map((text, i) => {
      const axis = hiddenAs ? null : line.axes[i];
      const shown = axis && axis.isNumeric ? `${axis.name} ${text}` : text;
      return userText("span", short(shown, 300), { class: i ? "label minor" : "label", title: short(shown, 1000) });
    });
    node.replaceChildren(el("div", { class: "labels" }, isAlone ? el("span", { class: "label", text: "all" }) : parts));
    if (ranges.length) node.append(marginBars(ranges, line.stats));
  }

  const letter = (i) => (i < 26 ? String.fromCharCode(65 + i) : letter(Math.floor(i / 26) - 1) + letter(i % 26));

  // ---------------------------------------------------------------- rendering

  function reset(newLayout) {
    layout = newLayout;
    size = measure();
    for (const line of live.values()) releaseSlots(line);
    live.clear();
    spare.length = 0;
    const corner = el("div", { class: "corner", role: "columnheader", "aria-label": "axes" });
    corner.append(cornerLabel());
    head = { node: el("div", { class: "col-heads", role: "row", "aria-rowindex": 1 }, corner), cells: new Map() };
    plane.replaceChildren(head.node);
    plane.style.width = `${size.headW + layout.cols.length * size.cellW + 12}px`;
    plane.style.height = `${size.headH + layout.rows.length * size.cellH + 12}px`;
    plane.style.setProperty("--head-w", `${size.headW}px`);
    plane.style.setProperty("--head-h", `${size.headH}px`);
    plane.style.setProperty("--cell-w", `${size.cellW}px`);
    plane.style.setProperty("--cell-h", `${size.cellH}px`);
    plane.style.setProperty("--slot-w", `${size.slotW}px`);
    plane.style.setProperty("--slot-h", `${size.slotH}px`);
    plane.style.setProperty("--slot-columns", layout.slotColumns);
    plane.setAttribute("aria-rowcount", layout.rows.length + 1);
    plane.setAttribute("aria-colcount", layout.cols.length + 1);
    plane.classList.toggle("is-narrow", size.isNarrow);
    active = clampPlace(active);
    lastEdges = "";
    render();
  }

  function cornerLabel() {
    const { rows, cols } = app.state;
    const text = `${rows.join(" · ") || "all"} × ${cols.join(" · ") || "all"}`;
    return el("div", { class: "corner-label", text: short(text, 60), title: text });
  }

  function edges() {
    const acrossPx = scroller.clientWidth * OVERSCAN_PART;
    const top = scroller.scrollTop - OVERSCAN_PX;
    const left = scroller.scrollLeft - acrossPx;
    const right = scroller.scrollLeft + scroller.clientWidth - size.headW + acrossPx;
    const bottom = scroller.scrollTop + scroller.clientHeight - size.headH + OVERSCAN_PX;
    const between = (value, most) => Math.max(0, Math.min(most, value));
    return {
      firstRow: between(Math.floor(top / size.cellH), layout.rows.length),
      endRow: between(Math.ceil(bottom / size.cellH), layout.rows.length),
      firstCol: between(Math.floor(left / size.cellW), layout.cols.length),
      endCol: between(Math.ceil(right / size.cellW), layout.cols.length),
    };
  }

  function render() {
    isScheduled = false;
    if (!layout) return;
    const { firstRow, endRow, firstCol, endCol } = edges();
    const key = `${firstRow},${endRow},${firstCol},${endCol}`;
    if (key === lastEdges) return;
    lastEdges = key;
    syncHeads(firstCol, endCol);
    for (const [row, line] of live) {
      if (row < firstRow || row >= endRow) {
        live.delete(row);
        spare.push(line);
      }
    }
    for (let row = firstRow; row < endRow; row += 1) {
      let line = live.get(row);
      const isNew = !line;
      if (isNew) {
        line = spare.pop();
        if (!line) {
          line = makeRow();
          plane.append(line.node);
        }
        live.set(row, line);
      }
      syncCells(line, row, firstCol, endCol, isNew);
    }
    for (const line of spare) {
      releaseSlots(line);
      line.node.remove();
    }
    spare.length = 0;
  }

  function syncHeads(firstCol, endCol) {
    for (const [col, node] of head.cells) {
      if (col < firstCol || col >= endCol) {
        node.remove();
        head.cells.delete(col);
      }
    }
    for (let col = firstCol; col < endCol; col += 1) {
      if (head.cells.has(col) || !layout.cols[col]) continue;
      const node = el("div", { class: "col-head", role: "columnheader", "aria-colindex": col + 2 });
      node.style.transform = `translateX(${size.headW + col * size.cellW}px)`;
      const isHidden = app.state.blind && isBlindByColumns();
      fillHeader(node, layout.cols[col], isHidden ? letter(col) : null, size.ranges.cols);
      const inner = innerLabels().map((text) => userText("span", short(text, 60), { title: short(text, 400) }));
      if (inner.length) node.append(el("div", { class: "inner-heads" }, inner));
      head.node.append(node);
      head.cells.set(col, node);
    }
  }

  /** Give a row of elements the columns it should have, using those that leave for those that come. */
  function syncCells(line, row, firstCol, endCol, isNew) {
    const left = [];
    for (const [col, cell] of line.cells) {
      if (col < firstCol || col >= endCol) {
        line.cells.delete(col);
        left.push(cell);
      }
    }
    if (isNew) bindRow(line, row);
    for (let col = firstCol; col < endCol; col += 1) {
      if (line.cells.has(col)) continue;
      let cell = left.pop();
      if (!cell) {
        cell = makeCell();
        line.node.append(cell.node);
      }
      line.cells.set(col, cell);
      bindCell(cell, row, col);
    }
    for (const cell of left) {
      for (const slot of cell.slots) packs.cancel(slot.token);
      cell.node.remove();
    }
  }

  function releaseSlots(line) {
    for (const cell of line.cells.values()) for (const slot of cell.slots) packs.cancel(slot.token);
  }

  function schedule() {
    if (isScheduled) return;
    isScheduled = true;
    requestAnimationFrame(render);
  }

  function* liveSlots() {
    for (const line of live.values()) for (const cell of line.cells.values()) yield* cell.slots;
  }

  /** Show the verdicts again, of one image or of all; the layout stays. */
  function refreshVerdicts(id) {
    for (const slot of liveSlots()) {
      if (slot.data >= 0 && (id === null || idOf(sheet, slot.data) === id)) bindVerdict(slot);
    }
  }

  // ---------------------------------------------------------------- moving

  function clampPlace({ row, col, slot }) {
    return {
      row: Math.max(0, Math.min(row, layout.rows.length - 1)),
      col: Math.max(0, Math.min(col, layout.cols.length - 1)),
      slot: Math.max(0, Math.min(slot, layout.numSlots - 1)),
    };
  }

  function setActive(place, isShown = true) {
    const old = byId(`at-${active.row}-${active.col}-${active.slot}`);
    if (old) old.classList.remove("is-active");
    active = clampPlace(place);
    if (isShown) reveal(active);
    const node = byId(`at-${active.row}-${active.col}-${active.slot}`);
    if (node) {
      node.classList.add("is-active");
      plane.setAttribute("aria-activedescendant", node.id);
    }
  }

  /** Scroll an image into view, clear of the headers. */
  function reveal({ row, col, slot }) {
    const line = Math.floor(slot / layout.slotColumns);
    const isAlone = layout.numSlots === 1;
    const top = row * size.cellH + line * (size.slotH + GAP);
    const left = col * size.cellW + (slot % layout.slotColumns) * (size.slotW + GAP);
    const needsH = isAlone ? size.cellH : size.slotH + 2 * CELL_PAD;
    const needsW = isAlone ? size.cellW : size.slotW + 2 * CELL_PAD;
    const height = scroller.clientHeight - size.headH;
    const width = scroller.clientWidth - size.headW;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + needsH > scroller.scrollTop + height) scroller.scrollTop = top + needsH - height;
    if (left < scroller.scrollLeft) scroller.scrollLeft = left;
    else if (left + needsW > scroller.scrollLeft + width) scroller.scrollLeft = left + needsW - width;
    lastEdges = "";
    render();
  }

  /** The next place in a direction whose cell is not empty; null at the edge. */
  function neighbour(place, down, across) {
    let { row, col } = place;
    for (;;) {
      row += down;
      col += across;
      if (row < 0 || col < 0 || row >= layout.rows.length || col >= layout.cols.length) return null;
      if (slotsAt(row, col)) return { row, col, slot: place.slot };
    }
  }

  function move(event) {
    const lineHeight = layout.slotColumns;
    const page = Math.max(1, Math.floor((scroller.clientHeight - size.headH) / size.cellH));
    const { row, col, slot } = active;
    const steps = {
      ArrowLeft: () => (slot % lineHeight > 0 ? { row, col, slot: slot - 1 } : step(0, -1, slot + lineHeight - 1)),
      ArrowRight: () => (slot % lineHeight < lineHeight - 1 ? { row, col, slot: slot + 1 } : step(0, 1, slot - lineHeight + 1)),
      ArrowUp: () => (slot >= lineHeight ? { row, col, slot: slot - lineHeight } : step(-1, 0, slot)),
      ArrowDown: () => (slot + lineHeight < layout.numSlots ? { row, col, slot: slot + lineHeight } : step(1, 0, slot % lineHeight)),
      PageUp: () => ({ row: row - page, col, slot }),
      PageDown: () => ({ row: row + page, col, slot }),
      Home: () => ({ row: event.ctrlKey ? 0 : row, col: 0, slot: 0 }),
      End: () => ({ row: event.ctrlKey ? layout.rows.length - 1 : row, col: layout.cols.length - 1, slot: 0 }),
    };
    const target = steps[event.key] && steps[event.key]();
    if (!target) return false;
    hovered = null;
    setActive(target);
    return true;
  }

  function step(down, across, slot) {
    const next = neighbour(active, down, across);
    return next ? { ...next, slot } : null;
  }

  /** The row of data that a key acts on: under the pointer, else the active one; -1 for none. */
  function target() {
    const place = hovered || active;
    const stacks = layout.rows.length ? slotsAt(place.row, place.col) : null;
    const stack = stacks && stacks[place.slot];
    return stack && stack.length ? { row: stack[0], place } : null;
  }

  /** Where a row of data stands now; null when it is filtered away. */
  function placeOf(data) {
    for (let row = 0; row < layout.rows.length; row += 1) {
      if (!lineHolds(layout.rows[row], data)) continue;
      for (let col = 0; col < layout.cols.length; col += 1) {
        if (!app.state.blind && !lineHolds(layout.cols[col], data)) continue;
        const stacks = slotsAt(row, col);
        const slot = stacks ? stacks.findIndex((stack) => stack.includes(data)) : -1;
        if (slot >= 0) return { row, col, slot };
      }
    }
    return null;
  }

  const lineHolds = (line, data) =>
    (app.state.blind && !isBlindByColumns()) || line.axes.every((axis, i) => axis.codes[data] === line.codes[i]);

  scroller.addEventListener("scroll", schedule, { passive: true });
  new ResizeObserver(() => {
    if (!layout) return;
    const isSame = measure().slotW === size.slotW && scroller.clientWidth < 560 === size.isNarrow;
    if (isSame) {
      lastEdges = "";
      schedule();
    } else reset(layout);
  }).observe(scroller);
  plane.addEventListener("click", (event) => {
    const node = event.target.closest(".slot");
    if (!node || !node.place) return;
    setActive(node.place, false);
    plane.focus({ preventScroll: true });
    const found = target();
    if (!found) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey) app.toggleCompare(idOf(sheet, found.row));
    else app.open(found.row, found.place);
  });
  plane.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    const node = event.target.closest(".slot");
    hovered = node && node.place ? node.place : null;
  });
  plane.addEventListener("pointerleave", () => (hovered = null));

  return {
    reset,
    refreshVerdicts,
    move,
    target,
    neighbour,
    slotsAt,
    membersAt,
    placeOf,
    setActive,
    focus: () => plane.focus({ preventScroll: true }),
    numLive: () => plane.getElementsByTagName("*").length,
    layout: () => layout,
    imageSize: () => size.base,
    roomPx: () => Math.max(240, scroller.clientWidth - 140),
    active: () => active,
    scrollHome: () => scroller.scrollTo(0, 0),
  };
}
