"""The one data model of every contact sheet: columns of rows, axes as codes into their values.

Takes runs as the store reads them, with their picks and scores; returns SheetData, from which the
page and the pictures are made. Knows no HTML and no pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.errors import ReportError
from promptlab.identity import hash_id
from promptlab.records import ROW_COLUMNS
from promptlab.verdicts.picks import Pick, current, read_picks
from promptlab.verdicts.scores import read_scores

if TYPE_CHECKING:
    from promptlab.store import Run

STATUSES = ("ok", "flagged", "failed")
TEXT_COLUMNS = ("prompt", "params", "error", "unseen", "model_fingerprint", "dtype", "device")
FIXED_AXES = ("subject", "style", "template", "model")
READ_COLUMNS = (*(name for name in ROW_COLUMNS if name != "created_at"), "path")


@dataclass(frozen=True)
class Coded:
    """A column of few distinct values: the values, and one code a row."""

    values: tuple[Any, ...]
    codes: np.ndarray  # int32 [row], indices into values


@dataclass(frozen=True)
class SheetAxis:
    """An axis of the sheet: what its values are called, and which one each row has."""

    name: str
    values: tuple[str, ...]  # as text, in the order of the sweep
    codes: np.ndarray  # int32 [row]
    is_numeric: bool


@dataclass(frozen=True)
class SheetRun:
    """One of the runs on the sheet."""

    name: str
    root: str
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
    scores: Mapping[str, list[float | None]]  # by name: [image]
    picks: tuple[Pick, ...]

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
        return self.status != STATUSES.index("failed")

    def axis(self, name: str) -> SheetAxis:
        """Return an axis by name; ReportError lists the axes there are."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        known = ", ".join(axis.name for axis in self.axes)
        raise ReportError(f"There is no axis {name!r} in these runs. The axes are: {known}.")

    def default_rows_and_columns(
        self, rows: str | None = None, columns: str | None = None
    ) -> tuple[str, str]:
        """Return the axes for rows and columns: those asked for, else the two that tell most.

        Subject by style where they vary, else the other axes that vary; never the seed, whose
        values are the candidates of a cell.
        """
        varying = [a.name for a in self.axes if len(a.values) > 1 and a.name not in ("run", "seed")]
        preferred = sorted(varying, key=lambda n: _PREFERENCE.get(n, len(_PREFERENCE)))
        preferred += [n for n in ("subject", "style", "seed") if n not in preferred]
        for name in (rows, columns):
            if name is not None:
                self.axis(name)
        rest = [name for name in preferred if name not in (rows, columns)]
        if rows is None:
            rows = rest.pop(0)
            if columns is None and rows in ("style", "model") and "subject" not in varying:
                rest.insert(0, "subject")  # one subject: styles read better as rows of one column
        return rows, columns if columns is not None else rest.pop(0)

    def num_cells(self, rows: str, columns: str) -> int:
        """Return how many cells a sheet of these axes has."""
        codes = (self.axis(rows).codes, self.axis(columns).codes)
        return len(np.unique(np.stack(codes), axis=1).T)


_PREFERENCE = {"subject": 0, "style": 1, "template": 3, "model": 4}  # 2: none; others follow


def collect(runs: Sequence[Run]) -> SheetData:
    """Read the rows, axes, picks and scores of one or more runs.

    Raises ReportError when there is not one row.
    """
    tables = [_read_rows(run) for run in runs]
    rows = [row for table in tables for row in table]
    if not rows:
        folders = ", ".join(run.paths.root for run in runs)
        raise ReportError(f"There are no images yet in {folders}: nothing to show.")
    run_of_row = np.repeat(np.arange(len(runs), dtype=np.int32), [len(t) for t in tables])
    images = _collect_images(rows, run_of_row)
    names = _run_names(runs)
    return SheetData(
        title=" · ".join(dict.fromkeys(run.sweep for run in runs)),
        sheet_id=hash_id([run.record.run_id or run.paths.name for run in runs]),
        runs=tuple(
            SheetRun(name, run.paths.root, tuple(_flatten(run.record.to_plain())))
            for name, run in zip(names, runs, strict=True)
        ),
        axes=tuple(_collect_axes(runs, rows, run_of_row, names)),
        run_of_row=run_of_row,
        status=np.array([STATUSES.index(row["status"]) for row in rows], np.int8),
        texts={name: _encode([row[name] or "" for row in rows]) for name in TEXT_COLUMNS},
        numbers={
            "seconds": [_finite(row["seconds"], 4) for row in rows],
            "batch_size": [row["batch_size"] for row in rows],
            "width": [row["width"] for row in rows],
            "height": [row["height"] for row in rows],
        },
        parents={i: tuple(row["parent_ids"]) for i, row in enumerate(rows) if row["parent_ids"]},
        scores=read_scores([run.paths.scores_parquet for run in runs], images["image_ids"]),
        picks=_collect_picks(runs, images["image_ids"]),
        **images,
    )


def _read_rows(run: Run) -> list[dict[str, Any]]:
    """Return a run's rows in the order of the sweep: by job, then by seed."""
    columns = [*READ_COLUMNS, *(axis.column for axis in run.axes)]
    rows = run.rows(columns=columns)
    rows.sort(key=lambda row: (row["job_id"], row["cell_id"], row["seed"]))
    return rows


def _collect_images(rows: Sequence[Mapping[str, Any]], run_of_row: np.ndarray) -> dict[str, Any]:
    """Return the image columns: each image once, from the first row that has its pixels.

    Images are numbered candidate by candidate: the first of every cell, then the second of every
    cell, and so on, so that a page of stacks loads little more than what it shows. Rows of one id
    whose pixels differ (a model that is not deterministic) are two images.
    """
    number_from_key: dict[tuple[str, str | None], int] = {}
    image_of_row = np.empty(len(rows), np.int32)
    first_row: list[int] = []
    for i in _by_candidate(rows, run_of_row):
        row = rows[i]
        key = (row["image_id"], row["sha256"])
        number = number_from_key.setdefault(key, len(number_from_key))
        image_of_row[i] = number
        if number == len(first_row):
            first_row.append(i)
        elif rows[first_row[number]]["path"] is None and row["path"] is not None:
            first_row[number] = i
    return {
        "image_of_row": image_of_row,
        "image_ids": tuple(image_id for image_id, _ in number_from_key),
        "image_sha256": tuple(sha256 for _, sha256 in number_from_key),
        "image_paths": tuple(rows[i]["path"] for i in first_row),
        "image_run": run_of_row[first_row],
        "redraw_rows": tuple(rows[i] for i in first_row),
    }


def _by_candidate(rows: Sequence[Mapping[str, Any]], run_of_row: np.ndarray) -> list[int]:
    """Return all rows, the first candidates of all cells before the second ones."""
    num_seen: dict[tuple[int, str], int] = {}
    places = []
    for i, row in enumerate(rows):
        cell = (int(run_of_row[i]), row["cell_id"])
        place = num_seen.get(cell, 0)
        num_seen[cell] = place + 1
        places.append((place, i))
    return [i for _, i in sorted(places)]


def _collect_axes(
    runs: Sequence[Run],
    rows: Sequence[Mapping[str, Any]],
    run_of_row: np.ndarray,
    run_names: Sequence[str],
) -> list[SheetAxis]:
    """Return the axes of all runs together: run (if several), the fixed ones, the further ones.

    A run without one of the further axes has the value of its sampling parameter of that name,
    or a dash.
    """
    orders: dict[str, list[str]] = {}
    for run in runs:
        for name, order in run.record.axes.items():
            orders.setdefault(name, []).extend(map(axis_text, order))
    axes = []
    if len(runs) > 1:
        axes.append(SheetAxis("run", tuple(run_names), run_of_row, is_numeric=False))
    for name in FIXED_AXES:
        axes.append(_axis(name, [row[name] for row in rows], orders.get(name, ())))
    columns = {axis.name: axis.column for run in runs for axis in run.axes}
    params_from_text: dict[str, dict[str, Any]] = {}
    for name, column in columns.items():
        values = []
        for row in rows:
            if column in row:
                values.append(row[column])
            else:
                text = row["params"] or "{}"
                params = params_from_text.setdefault(text, json.loads(text))
                values.append(params.get(name, "–"))
        axes.append(_axis(name, values, orders.get(name, ())))
    axes.append(_axis("seed", [row["seed"] for row in rows], ()))
    return axes


def _axis(name: str, values: Sequence[Any], order: Sequence[str]) -> SheetAxis:
    """Code a column as an axis; numbers ascend, anything else keeps the sweep's order."""
    is_numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    distinct = dict.fromkeys(values)
    ordered = sorted(distinct) if is_numeric else list(distinct)
    texts = list(dict.fromkeys(axis_text(value) for value in ordered))
    if not is_numeric and order:
        rank = {text: i for i, text in enumerate(dict.fromkeys(order))}
        texts.sort(key=lambda text: rank.get(text, len(rank)))
    code_from_text = {text: i for i, text in enumerate(texts)}
    code_from_value = {value: code_from_text[axis_text(value)] for value in distinct}
    codes = np.array([code_from_value[value] for value in values], np.int32)
    return SheetAxis(name, tuple(texts), codes, is_numeric)


def axis_text(value: Any) -> str:
    """Return an axis value as people read it."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def _encode(values: Sequence[Any]) -> Coded:
    code_from_value: dict[Any, int] = {}
    codes = [code_from_value.setdefault(value, len(code_from_value)) for value in values]
    return Coded(tuple(code_from_value), np.array(codes, np.int32))


def _collect_picks(runs: Sequence[Run], image_ids: Sequence[str]) -> tuple[Pick, ...]:
    """Return the verdict on every judged image of the sheet, whichever run holds it."""
    shown = set(image_ids)
    picks = [pick for run in runs for pick in read_picks(run.paths.root)]
    return tuple(pick for image_id, pick in current(picks).items() if image_id in shown)


def _run_names(runs: Sequence[Run]) -> list[str]:
    """Return one name a run, numbered where two folders have the same."""
    names = [run.paths.name for run in runs]
    return [f"{n} ({i + 1})" if names.count(n) > 1 else n for i, n in enumerate(names)]


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
