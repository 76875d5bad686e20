"""The page: data and thumbnails as one HTML file, or as a file with a folder beside it.

Takes SheetData and thumbnails, writes files. The page's own program is in `static/`, hand-written,
without a framework, as ES modules; joined, they are one inline script whose hash is the only one
that the page's Content-Security-Policy admits. Every text that a user wrote travels as JSON, never
as markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from promptlab.identity import escape_surrogates
from promptlab.report.arrangement import Arrangement
from promptlab.report.chunks import SheetChunk
from promptlab.report.data import STATUSES, SheetData
from promptlab.report.relatives import Relatives
from promptlab.verdicts.picks import EXPORT_FORMAT, pick_rating
from promptlab.version import __version__

MAX_OPEN_CELLS = 6  # so few cells show all their candidates at first
ENTRY = "main.js"  # the module that imports all others
STYLES = ("sheet.css", "views.css")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class)\b)", re.MULTILINE)


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


def sheet_document(
    data: SheetData,
    chunk: SheetChunk,
    bases: Sequence[str | None],
    arrangement: Arrangement,
    made_at: str,
    relatives: Relatives = Relatives(),  # noqa: B008  frozen
    shares: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return everything on the page but pixels and commands, as one JSON-ready value.

    `bases` are the URLs of the runs' folders, None where the page cannot reach one; `relatives`
    are images of other runs; `shares` what a bias audit found.
    """
    return {
        "schema": 2,
        "picks_format": EXPORT_FORMAT,
        "pick_rating": pick_rating(),
        "version": __version__,
        "title": data.title,
        "sheet_id": data.sheet_id,
        "made_at": made_at,
        "runs": [
            {
                "name": run.name,
                "root": run.root,
                "run_id": run.run_id,
                "base": base,
                "facts": run.facts,
            }
            for run, base in zip(data.runs, bases, strict=True)
        ],
        "axes": [
            {"name": axis.name, "is_numeric": axis.is_numeric, "default": axis.default}
            for axis in data.axes
        ],
        "statuses": STATUSES,
        "scores": [
            {
                "name": score.name,
                "is_higher_better": score.is_higher_better,
                "low": score.low,
                "high": score.high,
            }
            for score in data.scores
        ],
        "sort": data.sorting_score.name if data.sorting_score else None,
        "picks": [asdict(pick) for pick in data.picks],
        "said": {image_id: [asdict(p) for p in said] for image_id, said in data.said.items()},
        "shares": list(shares),
        "relatives": dict(relatives.links),
        "offspring": dict(relatives.offspring),
        "defaults": {
            "rows": arrangement.rows,
            "columns": arrangement.columns,
            "inner": arrangement.inner,
            "tabs": arrangement.tabs,
            "open": data.num_cells(arrangement) <= MAX_OPEN_CELLS,
        },
        "chunk": chunk.document(),
    }


def pack_script(number: int, pack_json: str) -> str:
    """Return one pack as a script file: from disk a page may load scripts, but fetch nothing."""
    return f"promptlabPack({number},{pack_json});\n"


def data_script(document_json: str) -> str:
    """Return the sheet's data as a script file."""
    return f"promptlabSheet({document_json});\n"


def page_policy(is_served: bool = False) -> str:
    """Return the Content-Security-Policy of a page: a file fetches nothing, a served page does."""
    return "; ".join(
        (
            "default-src 'none'",
            # the one script by its hash; packs are loaded by that script, hence trusted by it
            f"script-src 'sha256-{_sha256(_program())}' 'strict-dynamic'",
            f"style-src 'sha256-{_sha256(_join(STYLES))}'",
            "img-src 'self' file: data: blob:",
            *(["connect-src 'self'"] if is_served else []),
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def page_parts(
    title: str,
    document_json: str | None,
    packs: Iterable[str],
    data_url: str = "",
    is_served: bool = False,
) -> Iterator[str]:
    """Yield the page's HTML, piece by piece, so that a large page never exists twice in memory.

    With `document_json` None the data comes from `data_url`. `packs` are those inside the page.
    """
    values = {
        "title": html.escape(title),
        "policy": html.escape(page_policy(is_served), quote=True),
        "data_url": html.escape(data_url, quote=True),
        "style": _join(STYLES),
        "script": _program(),
    }
    before, after = (Template(part) for part in _read("page.html").split("$data\n"))
    yield before.substitute(values)
    if document_json is not None:
        yield f'<script type="application/json" id="sheet-data">{document_json}</script>\n'
    for number, pack in enumerate(packs):
        yield f'<script type="application/json" id="pack-{number}">{pack}</script>\n'
    yield after.substitute(values)


@cache
def _program() -> str:
    """Return the page's program: its modules in the order of their imports, in one scope.

    From disk a page may import no module, so import lines are dropped and exports become plain
    declarations; names are unique across modules.
    """
    parts = "\n".join(_EXPORT.sub("", _IMPORT.sub("", _read(name))) for name in modules())
    return f'(() => {{\n"use strict";\n{parts}\n}})();'


@cache
def modules() -> tuple[str, ...]:
    """Return the names of the page's modules, each after those that it imports."""
    ordered: dict[str, bool] = {}  # name -> whether it is placed

    def place(name: str) -> None:
        if name in ordered:
            return
        ordered[name] = False
        for imported in _IMPORT.findall(_read(name)):
            place(imported)
        del ordered[name]
        ordered[name] = True

    place(ENTRY)
    return tuple(ordered)


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
