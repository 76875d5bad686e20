"""Acts: what a sheet's images give rise to, as entries of the queue.

Takes an image of a run and what is wanted of it: more seeds of its cell, the same in all styles,
variations, an enlargement, other parameters; returns command lines that anyone could have typed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from promptlab.planning.own_words import own_words
from promptlab.planning.redraw import hydra_value, recorded_model, redraw_overrides
from promptlab.planning.seeds import MAX_SEED, parse_seeds
from promptlab.records import IMPORTED
from promptlab.report.served import ServedSheet
from promptlab.serve.checks import WishRefusedError, check
from promptlab.serve.door import Guarded, read_json, visitor_of
from promptlab.serve.server import document_of

if TYPE_CHECKING:
    from promptlab.serve.server import Server

KINDS = ("seeds", "styles", "vary", "enlarge", "params")
UPSCALER = "animevideov3"  # as of `promptlab upscale`
MAX_IMAGES = 12  # of one act
MAX_SEEDS = 256
MAX_VALUES = 20  # of one parameter

Row = Mapping[str, Any]


def routes(server: Server) -> list[Guarded]:
    """Return the routes of acts."""

    async def act(request: Request) -> Response:
        """Queue what is wanted of some images; answer with the entries."""
        room = await server.rooms.open(request.path_params["name"])
        if room is None:
            raise HTTPException(404, "There is no such run.")
        wanted = await read_json(request)
        kind, image_ids = wanted.get("kind"), wanted.get("image_ids")
        if kind not in KINDS:
            raise WishRefusedError(f"kind: expected one of {', '.join(KINDS)}.")
        rows = _rows_of(room.sheet, image_ids)
        seeds = wanted.get("seeds", 8)
        if type(seeds) is not int or not 1 <= seeds <= MAX_SEEDS:
            raise WishRefusedError(f"seeds: expected a number from 1 to {MAX_SEEDS}.")
        lines: list[tuple[str, list[str]]]
        if kind in ("vary", "enlarge"):
            ids = ",".join(row["image_id"] for row in rows)
            lines = [(rows[0]["image_id"], line_of_images(kind, ids, rows[0]["sweep"], seeds))]
        elif kind == "seeds":
            lines = [
                (r["image_id"], more_seeds(room.sheet, r, seeds, _asked(server, r))) for r in rows
            ]
        elif kind == "styles":
            lines = [(row["image_id"], in_all_styles(room.sheet, row)) for row in rows]
        else:
            lines = [
                (r["image_id"], other_params(room.sheet, r, wanted.get("params"))) for r in rows
            ]
        who = visitor_of(request).name
        entries = [
            await server.submit(tuple(argv), who=who, source="sheet", of=image_id)
            for image_id, argv in lines
        ]
        return JSONResponse({"entries": [document_of(entry) for entry in entries]}, 201)

    return [Guarded("/runs/{name}/act", act, role="run", methods=["POST"])]


def _rows_of(sheet: ServedSheet, image_ids: Any) -> list[Row]:
    if not isinstance(image_ids, list) or not 1 <= len(image_ids) <= MAX_IMAGES:
        raise WishRefusedError(f"image_ids: expected a list of 1 to {MAX_IMAGES} images.")
    rows = []
    for image_id in image_ids:
        row = sheet.row(image_id) if isinstance(image_id, str) else None
        if row is None or row["sha256"] is None:
            raise WishRefusedError("image_ids: expected images of this run that are drawn.")
        rows.append(row)
    return rows


def line_of_images(kind: str, image_ids: str, sweep: str, seeds: int = 8) -> list[str]:
    """Return the line that varies or enlarges images."""
    if kind == "vary":
        return [f"--from-images={image_ids}", f"seeds={seeds}", _name(sweep, "_varied")]
    return ["-m", f"model={UPSCALER}", f"parent={image_ids}", _name(sweep, "_upscaled")]


def more_seeds(sheet: ServedSheet, row: Row, count: int, asked: Sequence[int] = ()) -> list[str]:
    """Return the line that draws a cell with the seeds after those that it has, or is to have."""
    first = max([*sheet.seeds_of(row["cell_id"]), *asked, row["seed"]]) + 1
    first = min(first, MAX_SEED - count + 1)
    return [
        *_cell_of(sheet, row),
        f"seeds={first}-{first + count - 1}",
        _name(row["sweep"], "_more"),
    ]


def in_all_styles(sheet: ServedSheet, row: Row) -> list[str]:
    """Return the line that draws an image's seed in every style."""
    kept = [o for o in _cell_of(sheet, row) if not o.startswith("style=")]
    name = _name(row["sweep"], "_styles")
    return ["-m", *kept, "style=glob(*)", f"seeds=[{row['seed']}]", name]


def other_params(sheet: ServedSheet, row: Row, params: Any) -> list[str]:
    """Return the line that draws an image's seed with other sampling parameters."""
    known = json.loads(row["params"])
    if not isinstance(params, Mapping) or not params:
        raise WishRefusedError("params: expected parameters and their values.")
    written = {}
    for key, given in params.items():
        values = given if isinstance(given, list) else [given]
        is_plain = all(value is None or type(value) in (int, float, bool, str) for value in values)
        if key not in known or not is_plain or not 1 <= len(values) <= MAX_VALUES:
            raise WishRefusedError(f"params: expected values of some of {', '.join(known)}.")
        written[key] = ",".join(map(hydra_value, values))
    kept = [o for o in _cell_of(sheet, row) if o.partition("=")[0] not in written]
    changed = check([f"{key}={text}" for key, text in written.items()])  # a client's own words
    return ["-m", *kept, *changed, f"seeds=[{row['seed']}]", _name(row["sweep"], "_params")]


def _cell_of(sheet: ServedSheet, row: Row) -> list[str]:
    """Return the overrides of an image's cell, without its seeds."""
    if row["device"] == IMPORTED:
        raise WishRefusedError("This image was drawn elsewhere: no model here draws its cell.")
    axes = {axis.name: row[axis.column] for axis in sheet.run.axes}
    model = recorded_model(sheet.record, row)
    overrides = redraw_overrides(row, model, own_words(row, axes))
    return [override for override in overrides if not override.startswith("seeds=")]


def _asked(server: Server, row: Row) -> list[int]:
    """Return the seeds that earlier acts on an image have asked for."""
    seeds: list[int] = []
    for entry in server.queue.entries():
        for argument in entry.argv if entry.of == row["image_id"] else ():
            key, _, value = argument.partition("=")
            if key == "seeds" and "-" in value:
                seeds += parse_seeds(value)
    return seeds


def _name(sweep: str, suffix: str) -> str:
    """Return a name for what descends from a sweep; a descendant of a descendant keeps it."""
    base = sweep if sweep.endswith(suffix) else sweep + suffix
    return f"name={hydra_value(base)}"
