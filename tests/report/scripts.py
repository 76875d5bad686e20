"""The page's modules in node: no browser, no page, only data in and data out."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

STATIC = Path(__file__).parents[2] / "src" / "promptlab" / "report" / "static"


def run_script(folder: Path, program: str, **values: Any) -> Any:
    """Run a module that sees `values` and imports from "./"; return what it passes to `give`.

    Skips the test where node is missing.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine: the page's modules are tested in Chromium only")
    modules = folder / "modules"
    shutil.copytree(STATIC, modules, dirs_exist_ok=True)
    (modules / "package.json").write_text('{"type": "module"}')
    (modules / "values.json").write_text(json.dumps(values))
    (modules / "test.js").write_text(
        'import { readFileSync } from "node:fs";\n'
        "const given = JSON.parse(readFileSync(new URL('./values.json', import.meta.url)));\n"
        "const give = (value) => console.log(JSON.stringify(value));\n" + program
    )
    done = subprocess.run(
        [node, str(modules / "test.js")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def document_of(*roots: str, **options: Any) -> dict[str, Any]:
    """Return what a page of these runs reads, without thumbnails."""
    from promptlab.report.chunks import whole_chunk
    from promptlab.report.data import collect
    from promptlab.report.page import script_json, sheet_document
    from promptlab.store import read_run

    data = collect([read_run(root) for root in roots], options.get("sort"))
    shapes = {number: _shape() for number in range(data.num_images)}
    chunk = whole_chunk(data, shapes, [])
    document = sheet_document(data, chunk, [""] * len(roots), data.arrangement(), "now")
    return json.loads(script_json(document))


def _shape() -> Any:
    from promptlab.report.chunks import ThumbnailShape

    return ThumbnailShape(tint=0, width=48, height=48, is_native=True)


# What modules touch of a browser, where a test needs no more: elements that remember their
# listeners and children, storage, timers that a test lets run (`tick`), and a server (`answers`).
BROWSER = """
const made = [];
const makeNode = (tag) => {
  const node = {
    tag, style: { setProperty() {} }, dataset: {}, children: [], listeners: {}, attributes: {},
    classList: { add() {}, remove() {}, toggle() {} }, textContent: "",
    text: "", get value() { return node.text; }, set value(given) { node.text = String(given); },
    append(...nodes) { node.children.push(...nodes); },
    replaceChildren(...nodes) { node.children = nodes; },
    addEventListener(name, how) { node.listeners[name] = how; },
    setAttribute(name, value) { node.attributes[name] = value; },
    removeAttribute() {}, remove() {}, focus() {}, showModal() {}, querySelector: () => null,
    close() {}, getBoundingClientRect: () => ({ left: 0, bottom: 0 }), matches: () => false,
  };
  made.push(node);
  return node;
};
const byIds = new Map();
globalThis.document = {
  hidden: false, createElement: makeNode, createElementNS: (_, tag) => makeNode(tag),
  addEventListener() {}, querySelector: () => null, body: makeNode("body"), head: makeNode("head"),
  getElementById: (id) => byIds.get(id) || (byIds.set(id, makeNode(id)), byIds.get(id)),
};
const onWindow = {};
globalThis.window = { addEventListener: (name, how) => (onWindow[name] = how), origin: "x" };
globalThis.location = { href: "http://host/runs/a/", protocol: "http:" };
const stored = new Map();
let isFull = false;
globalThis.localStorage = {
  getItem: (key) => stored.get(key) ?? null,
  setItem(key, value) {
    if (isFull) throw new Error("full");
    stored.set(key, value);
  },
  key: (i) => [...stored.keys()][i],
  get length() { return stored.size; },
};
const later = globalThis.setTimeout;
const timers = [];
globalThis.setTimeout = (how, ms) => timers.push({ how, ms });
globalThis.clearTimeout = (number) => { if (number) timers[number - 1] = null; };
const waits = (of = 2200) => timers.filter((timer) => timer && timer.ms !== of); // toasts aside
const tick = async () => {
  const at = timers.findIndex((timer) => timer && timer.ms !== 2200);
  const { how, ms } = timers[at];
  timers[at] = null;
  how();
  for (let i = 0; i < 20; i += 1) await null; // what was promised is kept
  return ms;
};
const asked = []; // what was sent
const answers = []; // to send: {status, body}; null: no connection
globalThis.fetch = async (address, { body }) => {
  asked.push([address, JSON.parse(body)]);
  const answer = answers.shift();
  if (answer === null) throw new TypeError("no connection");
  const { status = 200, body: said = {} } = answer;
  return { ok: status < 400, status, json: async () => said };
};
"""
