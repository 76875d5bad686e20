"""What scores say of arms and axis values: the expected best of N seeds, pick rates, agreement.

Takes run folders; returns rows, which `write_summary` keeps as scores_summary.parquet, and text.
Intervals are of 95 % and treat cells as the sample: what another choice of subjects would give.
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from promptlab.paths import RunPaths
from promptlab.scores.agreement import Estimate, auc, grade, kendall_tau, rate
from promptlab.store import Run, read_run
from promptlab.store.storage import open_storage
from promptlab.verdicts.picks import Pick, current_picks
from promptlab.verdicts.scores import SheetScore, read_scores

NUM_RESAMPLED = 1000
SEED = 0  # of the resampling
FIXED_AXES = ("subject", "style", "template", "model")
ALL = "all"  # the axis of what holds for the whole run
SHARE = "share of "  # + word: the measure of a bias audit
MAX_LISTED = 12  # values of an axis in the text


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One number of the summary."""

    scorer: str  # "" of a pick rate
    axis: str  # "all", "arm" or an axis
    value: str  # of the axis
    measure: str  # best_of, pick_rate, auc, auc_in_cells, tau
    num_drawn: int | None  # N of best_of
    estimate: float
    low: float | None
    high: float | None
    num_cells: int
    num_images: int


def expected_best(values: np.ndarray, num_drawn: int) -> float:
    """Return the mean best of `num_drawn` seeds chosen from these, all choices alike."""
    ordered = np.sort(values)
    count = len(ordered)
    total = math.comb(count, num_drawn)
    shares = [math.comb(place, num_drawn - 1) / total for place in range(count)]
    return float(ordered @ np.array(shares))


def best_of_curve(cells: Sequence[np.ndarray]) -> list[tuple[int, Estimate, int]]:
    """Return (N, expected best of N, cells) for N = 1, 2, 4, … as far as most cells reach.

    The interval comes from resampling cells, or the seeds of a single one.
    """
    rng = np.random.default_rng(SEED)
    curve: list[tuple[int, Estimate, int]] = []
    num_drawn = 1
    while True:
        reaching = [cell for cell in cells if len(cell) >= num_drawn]
        if not reaching or 2 * len(reaching) <= len(cells):
            return curve
        best = np.array([expected_best(cell, num_drawn) for cell in reaching])
        if len(reaching) > 1:
            chosen = rng.integers(len(best), size=(NUM_RESAMPLED, len(best)))
            resampled = best[chosen].mean(1)
        else:
            (cell,) = reaching
            chosen = rng.integers(len(cell), size=(NUM_RESAMPLED, len(cell)))
            resampled = np.array([expected_best(cell[some], num_drawn) for some in chosen])
        low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
        curve.append((num_drawn, Estimate(float(best.mean()), low, high), len(reaching)))
        num_drawn *= 2


def summarize(run: Run) -> list[SummaryRow]:
    """Return all numbers of one run."""
    rows = _drawn_rows(run)
    picks = current_picks(run.paths.root)
    scores = read_scores([run.paths.scores_parquet], [row["image_id"] for row in rows])
    found: list[SummaryRow] = []
    for axis, value, numbers in _groups(run, rows):
        for score in scores:
            cells: defaultdict[str, list[float]] = defaultdict(list)
            for number in numbers:
                one = score.values[number]
                if one is not None:
                    cells[rows[number]["cell_id"]].append(one if score.is_higher_better else -one)
            arrays = [np.array(cell) for cell in cells.values()]
            for num_drawn, estimate, num_cells in best_of_curve(arrays):
                turned = estimate if score.is_higher_better else _turned(estimate)
                num_images = sum(map(len, arrays))
                found.append(
                    _row(
                        score.name, axis, value, "best_of", num_drawn, turned, num_cells, num_images
                    )
                )
        judged = [picks[i] for i in _ids(rows, numbers) if i in picks]
        judged = [pick for pick in judged if grade(pick) is not None]
        if judged:
            share = rate(sum(pick.is_pick() for pick in judged), len(judged))
            found.append(_row("", axis, value, "pick_rate", None, share, 0, len(judged)))
    return [*found, *_agreement(rows, scores, picks)]


def _agreement(
    rows: Sequence[Mapping[str, Any]], scores: Sequence[SheetScore], picks: Mapping[str, Pick]
) -> Iterator[SummaryRow]:
    """Yield how far each score agrees with the picks."""
    first_row = {row["image_id"]: number for number, row in reversed(list(enumerate(rows)))}
    for score in scores:
        judged = [
            (score.values[number], picks[image_id], rows[number]["cell_id"])
            for image_id, number in first_row.items()
            if image_id in picks and grade(picks[image_id]) is not None
        ]
        known = [each for each in judged if each[0] is not None]
        if not known:
            continue
        values = [
            value if score.is_higher_better else -value
            for value, _, _ in known
            if value is not None
        ]
        is_picked = [pick.is_pick() for _, pick, _ in known]
        cells = [cell_id for _, _, cell_id in known]
        grades = [grade(pick) or 0 for _, pick, _ in known]
        measures = {
            "auc": auc(values, is_picked),
            "auc_in_cells": auc(values, is_picked, cells),
            "tau": kendall_tau(values, grades),
        }
        for measure, estimate in measures.items():
            if estimate is not None:
                yield _row(
                    score.name, ALL, ALL, measure, None, estimate, len(set(cells)), len(known)
                )


def _row(
    scorer: str,
    axis: str,
    value: str,
    measure: str,
    num_drawn: int | None,
    estimate: Estimate,
    num_cells: int,
    num_images: int,
) -> SummaryRow:
    numbers = (estimate.value, estimate.low, estimate.high)
    return SummaryRow(scorer, axis, value, measure, num_drawn, *numbers, num_cells, num_images)


def _turned(estimate: Estimate) -> Estimate:
    """Return an estimate of what was computed with the opposite sign."""
    assert estimate.low is not None
    assert estimate.high is not None
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def _drawn_rows(run: Run) -> list[dict[str, Any]]:
    columns = ["image_id", "cell_id", "arm_id", "sha256", *FIXED_AXES]
    rows = run.rows([*columns, *(axis.column for axis in run.axes)])
    return [row for row in rows if row["sha256"] is not None]


def _ids(rows: Sequence[Mapping[str, Any]], numbers: Sequence[int]) -> list[str]:
    return list(dict.fromkeys(rows[number]["image_id"] for number in numbers))


def _groups(
    run: Run, rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str, Sequence[int]]]:
    """Yield (axis, value, rows) of the whole run, of every axis that varies, of every arm."""
    yield ALL, ALL, range(len(rows))
    columns = {name: name for name in FIXED_AXES}
    columns |= {axis.name: axis.column for axis in run.axes}
    varying = {a: c for a, c in columns.items() if len({str(row[c]) for row in rows}) > 1}
    for axis, column in varying.items():
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            groups[str(row[column])].append(number)
        for value, numbers in groups.items():
            yield axis, value, numbers
    telling = [column for axis, column in varying.items() if axis != "subject"]
    if len(telling) > 1:
        arms: defaultdict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            arms[row["arm_id"]].append(number)
        for numbers in arms.values():
            first = rows[numbers[0]]
            yield "arm", " · ".join(str(first[column]) for column in telling), numbers


def summary_path(paths: RunPaths) -> str:
    """Return where a run's summary lies."""
    return paths.join("scores_summary.parquet")


def write_summary(run_root: str, further: Sequence[SummaryRow] = ()) -> list[SummaryRow]:
    """Write scores_summary.parquet of a run, with further rows behind, and return its rows.

    Without further ones the shares of words that an earlier audit found stay.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = read_run(run_root)
    rows = [*summarize(run), *(further or read_shares(run.paths))]
    kinds = {"str": pa.string(), "int": pa.int64(), "int | None": pa.int64()}
    schema = pa.schema([(f.name, kinds.get(str(f.type), pa.float64())) for f in fields(SummaryRow)])
    columns = {f.name: pa.array([getattr(row, f.name) for row in rows], f.type) for f in schema}
    table = pa.table(columns, schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    open_storage(run_root).write_files({summary_path(run.paths): buffer.getvalue()})
    return rows


def read_shares(paths: RunPaths) -> list[SummaryRow]:
    """Return the shares of words that the run's last bias audit found; none without one."""
    import pyarrow.parquet as pq

    path = summary_path(paths)
    try:
        rows = pq.read_table(io.BytesIO(open_storage(path).read_bytes(path))).to_pylist()
    except FileNotFoundError:
        return []
    return [SummaryRow(**row) for row in rows if row["measure"].startswith(SHARE)]


def describe_summary(rows: Sequence[SummaryRow]) -> list[str]:
    """Return the summary as lines: the curve of each arm or value, then rates and agreement."""
    lines: list[str] = []
    for scorer in dict.fromkeys(row.scorer for row in rows if row.measure == "best_of"):
        lines += ["", f"{scorer}: expected best of N seeds"]
        lines += _describe_curves(
            [r for r in rows if r.scorer == scorer and r.measure == "best_of"]
        )
    rates = [row for row in rows if row.measure == "pick_rate"]
    if rates:
        lines += ["", "picked of the judged images"]
        lines += [f"  {_name(r)}  {_number(r)}  of {r.num_images}" for r in rates]
    agreeing = [row for row in rows if row.measure in ("auc", "auc_in_cells", "tau")]
    if agreeing:
        lines += ["", "agreement with the picks (auc: 0.5 is chance; tau: 0 is)"]
        lines += [
            f"  {row.scorer:<16} {row.measure:<13} {_number(row)}  {row.num_images} images"
            for row in agreeing
        ]
    return lines


def _describe_curves(rows: Sequence[SummaryRow]) -> Iterator[str]:
    """Yield one line a value: its curve, the last number with its interval; best values first."""
    curves: defaultdict[tuple[str, str], list[SummaryRow]] = defaultdict(list)
    for row in rows:
        curves[row.axis, row.value].append(row)
    num_shown: defaultdict[str, int] = defaultdict(int)
    for (axis, _), curve in curves.items():
        num_shown[axis] += 1
        if num_shown[axis] == MAX_LISTED + 1:
            yield f"  {axis}: … more in scores_summary.parquet"
        if num_shown[axis] > MAX_LISTED:
            continue
        numbers = "  ".join(f"{row.num_drawn}: {row.estimate:.3g}" for row in curve[:-1])
        yield f"  {_name(curve[0])}  {numbers}  {curve[-1].num_drawn}: {_number(curve[-1])}"


def _name(row: SummaryRow) -> str:
    text = row.value if row.axis == ALL else f"{row.axis} {row.value}"
    return f"{text[:38]:<38}"


def _number(row: SummaryRow) -> str:
    interval = "" if row.low is None else f" ({row.low:.3g} to {row.high:.3g})"
    return f"{row.estimate:.3g}{interval}"
