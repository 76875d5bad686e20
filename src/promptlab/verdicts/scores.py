"""Scores: programs' verdicts on images, kept as rows beside the images they judge.

Takes one scorer's values, keeps them in the run folder's `scores.parquet` as rows of (image_id,
scorer, fingerprint, value, error); returns one SheetScore a scorer, in the order of a sheet's
images. A row without a value is an image of which the scorer had nothing to say, or failed to.
Knows no model and no page.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING

from promptlab.errors import ReportError
from promptlab.paths import RunPaths

if TYPE_CHECKING:
    import pyarrow as pa

SCORERS_KEY = b"promptlab.scorers"  # JSON in the file's metadata: the scorers, without values
LOCK_PATIENCE_S = 30.0  # for another one who writes scores of the same run
OLD_NAME_COLUMNS = ("score", "name", "metric")  # of files with a row a score
OLD_VALUE_COLUMN = "score_value"


@dataclass(frozen=True, slots=True)
class Scorer:
    """Who gives a score: its name, the weights behind it, and how to read a value."""

    name: str
    fingerprint: str = ""
    is_higher_better: bool = True
    low: float | None = None  # ends of the scale; None: as far as the values go
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One row of scores.parquet."""

    image_id: str
    scorer: str
    fingerprint: str
    value: float | None  # None: nothing to say, or an error
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SheetScore:
    """One score of every image of a sheet."""

    name: str
    values: tuple[float | None, ...]  # [image]
    is_higher_better: bool
    low: float  # ends of the scale
    high: float

    def badness(self, image: int) -> float:
        """Return a number that sorts the best image first; one without a value comes last."""
        value = self.values[image]
        if value is None:
            return math.inf
        return -value if self.is_higher_better else value


def record_scores(
    run_root: str | os.PathLike[str],
    scorer: Scorer,
    value_from_id: Mapping[str, float | None],
    error_from_id: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Keep a scorer's answers on some images; those of its earlier fingerprints are dropped.

    None says that it has nothing to say, an error why it could not. Values that are not finite are
    left out. The file is replaced in one step.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from promptlab.store.lock import wait_for_lock
    from promptlab.store.storage import open_storage

    paths = RunPaths(str(run_root))
    storage = open_storage(paths.root)
    try:
        with wait_for_lock(paths.join(".scores.parquet.lock"), LOCK_PATIENCE_S):
            scorers, rows = _read(paths.scores_parquet)
            scorers[scorer.name] = scorer
            kept = {
                (row.image_id, row.scorer): row
                for row in rows
                if row.scorer != scorer.name or row.fingerprint == scorer.fingerprint
            }
            for image_id in dict.fromkeys([*value_from_id, *error_from_id]):
                value, error = value_from_id.get(image_id), error_from_id.get(image_id)
                if value is None or math.isfinite(value):
                    kept[image_id, scorer.name] = ScoreRow(
                        image_id, scorer.name, scorer.fingerprint, value, error
                    )
            columns = zip(*(astuple(row) for row in kept.values()), strict=True)
            names = [field.name for field in fields(ScoreRow)]
            types = {"value": pa.float64()}
            table = pa.table(
                {
                    name: pa.array(column, types.get(name, pa.string()))
                    for name, column in zip(names, columns, strict=True)
                }
            ).replace_schema_metadata(
                {SCORERS_KEY: json.dumps([asdict(each) for each in scorers.values()])}
            )
            buffer = io.BytesIO()
            pq.write_table(table, buffer)
            storage.write_files({paths.scores_parquet: buffer.getvalue()})
    except OSError as error:
        raise ReportError(
            f"The scores cannot be kept in {paths.scores_parquet}: {error}"
        ) from error


def scored_ids(run_root: str | os.PathLike[str], scorer: Scorer, *, with_failed: bool) -> set[str]:
    """Return the images that a scorer of this fingerprint has answered on, failures or not."""
    _, rows = _read(RunPaths(str(run_root)).scores_parquet)
    return {
        row.image_id
        for row in rows
        if (row.scorer, row.fingerprint) == (scorer.name, scorer.fingerprint)
        and (with_failed or row.error is None)
    }


def read_scores(paths: Sequence[str], image_ids: Sequence[str]) -> tuple[SheetScore, ...]:
    """Return every score that one of these images has; where files disagree, later ones win."""
    scorers: dict[str, Scorer] = {}
    values: dict[str, dict[str, float]] = {}
    for path in paths:
        known, rows = _read(path)
        scorers |= known
        for row in rows:
            if row.value is not None:
                values.setdefault(row.scorer, {})[row.image_id] = round(row.value, 6)
    shown = set(image_ids)
    return tuple(
        _sheet_score(scorers.get(name, Scorer(name)), [by_id.get(i) for i in image_ids])
        for name, by_id in values.items()
        if not shown.isdisjoint(by_id)
    )


def _sheet_score(scorer: Scorer, values: Sequence[float | None]) -> SheetScore:
    found = [value for value in values if value is not None]
    return SheetScore(
        name=scorer.name,
        values=tuple(values),
        is_higher_better=scorer.is_higher_better,
        low=min(found) if scorer.low is None else scorer.low,
        high=max(found) if scorer.high is None else scorer.high,
    )


def _read(path: str) -> tuple[dict[str, Scorer], list[ScoreRow]]:
    """Return a file's scorers by name and its rows."""
    import pyarrow.parquet as pq

    from promptlab.store.storage import open_storage

    try:
        data = open_storage(path).read_bytes(path)
    except FileNotFoundError:
        return {}, []
    try:
        table = pq.read_table(io.BytesIO(data))
        rows = [row for row in _rows(table) if row.value is None or math.isfinite(row.value)]
        known = json.loads((table.schema.metadata or {}).get(SCORERS_KEY, b"[]"))
        names = {field.name for field in fields(Scorer)}
        scorers = [Scorer(**{k: v for k, v in each.items() if k in names}) for each in known]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path} cannot be read as scores: {error}") from error
    return {scorer.name: scorer for scorer in scorers}, rows


def _rows(table: pa.Table) -> Iterator[ScoreRow]:
    """Yield a table's rows; files of others have a row a score, or a numeric column a score."""
    import pyarrow as pa

    columns = table.column_names
    ids = table["image_id"].to_pylist()
    name_column = next(
        (
            name
            for name in ("scorer", *OLD_NAME_COLUMNS)
            if name in columns and pa.types.is_string(table.schema.field(name).type)
        ),
        None,
    )
    value_column = next((name for name in ("value", OLD_VALUE_COLUMN) if name in columns), None)
    if name_column is not None and value_column is not None:
        further = [
            table[name].to_pylist() if name in columns else [None] * len(ids)
            for name in ("fingerprint", "error")
        ]
        names, values = table[name_column].to_pylist(), table[value_column].to_pylist()
        for image_id, name, value, fingerprint, error in zip(
            ids, names, values, *further, strict=True
        ):
            number = None if value is None else float(value)
            yield ScoreRow(image_id, name, fingerprint or "", number, error)
        return
    for field in table.schema:
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type):
            for image_id, value in zip(ids, table[field.name].to_pylist(), strict=True):
                if value is not None:
                    yield ScoreRow(image_id, field.name, "", float(value))
