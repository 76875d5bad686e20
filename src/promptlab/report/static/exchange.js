// Verdicts in and out: the file that `promptlab pick --import` takes, and files of others.

import { button, copyText, el, openDialog, say } from "./dom.js";
import { formatCount, quoteShell, slugify } from "./text.js";

export function makeExchange(app) {
  const { sheet, picks } = app;

  /** The file's name says its run, so that several do not get mixed up among the downloads. */
  function fileName() {
    const folders = sheet.runs.map(({ root }) => root.replace(/\/+$/, "").split("/").pop());
    return `picks_${slugify(folders.join("+")) || "sheet"}.json`;
  }

  function save() {
    if (!picks.numNew()) {
      say("No verdicts yet: 1–5 rates, F is a favourite, X rejects");
      return;
    }
    const text = picks.exportText();
    const name = fileName();
    const command = `promptlab pick --import ${quoteShell(name)}`;
    const area = el("textarea", { class: "plain-text", readonly: true, value: text, "aria-label": name });
    const link = el("a", { class: "button primary", download: name, href: URL.createObjectURL(new Blob([text], { type: "application/json" })), text: `Save ${name}` });
    const kept = "They are kept in this browser. To keep them with the run, save the file and import it; the command finds it among your downloads, and the run by what the file says:";
    const lost = "Picks are not saved in this view; download them before you close it, and import them:";
    const left = () => {
      URL.revokeObjectURL(link.href);
      app.grid.focus();
    };
    openDialog(formatCount(picks.numNew(), "verdict"), [
      el("p", { class: picks.isKept() ? "" : "warning", text: picks.isKept() ? kept : lost }),
      el("pre", { class: "command text", text: command, tabindex: 0 }),
      el("div", { class: "button-row" }, link,
        button("Copy the command", () => copyText(command, "Command"), { text: "Copy command" }),
        button("Copy the file's text", () => copyText(text, name), { text: "Copy the text" }),
      ),
      el("p", { class: "hint", text: "To copy the picked images into a folder:" }),
      el("pre", { class: "command text", text: `promptlab pick --copy picked ${quoteShell(sheet.runs[0].root)}`, tabindex: 0 }),
      area,
    ], "small", left);
  }

  function load() {
    const input = el("input", { type: "file", accept: ".json,application/json" });
    input.addEventListener("change", async () => {
      try {
        const count = picks.importText(await input.files[0].text());
        say(`${formatCount(count, "new pick")}`);
      } catch {
        say("This is no picks.json of a contact sheet");
      }
    });
    input.click();
  }

  return { save, load, fileName };
}
