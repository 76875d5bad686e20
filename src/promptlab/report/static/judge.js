// The judge: turns keys and buttons into verdicts on one image or on many, says what it did, and
// takes it back. Knows picks; does not know where images stand.

import { describeRow, idOf } from "./data.js";
import { button, el, say } from "./dom.js";
import { verdictText } from "./picks.js";
import { formatCount } from "./text.js";

const JUDGING_KEYS = { 0: "clear", Backspace: "clear", f: "favour", x: "reject" };
const MIN_BAR_PX = 84; // a narrower image has no room for the bar

export function makeJudge(app) {
  const { sheet, picks } = app;
  let wasTold = false; // that this page keeps nothing

  /** Give a verdict on rows of data: `how` is a function of picks. */
  function judge(how, rows, ...rest) {
    if (app.sync && !app.sync.mayJudge) {
      say("This link may look, and not judge");
      return;
    }
    const ids = [...new Set(rows.map((row) => idOf(sheet, row)))];
    picks[how](ids, ...rest);
    const isUnsigned = !app.who() && sheet.said[ids[0]];
    const verdict = `${verdictText(picks.of(ids[0]))}${isUnsigned ? " · not signed: Settings have your name" : ""}`;
    if (!picks.isKept() && !wasTold) {
      wasTold = true;
      say(`${verdict} · This view keeps no verdicts: save them before you close it`);
    } else if (ids.length > 1) say(`${formatCount(ids.length, "image")}: ${verdict} · U takes it back`);
    else say(app.blind.isHidden(ids[0]) || app.state.blind ? verdict : `${verdict} · ${describeRow(sheet, rows[0])}`);
  }

  /** Take the last verdict back; returns the images it was on. */
  function undo() {
    const ids = picks.undo();
    say(!ids ? "Nothing to undo" : ids.length > 1 ? `Undone on ${formatCount(ids.length, "image")}` : "Undone");
    return ids || [];
  }

  /**
   * What a key does to images, as a function of their rows; null if it judges nothing. A key that is
   * held down judges once.
   */
  function actionOf({ key, repeat }) {
    const rating = /^[1-5]$/.test(key) ? Number(key) : null;
    const how = rating ? "rate" : JUDGING_KEYS[key.length === 1 ? key.toLowerCase() : key];
    if (!how) return null;
    return repeat ? () => {} : (rows) => judge(how, rows, ...(rating ? [rating] : []));
  }

  return { judge, undo, actionOf };
}

/** A small bar on the image under the mouse: ★ ♥ ✕, for who has not found the keys yet. */
export function makeHoverBar(app) {
  const act = (how, ...rest) => (event) => {
    event.stopPropagation();
    const rows = app.cursor.take();
    if (rows) app.judge.judge(how, rows, ...rest);
    app.grid.focus();
  };
  const minRating = app.sheet.pick_rating;
  const hidden = { tabindex: "-1", "aria-hidden": "true" };
  const bar = el("span", { class: "hover-bar" },
    button(`${minRating} stars (keys 1–5)`, act("rate", minRating), { symbol: "star", ...hidden }),
    button("Favourite (F)", act("favour"), { symbol: "heart", ...hidden }),
    button("Reject (X)", act("reject"), { symbol: "reject", ...hidden }),
  );
  /** Put the bar on an image; null takes it away. */
  function attach(node) {
    if (!node || app.grid.size().slotW < MIN_BAR_PX) bar.remove();
    else if (bar.parentNode !== node) node.append(bar);
  }
  return { attach };
}
