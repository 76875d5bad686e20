// The lightbox: one image large, everything about it beside it. Arrow keys walk the grid, the space
// bar flips to the counterpart in place, C collects images to compare.

const HIDDEN_AXES_SHOWN = ["subject", "seed"]; // what blind mode still says

function makeLightbox(app) {
  const { sheet, picks, packs } = app;
  let dialog = null;
  let stage = null;
  let row = -1; // of data
  let place = null; // in the grid
  let flip = { axis: "", code: -1, back: -1 }; // back: the row of data that a second flip returns to
  let commandToken = {};
  const parts = {};

  function open(data, at) {
    row = data;
    place = at || app.grid.placeOf(data);
    if (!dialog) build();
    flip.back = -1;
    refresh();
  }

  function build() {
    stage = makeStage(app, { onSwipe });
    parts.title = el("h2", { class: "lightbox-title" });
    parts.strip = el("div", { class: "strip", role: "listbox", "aria-label": "Candidates of this cell" });
    parts.verdict = el("div", { class: "verdict-bar", role: "group", "aria-label": "Verdict" });
    parts.note = el("textarea", {
      class: "note text",
      dir: "auto",
      rows: 2,
      placeholder: "Note",
      "aria-label": "Note on this image",
      onchange: () => picks.annotate(idOf(sheet, row), parts.note.value),
    });
    parts.actions = el("div", { class: "actions" });
    parts.flip = el("div", { class: "flip" });
    parts.details = el("div", { class: "details" });
    const panel = el("div", { class: "panel" }, parts.verdict, parts.note, parts.flip, parts.actions, parts.details);
    const close = button("Close (Esc)", () => dialog.close(), { symbol: "close", class: "quiet close" });
    dialog = el(
      "dialog",
      { class: "lightbox", "aria-label": "Image" },
      el("div", { class: "lightbox-main" }, el("header", {}, parts.title, walkButtons(), close), stage.node, parts.strip),
      panel,
    );
    dialog.addEventListener("close", closed);
    dialog.addEventListener("keydown", onKey);
    document.body.append(dialog);
    dialog.showModal();
    stage.node.tabIndex = 0;
    stage.node.setAttribute("role", "group");
    stage.node.setAttribute("aria-label", "Image, zoom with plus and minus");
    stage.node.focus();
  }

  function walkButtons() {
    return el("div", { class: "walk", role: "group", "aria-label": "Walk" },
      button("Left (←)", () => walk(0, -1), { symbol: "left", class: "quiet" }),
      button("Up (↑)", () => walk(-1, 0), { symbol: "up", class: "quiet" }),
      button("Down (↓)", () => walk(1, 0), { symbol: "down", class: "quiet" }),
      button("Right (→)", () => walk(0, 1), { symbol: "right", class: "quiet" }),
    );
  }

  function closed() {
    commitNote();
    packs.cancel(commandToken);
    dialog.remove();
    dialog = null;
    app.setState({ at: "" }, { keepsLayout: true });
    if (place) app.grid.setActive(place);
    app.grid.focus();
  }

  function commitNote() {
    const id = idOf(sheet, row);
    const now = picks.of(id)?.note || "";
    if (parts.note.value !== now) picks.annotate(id, parts.note.value);
  }

  const isHidden = () => app.state.blind && !picks.isRevealed(idOf(sheet, row));

  function refresh({ keepsZoom = false } = {}) {
    app.setState({ at: idOf(sheet, row) }, { keepsLayout: true });
    const axes = varyingAxes(sheet).filter((axis) => !isHidden() || HIDDEN_AXES_SHOWN.includes(axis.name));
    parts.title.replaceChildren(...titleParts(axes));
    dialog.setAttribute("aria-label", short(describeRow(sheet, row, axes), 120));
    stage.show([sheet.imageOf[row]], [null], { keepsZoom });
    fillStrip();
    fillVerdict();
    fillFlip();
    fillActions();
    fillDetails();
  }

  function titleParts(axes) {
    const shown = axes.length ? axes : [sheet.axisByName.get("subject")];
    return shown.map((axis) => {
      const isFlipped = flip.back >= 0 && axis.name === flip.axis;
      const text = (axis.isNumeric ? `${axis.name} ` : "") + axis.values[axis.codes[row]];
      return userText("span", short(text, 120), { class: isFlipped ? "is-flipped" : "", title: axis.name });
    });
  }

  // ---------------------------------------------------------------- walking

  function walk(down, across) {
    if (!place) return;
    const next = app.grid.neighbour(place, down, across);
    if (!next) return;
    const stacks = app.grid.slotsAt(next.row, next.col);
    const members = (stacks[place.slot] || []).length ? stacks[place.slot] : stacks.find((stack) => stack.length);
    if (!members) return;
    const seed = sheet.axisByName.get("seed").codes;
    const same = members.find((other) => seed[other] === seed[row]);
    goTo(same === undefined || app.state.blind ? members[0] : same, next);
  }

  function walkStack(by) {
    const members = place ? app.grid.membersAt(place.row, place.col) : [row];
    const next = members[members.indexOf(row) + by];
    if (next !== undefined) goTo(next, place);
  }

  function goTo(data, at) {
    commitNote();
    row = data;
    place = at;
    flip.back = -1;
    refresh();
  }

  function onSwipe(across, down) {
    if (Math.abs(across) > Math.abs(down)) walk(0, across < 0 ? 1 : -1);
    else walk(down < 0 ? 1 : -1, 0);
  }

  // ---------------------------------------------------------------- flipping

  function flipAxes() {
    return varyingAxes(sheet).filter((axis) => axis.name !== "subject" || axis.values.length > 1);
  }

  function chooseFlip() {
    const axes = flipAxes();
    if (!axes.length) return null;
    let axis = sheet.axisByName.get(flip.axis);
    if (!axis) {
      const wanted = ["run", ...app.state.cols, "style", "model"];
      axis = wanted.map((name) => axes.find((each) => each.name === name)).find(Boolean) || axes[0];
      flip = { axis: axis.name, code: -1, back: flip.back };
    }
    if (flip.code < 0 || (flip.back < 0 && flip.code === axis.codes[row])) {
      flip.code = (axis.codes[row] + 1) % axis.values.length;
    }
    return axis;
  }

  /** Show the counterpart in the same place, at the same zoom; again: back. */
  function flipNow() {
    if (flip.back >= 0) {
      [row, flip.back] = [flip.back, -1];
      refresh({ keepsZoom: true });
      return;
    }
    const axis = chooseFlip();
    const other = axis ? counterpart(sheet, row, axis.name, flip.code) : -1;
    if (other < 0 || other === row) {
      say("Nothing to flip to");
      return;
    }
    commitNote();
    [flip.back, row] = [row, other];
    refresh({ keepsZoom: true });
  }

  function fillFlip() {
    const axis = isHidden() ? null : chooseFlip();
    parts.flip.hidden = !axis;
    if (!axis) return;
    const setAxis = (name) => {
      flip = { axis: name, code: -1, back: -1 };
      fillFlip();
    };
    const setCode = (code) => {
      flip.code = Number(code);
      flip.back = -1;
    };
    parts.flip.replaceChildren(
      button("Flip in place (Space)", flipNow, { symbol: "flip", text: "Flip", "aria-pressed": flip.back >= 0 }),
      select("Axis to flip", flipAxes().map((each) => [each.name, each.name]), axis.name, setAxis),
      select("Value to flip to", axis.values.map((value, code) => [code, value]), flip.code, setCode),
    );
  }

  // ---------------------------------------------------------------- the cell's candidates

  function fillStrip() {
    const members = place ? app.grid.membersAt(place.row, place.col) : [];
    const shown = flip.back >= 0 || !members.includes(row) ? [] : members;
    parts.strip.hidden = shown.length < 2;
    const seed = sheet.axisByName.get("seed");
    parts.strip.replaceChildren(
      ...shown.map((member) => {
        const pick = picks.ofRow(member);
        const img = el("img", { alt: "", draggable: "false" });
        packs.whenLoaded(sheet.imageOf[member], {}, (pack) => (img.src = packs.thumbUrl(pack, sheet.imageOf[member])));
        const label = isHidden() ? `seed ${seed.values[seed.codes[member]]}` : describeRow(sheet, member);
        return el(
          "button",
          {
            type: "button",
            role: "option",
            class: `candidate${pick?.is_favourite ? " is-favourite" : ""}${pick?.is_reject ? " is-reject" : ""}`,
            "aria-selected": String(member === row),
            "aria-label": `${label}, ${verdictText(pick)}`,
            title: label,
            onclick: () => goTo(member, place),
          },
          hasPixels(sheet, member) ? img : el("span", { class: "failed", text: "failed" }),
          el("span", { class: "candidate-verdict", text: pick?.is_favourite ? "♥" : pick?.rating ? String(pick.rating) : "" }),
        );
      }),
    );
    if (shown.length > 1) {
      parts.strip.append(
        button("Best of these, two at a time (T)", () => app.tournament(shown), { class: "best-of", text: `Best of ${shown.length}` }),
      );
      parts.strip.querySelector('[aria-selected="true"]').scrollIntoView({ block: "nearest", inline: "center" });
    }
  }

  // ---------------------------------------------------------------- verdict

  function fillVerdict() {
    const id = idOf(sheet, row);
    const pick = picks.of(id);
    const stars = [1, 2, 3, 4, 5].map((rating) =>
      button(`Rate ${rating} of 5 (${rating})`, () => app.judge("rate", row, rating), {
        symbol: "star",
        class: `star${pick?.rating >= rating ? " is-on" : ""}`,
        "aria-pressed": pick?.rating === rating,
      }),
    );
    parts.verdict.replaceChildren(
      el("span", { class: "stars" }, stars),
      button("Favourite (F)", () => app.judge("favour", row), { symbol: "heart", class: `favour${pick?.is_favourite ? " is-on" : ""}`, "aria-pressed": Boolean(pick?.is_favourite) }),
      button("Reject (X)", () => app.judge("reject", row), { symbol: "reject", class: `reject${pick?.is_reject ? " is-on" : ""}`, "aria-pressed": Boolean(pick?.is_reject) }),
      button("Undo (U)", app.undo, { symbol: "undo", class: "quiet" }),
    );
    if (document.activeElement !== parts.note) parts.note.value = pick?.note || "";
  }

  // ---------------------------------------------------------------- details

  function fillActions() {
    const prompt = textOf(sheet, row, "prompt");
    const file = packs.fileUrl(sheet.imageOf[row]);
    const id = idOf(sheet, row);
    const children = [];
    if (!isHidden()) {
      children.push(
        button("Copy the prompt", () => copyText(prompt, "Prompt"), { text: "Copy prompt" }),
        button("Copy the command that draws this image again", copyCommand, { text: "Copy redraw command" }),
      );
    }
    children.push(
      button("Compare side by side (C)", () => app.toggleCompare(id), {
        text: app.state.compare.includes(id) ? "In comparison" : "Compare",
        "aria-pressed": app.state.compare.includes(id),
      }),
    );
    if (flip.back >= 0) {
      children.push(button("Both side by side", () => app.compare([idOf(sheet, flip.back), id]), { text: "Side by side" }));
    }
    if (file && hasPixels(sheet, row) && !isHidden()) {
      children.push(el("a", { class: "button", href: file, target: "_blank", rel: "noopener", text: "Open PNG" }));
    }
    parts.actions.replaceChildren(...children);
  }

  function copyCommand() {
    const image = sheet.imageOf[row];
    packs.whenLoaded(image, {}, (pack) => copyText(packs.commandOf(pack, image), "Command"));
  }

  function fillDetails() {
    packs.cancel(commandToken);
    if (isHidden()) {
      parts.details.replaceChildren(el("p", { class: "hint", text: "Labels are hidden until you judge this image." }));
      return;
    }
    const facts = [];
    const add = (name, value, attributes = {}) => {
      if (value === null || value === undefined || value === "") return;
      facts.push(el("dt", { text: name }), userText("dd", value, attributes));
    };
    add("prompt", textOf(sheet, row, "prompt"), { class: "prompt" });
    add("not seen by the model", textOf(sheet, row, "unseen"), { class: "warning" });
    const error = textOf(sheet, row, "error");
    add(sheet.status[row] === FAILED ? "failed" : "flagged", error, { class: "warning" });
    for (const axis of sheet.axes) add(axis.name, axis.values[axis.codes[row]]);
    const params = parseParams(textOf(sheet, row, "params"));
    for (const [name, value] of Object.entries(params)) {
      if (!sheet.axisByName.has(name)) add(name, value === null ? "default" : String(value));
    }
    const image = sheet.imageOf[row];
    for (const { name, values } of sheet.scores) {
      if (values[image] !== null && values[image] !== undefined) add(name, formatNumber(values[image], 4));
    }
    const { width, height, seconds, batch_size: batch } = sheet.numbers;
    if (width[row]) add("size", `${width[row]} × ${height[row]} px`);
    if (seconds[row]) add("time", `${formatNumber(seconds[row])} s in a batch of ${batch[row]}`);
    add("computed in", [textOf(sheet, row, "dtype"), textOf(sheet, row, "device")].filter(Boolean).join(" on "));
    add("weights", textOf(sheet, row, "model_fingerprint"));
    add("image id", idOf(sheet, row), { class: "code" });
    if (sheet.marks) add("runs", MARK_TEXT[sheet.marks[row]]);
    const pick = picks.ofRow(row);
    if (pick) add("picked", [pick.who, new Date(pick.picked_at).toLocaleString()].filter(Boolean).join(", "));
    const list = el("dl", { class: "facts" }, facts);
    const command = el("pre", { class: "command text", dir: "ltr", tabindex: 0, "aria-label": "Redraw command" });
    commandToken = {};
    packs.whenLoaded(image, commandToken, (pack) => (command.textContent = packs.commandOf(pack, image)));
    parts.details.replaceChildren(list, ...lineage(), el("h3", { text: "Draw this image again" }), command);
  }

  /** The images that this one descends from, where they are on this sheet; their ids otherwise. */
  function lineage() {
    const parents = sheet.parents[row] || [];
    const children = childrenOf(idOf(sheet, row));
    const line = (title, ids) =>
      ids.length
        ? [
            el("h3", { text: title }),
            el("p", { class: "lineage" }, ids.slice(0, 12).map((id) => {
              const image = sheet.imageById.get(id);
              if (image === undefined) return el("code", { text: id });
              return button(`Show ${id}`, () => open(sheet.rowOfImage[image], null), { text: id, class: "link code" });
            })),
          ]
        : [];
    return [...line("Descends from", parents), ...line("Drawn again as", children)];
  }

  function childrenOf(id) {
    const found = [];
    for (const [child, ids] of Object.entries(sheet.parents)) if (ids.includes(id)) found.push(idOf(sheet, Number(child)));
    return found;
  }

  // ---------------------------------------------------------------- keys

  function onKey(event) {
    if (event.target === parts.note || event.target.tagName === "SELECT") {
      if (event.key === "Escape" && event.target === parts.note) {
        event.preventDefault();
        stage.node.focus();
      }
      event.stopPropagation();
      return;
    }
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const down = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.shiftKey && across) walkStack(across);
    else if (event.key === ",") walkStack(-1);
    else if (event.key === ".") walkStack(1);
    else if (across) walk(0, across);
    else if (down) walk(down, 0);
    else if (event.key === " " && event.target.tagName !== "BUTTON") flipNow();
    else if (event.key === "+" || event.key === "=") stage.zoomBy(1.5);
    else if (event.key === "-") stage.zoomBy(1 / 1.5);
    else if (event.key === "0" && stage.view().zoom > 1) stage.resetZoom();
    else if (event.key === "n" || event.key === "N") parts.note.focus();
    else if (event.key === "t" || event.key === "T") app.tournament(app.grid.membersAt(place.row, place.col));
    else if (!app.judgeByKey(event.key, row)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Another part of the page changed a verdict or the comparison. */
  function update() {
    if (!dialog) return;
    fillVerdict();
    fillStrip();
    fillActions();
    fillFlip();
    fillDetails();
    parts.title.replaceChildren(
      ...titleParts(varyingAxes(sheet).filter((axis) => !isHidden() || HIDDEN_AXES_SHOWN.includes(axis.name))),
    );
  }

  return { open, update, focusNote: () => parts.note && parts.note.focus(), isOpen: () => dialog !== null, flip: flipNow };
}

function parseParams(text) {
  try {
    return JSON.parse(text || "{}");
  } catch {
    return {};
  }
}
