"""A sheet that a server sends in pieces: the document first, then rows as they are drawn.

Takes one run and the rows of its plan that are pending; returns the page's document, chunks, packs
and PNG bytes. Thumbnails are made when their pack is asked for, so that a page opens at once. Knows
no server and no queue.
"""

from __future__ import annotations

import datetime
import secrets
import threading
import urllib.parse
from collections.abc import KeysView, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from promptlab.paths import RunPaths
from promptlab.planning.redraw import recorded_model, redraw_command
from promptlab.report import page
from promptlab.report.chunks import SheetChunk, SheetFeed, ThumbnailShape, whole_chunk
from promptlab.report.data import READ_COLUMNS, collect
from promptlab.report.looks import order_by_look
from promptlab.report.relatives import Relatives, find_relatives
from promptlab.report.thumbnails import Source, Thumbnail, ThumbnailCache, make_thumbnail
from promptlab.store.reader import Run
from promptlab.store.schema import AxisColumn, axis_columns
from promptlab.store.storage import open_storage
from promptlab.verdicts.picks import Pick, combine, newest_by_person

THUMBNAIL_PX = 160  # longest side, as in files: both keep the same thumbnails
MAX_ADDED = 64  # rows of one chunk
_NOT_FURTHER = frozenset({"subject", "style", "template", "model", "seed"})
_STATE = ("cell_id", "seed", "status", "sha256")

Row = Mapping[str, Any]


class PlannedRun(Run):
    """A run with the rows of its plan that are not drawn yet; their status is "pending"."""

    def __init__(self, root: str, pending: Sequence[Row] = ()) -> None:
        paths = RunPaths(root)
        super().__init__(paths, open_storage(paths.root))
        self._pending = pending
        planned = self.record.axes if pending else {}
        self._planned = {name: v for name, v in planned.items() if name not in _NOT_FURTHER}

    @property
    def axes(self) -> tuple[AxisColumn, ...]:
        """The further axes: of the rows, and of the plan."""
        return axis_columns(self._planned, super().axes)

    def rows(self, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the rows that are drawn, then the pending ones."""
        names = list(columns or [*READ_COLUMNS, *(axis.column for axis in self.axes)])
        planned_only = {a.column for a in self.axes} - {a.column for a in super().axes}
        stored = [name for name in names if name not in planned_only]
        rows = super().rows([*dict.fromkeys([*stored, "cell_id", "seed"])])
        drawn = {(row["cell_id"], row["seed"]) for row in rows}
        rows += [
            {**row, "path": None, "sha256": None, "status": "pending"}
            for row in self._pending
            if (row["cell_id"], row["seed"]) not in drawn
        ]
        return [{name: row.get(name) for name in names} for row in rows]


class ServedSheet:
    """One run's page as of its first visit, and what was added since; threads may share it."""

    def __init__(self, root: str, pending: Sequence[Row] = ()) -> None:
        """Read the run; raises ReportError when it has neither a row nor a plan."""
        self.token = secrets.token_hex(4)  # another sheet of the same run has other numbers
        self.run = PlannedRun(root, pending)
        self.record = self.run.record
        self._cache = ThumbnailCache(root, THUMBNAIL_PX)
        self._reading = threading.Lock()
        self._thumbnailing = threading.Lock()
        self.num_added = 0  # rows so far, all chunks together
        self._added: list[tuple[int, SheetChunk]] = []  # the number of rows with it, and a chunk
        data = collect([self.run])
        keys = zip(data.image_ids, (sha or "" for sha in data.image_sha256), strict=True)
        kept = self._cache.read()
        thumbnails = {number: kept[key] for number, key in enumerate(keys) if key in kept}
        look, twin = order_by_look(
            data.cell_of_row, data.image_of_row, {n: t.look for n, t in thumbnails.items()}
        )
        pairs = zip(data.image_ids, data.image_paths, strict=True)
        paths = tuple(path and image_url(image_id) for image_id, path in pairs)
        self.data = replace(data, look=look, twin=twin, image_paths=paths)
        shapes = {n: _shape_of(row) for n, row in enumerate(data.redraw_rows) if row["sha256"]}
        shapes |= {number: ThumbnailShape.of(t) for number, t in thumbnails.items()}
        self._chunk = whole_chunk(self.data, shapes, [])
        self._feed = SheetFeed.after(self.data)
        self._relatives = _served(find_relatives(data, [self.run], Path(root)))
        self._row_from_id = {row["image_id"]: row for row in data.redraw_rows}
        rows = self.run.rows(_STATE)
        self._states = {_request(row): _state(row) for row in rows}
        self.num_drawn = sum(row["status"] != "pending" for row in rows)

    @property
    def image_ids(self) -> KeysView[str]:
        """The images of the sheet, pending ones included."""
        return self._row_from_id.keys()

    @property
    def num_images(self) -> int:
        """How many images the sweep asks for."""
        return max(self.record.num_images, len(self._states))

    def read_news(self) -> bool:
        """Look for rows that were drawn since; tell whether there are some."""
        with self._reading:
            columns = [*READ_COLUMNS, *(axis.column for axis in self.run.axes)]
            rows = {_request(row): row for row in self.run.read_news(columns)}
            news = [
                row for request, row in rows.items() if self._states.get(request) != _state(row)
            ]
            for start in range(0, len(news), MAX_ADDED):
                self._add(news[start : start + MAX_ADDED])
        return bool(news)

    def _add(self, rows: Sequence[Row]) -> None:
        columns = {axis.column: axis.name for axis in self.run.axes}
        shapes = {row["image_id"]: _shape_of(row) for row in rows if row["sha256"]}
        shown = [
            {
                **{columns.get(name, name): value for name, value in row.items()},
                "path": row["path"] and image_url(row["image_id"]),
            }
            for row in rows
        ]
        chunk = self._feed.add(shown, shapes)
        for row in rows:
            self._row_from_id.pop(row["image_id"], None)  # the newest are last
            self._row_from_id[row["image_id"]] = row
            self.num_drawn += self._states.get(_request(row), ("pending", None))[0] == "pending"
            self._states[_request(row)] = _state(row)
        self.num_added += len(rows)
        self._added.append((self.num_added, chunk))

    def chunks_after(self, num_rows: int) -> list[tuple[int, SheetChunk]]:
        """Return the chunks after the first `num_rows` added rows, each with the rows so far."""
        return [(number, chunk) for number, chunk in list(self._added) if number > num_rows]

    def document(self, picks: Sequence[Pick], served: Mapping[str, Any]) -> str:
        """Return the page's document as JSON, with all rows so far and everybody's verdicts."""
        with self._reading:
            chunk = SheetChunk()
            chunk.extend(self._chunk)
            for _, added in self._added:
                chunk.extend(added)
            num_added = self.num_added
        shown = set(self.image_ids)
        said = {i: each for i, each in newest_by_person(picks).items() if i in shown}
        data = replace(
            self.data,
            picks=tuple(combine(each) for each in said.values()),
            said={i: tuple(each) for i, each in said.items() if len(each) > 1},
        )
        made_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        document = page.sheet_document(
            data, chunk, [""], data.arrangement(), made_at, self._relatives
        )
        events = f"events?sheet={self.token}&from={num_added}"
        return page.script_json({**document, "served": {"events": events, **served}})

    def pack(self, image_ids: Sequence[str]) -> str:
        """Return the pack of some images as JSON; an unknown one, or one not drawn, is empty."""
        rows = [self._row_from_id.get(image_id) for image_id in image_ids]
        with self._thumbnailing:  # two pages ask for the same pack: the second finds it made
            thumbnails = self._thumbnails([row for row in rows if row and row["sha256"]])
        return page.Pack(
            thumbnails=[thumbnails.get(image_id) for image_id in image_ids],
            commands=[
                redraw_command(row, recorded_model(self.record, row))
                if row and row["dtype"]
                else ""
                for row in rows
            ],
        ).to_json()

    def _thumbnails(self, rows: Sequence[Row]) -> dict[str, bytes]:
        kept = self._cache.read([row["image_id"] for row in rows])
        found = {row["image_id"]: kept[key] for row in rows if (key := _key_of(row)) in kept}
        made: list[Thumbnail] = []
        for row in rows:
            image_id, sha256 = _key_of(row)
            if image_id in found or (png := self.png(image_id)) is None:
                continue
            thumbnail = make_thumbnail(Source(image_id, sha256, png), THUMBNAIL_PX)
            if thumbnail is not None:
                made.append(thumbnail)
                found[image_id] = thumbnail
        self._cache.add(made)
        return {image_id: thumbnail.webp for image_id, thumbnail in found.items()}

    def thumbnail(self, image_id: str) -> bytes | None:
        """Return an image's thumbnail as WebP, None for one that is unknown or not drawn."""
        row = self._row_from_id.get(image_id)
        if row is None or not row["sha256"]:
            return None
        with self._thumbnailing:
            return self._thumbnails([row]).get(image_id)

    def newest(self, count: int) -> list[str]:
        """Return the image_ids that were drawn last, the last first."""
        drawn = [image_id for image_id, row in self._row_from_id.items() if row["sha256"]]
        return drawn[: -count - 1 : -1]

    def row(self, image_id: str) -> Row | None:
        """Return the row of an image, None for an unknown one."""
        return self._row_from_id.get(image_id)

    def seeds_of(self, cell_id: str) -> list[int]:
        """Return the seeds of a cell, pending ones included."""
        return [seed for cell, seed in list(self._states) if cell == cell_id]

    def png(self, image_id: str) -> bytes | None:
        """Return an image's PNG, None for one that is unknown, not drawn or gone."""
        row = self._row_from_id.get(image_id)
        if row is None or not row["path"] or not _is_inside(row["path"]):
            return None
        return self.run.image_at(image_id, row["path"])


def image_url(image_id: str) -> str:
    """Return an image's URL as the page sees it."""
    return f"images/{image_id}.png"


def run_url(name: str, image_id: str = "") -> str:
    """Return the URL of another run's page as a page sees it, with an image open on request."""
    return f"../{urllib.parse.quote(name)}/" + (f"#at={image_id}" if image_id else "")


def _is_inside(path: str) -> bool:
    """Tell whether a path, which a run folder of others may hold, stays in that folder."""
    return path.startswith("images/") and ".." not in path.replace("\\", "/").split("/")


def _served(relatives: Relatives) -> Relatives:
    """Return relatives by the URLs of the server, not by files."""
    links = {
        image_id: {
            "run": link["run"],
            "page": run_url(link["run"], image_id),
            "image": run_url(link["run"]) + image_url(image_id),
        }
        for image_id, link in relatives.links.items()
    }
    return Relatives(links, relatives.offspring)


def _shape_of(row: Row) -> ThumbnailShape:
    """Return what a thumbnail will be, without its tint, before it is made."""
    width, height = row["width"] or 1, row["height"] or 1
    scale = min(1.0, THUMBNAIL_PX / max(width, height))
    return ThumbnailShape(
        -1, max(1, round(width * scale)), max(1, round(height * scale)), scale == 1
    )


def _request(row: Row) -> tuple[str, int]:
    return row["cell_id"], row["seed"]


def _state(row: Row) -> tuple[str, str | None]:
    return row["status"], row["sha256"]


def _key_of(row: Row) -> tuple[str, str]:
    return row["image_id"], row["sha256"] or ""


def pick_document(said: Sequence[Pick]) -> dict[str, Any]:
    """Return what people say of one image as a page reads it, newest verdicts of all of them."""
    standing = [pick for pick in said if not pick.is_cleared]
    return {
        "image_id": said[0].image_id,
        "pick": asdict(combine(standing)) if standing else None,
        "said": [asdict(pick) for pick in said],
    }
