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
