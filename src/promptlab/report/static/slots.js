// Slots: the places of images in cells. Makes them, binds them to rows of data, loads the picture
// that is sharp enough, and shows verdicts and marks on them. Knows nothing of scrolling.

import { FAILED, FLAGGED, PENDING, describeRow, hasPixels, idOf, textOf, varyingAxes } from "./data.js";
import { el } from "./dom.js";
import { ALONE, DIFFERS, MARK_TEXT, SAME, rareMark } from "./marks.js";
import { verdictText } from "./picks.js";
import { short } from "./text.js";

const SMALL_PX = 104; // a narrower slot has no room for five stars
const TINY_PX = 56; // in a narrower slot, the number of candidates would hide the picture
const ENOUGH = 1.15; // device px a thumbnail may be stretched before the file itself is shown

export function makeSlots(app) {
  const { sheet, picks, packs } = app;
  let slotPx = 0; // width of a slot, CSS px
  let flip = null; // (row of data) -> row shown in its place

  function make() {
    const img = el("img", { alt: "", draggable: "false", hidden: true });
    const count = el("span", { class: "count" });
    const verdict = el("span", { class: "verdict" });
    const mark = el("span", { class: "mark" });
    const number = el("span", { class: "number" });
    const caption = el("span", { class: "caption text", dir: "auto" });
    const node = el("div", { class: "slot", role: "img" }, img, count, verdict, mark, number, caption);
    img.addEventListener("load", () => (img.hidden = false));
    return { node, img, count, verdict, mark, number, caption, token: {}, image: -1, url: "", data: -1, shown: -1, stack: [] };
  }

  /** Show a stack of rows of data in a slot; an empty one hides it. */
  function bind(slot, stack, place) {
    const { node, img } = slot;
    packs.cancel(slot.token);
    node.place = place;
    node.id = `at-${place.row}-${place.col}-${place.slot}`;
    slot.stack = stack || [];
    slot.data = slot.stack.length ? slot.stack[0] : -1;
    node.hidden = slot.data < 0;
    node.className = "slot";
    slot.shown = slot.data < 0 || !flip ? slot.data : flip(slot.data);
    if (slot.shown < 0 && slot.data >= 0) {
      slot.shown = slot.data; // nothing to flip to
      node.classList.add("is-left-behind");
    }
    if (slot.data < 0) {
      slot.image = -1;
      return;
    }
    const image = app.pictureOf(sheet.imageOf[slot.shown]);
    const status = sheet.status[slot.shown];
    node.classList.toggle("is-failed", status === FAILED);
    node.classList.toggle("is-flagged", status === FLAGGED);
    node.classList.toggle("is-pending", status === PENDING);
    node.classList.toggle("is-stack", slot.stack.length > 1);
    slot.count.textContent = slot.stack.length > 1 && slotPx >= TINY_PX ? slot.stack.length : "";
    bindMark(slot);
    bindVerdict(slot);
    const wantsFile = isTooSmall(image);
    if (image === slot.image && slot.url && slot.wantsFile === wantsFile) return; // the same picture stays
    slot.wantsFile = wantsFile;
    load(slot, image, img);
  }

  /** Whether an image's thumbnail has fewer pixels than the screen shows in a slot. */
  const isTooSmall = (image) =>
    !sheet.image.native[image] && slotPx * (window.devicePixelRatio || 1) > ENOUGH * Math.max(sheet.image.width[image], 1);

  function load(slot, image, img) {
    const isOther = image !== slot.image;
    slot.image = image;
    slot.url = "";
    if (isOther && !flip) {
      img.hidden = true;
      img.removeAttribute("src");
    }
    const tint = sheet.image.tint[image];
    slot.node.style.backgroundColor = tint < 0 ? "" : `#${tint.toString(16).padStart(6, "0")}`;
    if (!hasPixels(sheet, slot.shown)) {
      img.hidden = true;
      return;
    }
    packs.whenLoaded(image, slot.token, (pack) => {
      slot.url = packs.thumbUrl(pack, image);
      const better = slot.wantsFile ? packs.wholeUrl(pack, image) || packs.fileUrl(image) : "";
      img.onerror = better ? () => ((img.onerror = null), (img.src = slot.url)) : null;
      img.src = better || slot.url;
    });
  }

  function bindMark(slot) {
    const { mark, shown } = { mark: slot.mark, shown: slot.shown };
    const run = sheet.marks ? sheet.marks[shown] : 0;
    const numFailed = slot.stack.filter((row) => sheet.status[row] === FAILED).length;
    const isUnknown = !sheet.isAllUnknown && textOf(sheet, shown, "unseen") !== "";
    const equal = sheet.marks ? -1 : app.equals.firstOf(shown);
    const [text, title] =
      run && (run === rare() || run === ALONE) ? [{ [SAME]: "=", [DIFFERS]: "≠", [ALONE]: "1" }[run], MARK_TEXT[run]]
      : numFailed && slot.stack.length > 1 ? [`${numFailed}✕`, `${numFailed} of ${slot.stack.length} failed`]
      : equal >= 0 ? ["=", `the same pixels as ${describeRow(sheet, equal)}`]
      : isUnknown ? ["?", `not seen by the model: ${textOf(sheet, shown, "unseen")}`]
      : app.state.fold && app.equals.numTwins(shown) ? [`≈${app.equals.numTwins(shown)}`, "nearly equal images that are folded into this one"]
      : ["", ""];
    const isHidden = app.blind.isHidden(idOf(sheet, shown)) && text !== "1" && text !== "≠";
    mark.textContent = isHidden ? "" : text;
    mark.title = isHidden ? "" : short(title, 300);
    slot.node.dataset.mark = run || "";
  }

  let rareOf = null; // the mark worth showing, for as many rows as there were

  function rare() {
    if (!rareOf || rareOf.numRows !== sheet.numRows) rareOf = { numRows: sheet.numRows, mark: rareMark(sheet) };
    return rareOf.mark;
  }

  /** Show the verdict on what a slot shows, and whether it is chosen. */
  function bindVerdict(slot) {
    const id = idOf(sheet, slot.shown);
    const pick = picks.of(id);
    const { node } = slot;
    node.classList.toggle("is-favourite", Boolean(pick?.is_favourite));
    node.classList.toggle("is-reject", Boolean(pick?.is_reject));
    const at = app.state.chosen.indexOf(id);
    node.classList.toggle("is-chosen", at >= 0);
    slot.number.textContent = at >= 0 ? at + 1 : "";
    const parts = [];
    if (pick?.is_favourite) parts.push("♥");
    if (pick?.rating) parts.push(slotPx < SMALL_PX ? `★${pick.rating}` : "★".repeat(pick.rating));
    if (pick?.note) parts.push("✎");
    slot.verdict.textContent = parts.join(" ");
    const isHidden = app.blind.isHidden(id);
    slot.caption.textContent = app.state.blind && !isHidden ? short(blindCaption(slot.shown), 60) : "";
    node.setAttribute("aria-label", labelOf(slot, pick, isHidden));
    node.title = isHidden ? "" : describeRow(sheet, slot.shown);
  }

  const blindCaption = (row) =>
    describeRow(sheet, row, varyingAxes(sheet).filter((axis) => !["subject", "seed"].includes(axis.name)));

  function labelOf(slot, pick, isHidden) {
    const row = slot.shown;
    const name = isHidden ? "label hidden" : describeRow(sheet, row);
    const stack = slot.stack.length > 1 ? `, the first of ${slot.stack.length}` : "";
    const mark = sheet.marks ? `, ${MARK_TEXT[sheet.marks[row]]}` : "";
    const status = { [FAILED]: ", failed", [FLAGGED]: ", flagged", [PENDING]: ", not drawn yet" }[sheet.status[row]] || "";
    return `${name}${stack}${status}, ${verdictText(pick)}${mark}`;
  }

  return {
    make,
    bind,
    bindVerdict,
    release: (slot) => packs.cancel(slot.token),
    setSize: (px) => (slotPx = px),
    setFlip: (rowShown) => (flip = rowShown),
  };
}
