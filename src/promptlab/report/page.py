"""The page: data and thumbnails as one HTML file, or as a file with a folder beside it.

Takes SheetData and thumbnails, writes files. The page's own program is in `static/`, hand-written,
without a framework; it becomes one inline script whose hash is the only one that the page's
Content-Security-Policy admits. Every text that a user wrote travels as JSON, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import promptlab
from promptlab.identity import escape_surrogates
from promptlab.report.data import STATUSES, Coded, SheetData
from promptlab.report.thumbnails import Thumbnail
from promptlab.verdicts.picks import EXPORT_FORMAT

PACK_SIZE = 64  # images whose thumbnails and commands travel together
MAX_OPEN_CELLS = 6  # so few cells show all their candidates at first
SCRIPTS = (
    "dom.js",
    "data.js",
    "packs.js",
    "state.js",
    "picks.js",
    "layout.js",
    "margins.js",
    "grid.js",
    "stage.js",
    "lightbox.js",
    "tournament.js",
    "panels.js",
    "main.js",
)
STYLES = ("sheet.css",)


@dataclass(frozen=True, slots=True)
class Pack:
    """What the page loads when one of these images comes near: thumbnails, commands, copies."""

    thumbnails: Sequence[bytes | None]
    commands: Sequence[str]
    full: Sequence[bytes | None] = ()  # whole images, in a file that has no folder beside it

    def to_json(self) -> str:
        """Return the pack as the page reads it."""
        document: dict[str, Any] = {
            "t": [_base64(data) for data in self.thumbnails],
            "c": list(self.commands),
        }
        if any(data is not None for data in self.full):
            document["f"] = [_base64(data) for data in self.full]
        return script_json(document)


def _base64(data: bytes | None) -> str:
    return "" if data is None else base64.b64encode(data).decode("ascii")


def script_json(value: Any) -> str:
    """Return a value as JSON that is safe inside any <script>, whatever its texts hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return escape_surrogates(text)  # in notes from a picks.json, and in names of folders


@dataclass(frozen=True, slots=True)
class ThumbnailShape:
    """What the page knows of a thumbnail before it has its bytes."""

    tint: int
    width: int
    height: int
    is_native: bool

    @classmethod
    def of(cls, thumbnail: Thumbnail) -> ThumbnailShape:
        """Return the shape of one thumbnail."""
        return cls(thumbnail.tint, thumbnail.width, thumbnail.height, thumbnail.is_native)


def sheet_document(
    data: SheetData,
    thumbnail_from_id: Mapping[int, ThumbnailShape],
    pack_names: Sequence[str],
    bases: Sequence[str | None],
    rows: str,
    columns: str,
    made_at: str,
) -> dict[str, Any]:
    """Return everything on the page but pixels and commands, as one JSON-ready value.

    `pack_names` are the URLs of the packs, none when they are inside the page; `bases` those of
    the runs' folders, None where the page cannot reach one.
    """
    shapes = [thumbnail_from_id.get(i) for i in range(data.num_images)]
    return {
        "schema": 1,
        "picks_format": EXPORT_FORMAT,
        "version": promptlab.__version__,
        "title": data.title,
        "sheet_id": data.sheet_id,
        "made_at": made_at,
        "runs": [
            {"name": run.name, "root": run.root, "base": base, "facts": run.facts}
            for run, base in zip(data.runs, bases, strict=True)
        ],
        "axes": [
            {
                "name": axis.name,
                "values": axis.values,
                "codes": axis.codes.tolist(),
                "is_numeric": axis.is_numeric,
            }
            for axis in data.axes
        ],
        "row": {
            "image": data.image_of_row.tolist(),
            "status": data.status.tolist(),
            "run": data.run_of_row.tolist(),
            "texts": {name: _coded(column) for name, column in data.texts.items()},
            "numbers": data.numbers,
            "parents": {str(row): ids for row, ids in data.parents.items()},
        },
        "image": {
            "id": data.image_ids,
            "path": data.image_paths,
            "run": data.image_run.tolist(),
            "sha": [None if sha is None else sha[:16] for sha in data.image_sha256],
            "tint": [-1 if shape is None else shape.tint for shape in shapes],
            "width": [0 if shape is None else shape.width for shape in shapes],
            "height": [0 if shape is None else shape.height for shape in shapes],
            "native": [0 if shape is None else int(shape.is_native) for shape in shapes],
        },
        "statuses": STATUSES,
        "scores": [{"name": name, "values": values} for name, values in data.scores.items()],
        "picks": [
            {
                "image_id": pick.image_id,
                "rating": pick.rating,
                "is_favourite": pick.is_favourite,
                "is_reject": pick.is_reject,
                "note": pick.note,
                "who": pick.who,
                "picked_at": pick.picked_at,
            }
            for pick in data.picks
        ],
        "packs": {"size": PACK_SIZE, "names": list(pack_names)},
        "defaults": {
            "rows": rows,
            "columns": columns,
            "open": data.num_cells(rows, columns) <= MAX_OPEN_CELLS,
        },
    }


def _coded(column: Coded) -> dict[str, Any]:
    return {"values": column.values, "codes": column.codes.tolist()}


def pack_script(number: int, pack_json: str) -> str:
    """Return one pack as a script file: from disk a page may load scripts, but fetch nothing."""
    return f"promptlabPack({number},{pack_json});\n"


def data_script(document_json: str) -> str:
    """Return the sheet's data as a script file."""
    return f"promptlabSheet({document_json});\n"


def page_parts(
    title: str, document_json: str | None, packs: Iterable[str], data_url: str = ""
) -> Iterator[str]:
    """Yield the page's HTML, piece by piece, so that a large page never exists twice in memory.

    With `document_json` None the data comes from `data_url`. `packs` are those inside the page.
    """
    script = _program()
    style = _join(STYLES)
    policy = "; ".join(
        (
            "default-src 'none'",
            # the one script by its hash; packs are loaded by that script, hence trusted by it
            f"script-src 'sha256-{_sha256(script)}' 'strict-dynamic'",
            f"style-src 'sha256-{_sha256(style)}'",
            "img-src 'self' file: data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    before, after = (
        _read("page.html")
        .replace("{{TITLE}}", html.escape(title))
        .replace("{{POLICY}}", html.escape(policy, quote=True))
        .replace("{{DATA_URL}}", html.escape(data_url, quote=True))
        .replace("{{STYLE}}", style)
        .split("{{DATA}}")
    )
    yield before
    if document_json is not None:
        yield f'<script type="application/json" id="sheet-data">{document_json}</script>\n'
    for number, pack in enumerate(packs):
        yield f'<script type="application/json" id="pack-{number}">{pack}</script>\n'
    yield after.replace("{{SCRIPT}}", script)


@cache
def _program() -> str:
    """Return the page's program: all scripts in order, in one scope of their own."""
    return f'(() => {{\n"use strict";\n{_join(SCRIPTS)}\n}})();'


def _join(names: Sequence[str]) -> str:
    return "\n".join(_read(name) for name in names)


@cache
def _read(name: str) -> str:
    return resources.files("promptlab.report").joinpath("static", name).read_text("utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def short_hash(text: str) -> str:
    """Return a name for content: a changed file has a changed URL, so no cache serves the old."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:10]
