"""The one data model of every contact sheet: columns of rows, axes as codes into their values.

Takes runs as the store reads them, with their picks and scores; returns SheetData, from which the
page and the pictures are made. Knows no HTML and no pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.errors import ReportError
from promptlab.identity import hash_id
from promptlab.records import ROW_COLUMNS
from promptlab.report.arrangement import Arrangement, arrange
from promptlab.report.axes import SheetAxis, axis_text, collect_axes
from promptlab.report.enlarged import set_apart_enlarged
from promptlab.report.images import collect_images
from promptlab.verdicts.picks import Pick, combine, newest_by_person, read_picks
from promptlab.verdicts.scores import SheetScore, read_scores

if TYPE_CHECKING:
    from promptlab.store import Run

STATUSES = ("ok", "flagged", "failed", "pending")  # pending: planned, not drawn yet
TEXT_COLUMNS = (
    "prompt",
    "params",
    "error",
    "unseen",
    "model_fingerprint",
    "dtype",
    "device",
    "numerics",
)
NUMBER_COLUMNS = ("seconds", "batch_size", "width", "height", "cost_usd")
READ_COLUMNS = (*(name for name in ROW_COLUMNS if name != "created_at"), "path")


@dataclass(frozen=True)
class Coded:
    """A column of few distinct values: the values, and one code a row."""

    values: tuple[Any, ...]
    codes: np.ndarray  # int32 [row], indices into values


@dataclass(frozen=True)
class SheetRun:
    """One of the runs on the sheet."""

    name: str
    root: str
    run_id: str  # as sweep.yaml has it; the folder's name for a run without one
    facts: tuple[tuple[str, str], ...]  # what its sweep.yaml says, flattened for reading


@dataclass(frozen=True)
class SheetData:
    """Everything that a contact sheet shows but for pixels.

    A row is one request of one run; an image may belong to several rows. All row columns have
    the length `num_rows`; all image columns the length `num_images`.
    """

    title: str
    sheet_id: str  # same runs, same id: where a browser keeps the picks of this sheet
    runs: tuple[SheetRun, ...]
    axes: tuple[SheetAxis, ...]
    run_of_row: np.ndarray  # int32 [row]
    image_of_row: np.ndarray  # int32 [row]
    status: np.ndarray  # int8 [row], indices into STATUSES
    texts: Mapping[str, Coded]
    numbers: Mapping[str, list[float | int | None]]  # by column: seconds, batch_size, …
    redraw_rows: tuple[Mapping[str, Any], ...]  # [image]: a row that draws it, for the command
    parents: Mapping[int, tuple[str, ...]]  # row -> image_ids it descends from
    image_ids: tuple[str, ...]  # [image]
    image_paths: tuple[str | None, ...]  # [image], relative to the run folder
    image_run: np.ndarray  # int32 [image]: the run whose folder holds it
    image_sha256: tuple[str | None, ...]  # [image]: of the pixels
    enlarged: np.ndarray  # int32 [image]: the image that stands in its place, enlarged; or -1
    requests: tuple[tuple[str, int], ...]  # [row]: cell_id and seed
    num_from_default: np.ndarray  # int32 [row]: axes on which it differs from its model's defaults
    cell_of_row: np.ndarray  # int32 [row]: rows of one number are candidates of one cell
    look: np.ndarray  # int32 [row]: place among its cell's candidates, ordered by look
    twin: np.ndarray  # int32 [row]: the first candidate that it nearly equals, or itself
    scores: tuple[SheetScore, ...]
    sort: str | None  # name of the score that orders candidates; None: the first
    picks: tuple[Pick, ...]  # one an image: what its people say, combined
    said: Mapping[str, tuple[Pick, ...]]  # image_id -> each person's verdict, if several judged

    @property
    def num_rows(self) -> int:
        """Number of requests, failures included."""
        return len(self.status)

    @property
    def num_images(self) -> int:
        """Number of distinct images."""
        return len(self.image_ids)

    @property
    def has_image(self) -> np.ndarray:
        """Whether each row has pixels: bool [row]."""
        return self.status < STATUSES.index("failed")

    @property
    def sorting_score(self) -> SheetScore | None:
        """The score that orders the candidates of a cell, None without one."""
        if self.sort is not None:
            return self.score(self.sort)
        return self.scores[0] if self.scores else None

    def score(self, name: str) -> SheetScore:
        """Return a score by name; ReportError lists the scores there are."""
        for score in self.scores:
            if score.name == name:
                return score
        known = ", ".join(score.name for score in self.scores) or "none"
        raise ReportError(f"There is no score {name!r} in these runs. The scores are: {known}.")

    def axis(self, name: str) -> SheetAxis:
        """Return an axis by name; ReportError lists the axes there are."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        known = ", ".join(axis.name for axis in self.axes)
        raise ReportError(f"There is no axis {name!r} in these runs. The axes are: {known}.")

    def arrangement(self, rows: str | None = None, columns: str | None = None) -> Arrangement:
        """Return where each axis is shown at first."""
        return arrange(self.axes, rows, columns)

    def num_cells(self, arrangement: Arrangement) -> int:
        """Return how many cells a sheet of this arrangement has."""
        shown = (arrangement.rows, arrangement.columns, *arrangement.inner, *arrangement.tabs)
        codes = [self.axis(name).codes for name in shown if name is not None]
        return len(np.unique(np.stack(codes), axis=1).T) if codes else 1


def collect(runs: Sequence[Run], sort: str | None = None) -> SheetData:
    """Read the rows, axes, picks and scores of one or more runs.

    `sort` names the score that orders candidates. Raises ReportError when there is not one row.
    """
    tables, enlarged = set_apart_enlarged(runs, [_read_rows(run) for run in runs])
    rows = [row for table in tables for row in table]
    if not rows:
        folders = ", ".join(run.paths.root for run in runs)
        raise ReportError(f"There are no images yet in {folders}: nothing to show.")
    run_of_row = np.repeat(np.arange(len(runs), dtype=np.int32), [len(t) for t in tables])
    images = collect_images(rows, run_of_row, enlarged)
    axes = collect_axes(runs, rows, run_of_row)
    names = axes[0].values if len(runs) > 1 else [run.paths.name for run in runs]
    said = _collect_picks(runs, images["image_ids"])
    data = SheetData(
        title=" · ".join(dict.fromkeys(run.sweep for run in runs)),
        sheet_id=hash_id([_run_id(run) for run in runs]),
        runs=tuple(
            SheetRun(name, run.paths.root, _run_id(run), tuple(_flatten(run.record.to_plain())))
            for name, run in zip(names, runs, strict=True)
        ),
        axes=tuple(axes),
        run_of_row=run_of_row,
        status=np.array([STATUSES.index(row["status"]) for row in rows], np.int8),
        texts={name: _encode([row[name] or "" for row in rows]) for name in TEXT_COLUMNS},
        numbers={
            "seconds": [_finite(row["seconds"], 4) for row in rows],
            "batch_size": [row["batch_size"] for row in rows],
            "width": [row["width"] for row in rows],
            "height": [row["height"] for row in rows],
            "cost_usd": [row["cost_usd"] for row in rows],
        },
        parents={i: ids for i, row in enumerate(rows) if (ids := _parents(row))},
        requests=tuple((row["cell_id"], row["seed"]) for row in rows),
        scores=read_scores([run.paths.scores_parquet for run in runs], images["image_ids"]),
        sort=sort,
        num_from_default=_count_from_default(axes, len(rows)),
        cell_of_row=_encode(
            [(int(run), row["cell_id"]) for run, row in zip(run_of_row, rows, strict=True)]
        ).codes,
        look=np.arange(len(rows), dtype=np.int32),
        twin=np.arange(len(rows), dtype=np.int32),
        picks=tuple(combine(verdicts) for verdicts in said.values()),
        said={image_id: tuple(v) for image_id, v in said.items() if len(v) > 1},
        **images,
    )
    if sort is not None:
        data.score(sort)  # an unknown name is answered before thumbnails are made
    return data


def _read_rows(run: Run) -> list[dict[str, Any]]:
    """Return a run's rows in the order of the sweep: by job, then by seed."""
    columns = [*READ_COLUMNS, *(axis.column for axis in run.axes)]
    rows = run.rows(columns=columns)
    rows.sort(key=lambda row: (row["job_id"], row["cell_id"], row["seed"]))
    return rows


def _parents(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the image that a row is drawn from, and the picks that its cell descends from."""
    return tuple(dict.fromkeys(filter(None, [row["source_id"], *(row["parent_ids"] or ())])))


def _count_from_default(axes: Sequence[SheetAxis], num_rows: int) -> np.ndarray:
    """Return on how many axes each row differs from what its model takes by itself."""
    counts = np.zeros(num_rows, np.int32)
    for axis in axes:
        if axis.default >= 0:
            counts += axis.codes != axis.default
    return counts


def _encode(values: Sequence[Any]) -> Coded:
    code_from_value: dict[Any, int] = {}
    codes = [code_from_value.setdefault(value, len(code_from_value)) for value in values]
    return Coded(tuple(code_from_value), np.array(codes, np.int32))


def _collect_picks(runs: Sequence[Run], image_ids: Sequence[str]) -> dict[str, list[Pick]]:
    """Return what each person says of every judged image of the sheet, whichever run holds it."""
    shown = set(image_ids)
    picks = [pick for run in runs for pick in read_picks(run.paths.root)]
    return {i: said for i, said in newest_by_person(picks).items() if i in shown}


def _run_id(run: Run) -> str:
    return run.record.run_id or run.paths.name


def _finite(value: float | None, digits: int) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


MAX_FACTS = 200  # lines of sweep.yaml on the page


def _flatten(meta: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as dotted names with their values as text."""
    facts: list[tuple[str, str]] = []
    for key, value in meta.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            facts += _flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            facts.append((name, ", ".join(axis_text(v) for v in value)[:2000]))
        else:
            facts.append((name, axis_text(value)[:2000]))
        if len(facts) >= MAX_FACTS:
            break
    return facts[:MAX_FACTS]
