// Judging several at once: the tournament asks which of two is better until one is left, the
// comparison shows two to four side by side under one zoom.

/** A knock-out over `rows` of data; the winner becomes a favourite. */
function openTournament(app, rows) {
  const { sheet, picks } = app;
  const contenders = rows.filter((row) => hasPixels(sheet, row));
  if (contenders.length < 2) {
    say("A tournament needs two images of one cell");
    return;
  }
  let round = shuffle(contenders);
  let next = [];
  const history = [];
  const total = contenders.length - 1;
  const stage = makeStage(app);
  const progress = el("p", { class: "hint", role: "status" });
  const choices = el("div", { class: "choices" });
  const dialog = openDialog("Which is better?", [progress, stage.node, choices], "wide");

  function ask() {
    if (round.length === 1) next.push(round.pop());
    if (round.length === 0) {
      if (next.length === 1) {
        finish(next[0]);
        return;
      }
      round = next;
      next = [];
      if (round.length === 1) return void finish(round[0]);
    }
    const [left, right] = round;
    progress.textContent = `${history.length + 1} of ${total} · arrow keys choose · U goes back`;
    stage.show([sheet.imageOf[left], sheet.imageOf[right]], [captionOf(left), captionOf(right)]);
    choices.replaceChildren(
      button("The left one (←)", () => choose(0), { text: "← Left", class: "primary" }),
      button("The right one (→)", () => choose(1), { text: "Right →", class: "primary" }),
    );
  }

  const captionOf = (row) => (app.state.blind ? null : describeRow(sheet, row));

  function choose(winner) {
    history.push({ round: [...round], next: [...next] });
    const [left, right, ...rest] = round;
    next.push(winner === 0 ? left : right);
    round = rest;
    ask();
  }

  function back() {
    const last = history.pop();
    if (!last) return;
    ({ round, next } = last);
    ask();
  }

  function finish(row) {
    const id = idOf(sheet, row);
    if (!picks.of(id)?.is_favourite) app.judge("favour", row);
    progress.textContent = `The best of ${contenders.length}: now a favourite.`;
    stage.show([sheet.imageOf[row]], [describeRow(sheet, row)]);
    choices.replaceChildren(button("Done", () => dialog.close(), { text: "Done", class: "primary" }));
    choices.firstChild.focus();
    round = [];
    next = [];
    isDone = true;
  }

  let isDone = false;
  dialog.addEventListener("keydown", (event) => {
    const winner = { ArrowLeft: 0, ArrowRight: 1 }[event.key];
    if (!isDone && winner !== undefined) choose(winner);
    else if (!isDone && (event.key === "u" || event.key === "U")) back();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  ask();
}

function shuffle(items) {
  const shuffled = [...items];
  for (let i = shuffled.length - 1; i > 0; i -= 1) {
    const j = Math.floor(Math.random() * (i + 1));
    [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
  }
  return shuffled;
}

/** Two to four images side by side; wheel, pinch and drag move all of them together. */
function openComparison(app, ids) {
  const { sheet } = app;
  const images = ids.map((id) => sheet.imageById.get(id)).filter((image) => image !== undefined);
  if (images.length < 2) {
    say("Choose two to four images to compare: C on each");
    return;
  }
  const stage = makeStage(app);
  const rows = images.map((image) => sheet.rowOfImage[image]);
  const isHidden = (row) => app.state.blind && !app.picks.isRevealed(idOf(sheet, row));
  const captions = () => rows.map((row) => (isHidden(row) ? null : describeRow(sheet, row)));
  const dialog = openDialog("Compare", [stage.node], "wide compare");
  stage.show(images, captions());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") stage.zoomBy(1.5);
    else if (event.key === "-") stage.zoomBy(1 / 1.5);
    else if (event.key === "0") stage.resetZoom();
    else return;
    event.preventDefault();
  });
}
