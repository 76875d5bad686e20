"""The axes of a contact sheet: names, values as people read them, and one code a row.

Takes runs and their rows, returns SheetAxis records. Knows no images and no page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from promptlab.store import Run

FIXED_AXES = ("subject", "style", "template", "model")
DEFAULT = "default"  # of a row without a value: its model takes its own
ABSENT = "–"  # of a row whose model has no such parameter
_TIMESTAMP = re.compile(r"^\d{4}-?\d{2}-?\d{2}[_T-]\d{2}[:-]?\d{2}([:-]?\d{2})?_")


@dataclass(frozen=True)
class SheetAxis:
    """An axis of the sheet: what its values are called, and which one each row has."""

    name: str
    values: tuple[str, ...]  # as text, in the order of the sweep
    codes: np.ndarray  # int32 [row]
    is_numeric: bool
    default: int = -1  # code of the value that the model takes by itself; -1: none or unknown


def collect_axes(
    runs: Sequence[Run], rows: Sequence[Mapping[str, Any]], run_of_row: np.ndarray
) -> list[SheetAxis]:
    """Return the axes of all runs together: run (if several), the fixed ones, the further ones.

    A run without one of the further axes has the value of its sampling parameter of that name,
    or a dash.
    """
    orders: dict[str, list[str]] = {}
    for run in runs:
        for name, order in run.record.axes.items():
            orders.setdefault(name, []).extend(map(axis_text, order))
    axes = [
        make_axis(name, [row[name] for row in rows], orders.get(name, ())) for name in FIXED_AXES
    ]
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
                values.append(params.get(name, ABSENT))
        axis = make_axis(name, values, orders.get(name, ()))
        axes.append(replace(axis, default=_default_code(axis, runs)))
    axes.append(make_axis("seed", [row["seed"] for row in rows], ()))
    if len(runs) > 1:
        row_params = [row["params"] or "{}" for row in rows]
        names = run_names([run.paths.name for run in runs], axes, run_of_row, row_params)
        axes.insert(0, SheetAxis("run", tuple(names), run_of_row, is_numeric=False))
    return axes


def make_axis(name: str, values: Sequence[Any], order: Iterable[str]) -> SheetAxis:
    """Code a column as an axis; numbers ascend, anything else keeps the sweep's order."""
    is_numeric = all(is_number(v) for v in values)
    distinct = dict.fromkeys(values)
    ordered = sorted(distinct) if is_numeric else list(distinct)
    texts = list(dict.fromkeys(axis_text(value) for value in ordered))
    if not is_numeric:
        rank = {text: i for i, text in enumerate(dict.fromkeys(order))}
        texts.sort(key=lambda text: rank.get(text, len(rank)))
    code_from_text = {text: i for i, text in enumerate(texts)}
    code_from_value = {value: code_from_text[axis_text(value)] for value in distinct}
    codes = np.array([code_from_value[value] for value in values], np.int32)
    return SheetAxis(name, tuple(texts), codes, is_numeric)


def is_number(value: Any) -> bool:
    """Tell whether a value is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def axis_text(value: Any) -> str:
    """Return an axis value as people read it."""
    if value is None:
        return DEFAULT
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def _default_code(axis: SheetAxis, runs: Sequence[Run]) -> int:
    """Return the code of the value that the runs' models take by themselves, -1 if unknown."""
    defaults = {
        axis_text(model.defaults[axis.name])
        for run in runs
        for model in run.record.models.values()
        if axis.name in model.defaults
    } | {DEFAULT}
    return next((code for code, text in enumerate(axis.values) if text in defaults), -1)


def run_names(
    folders: Sequence[str],
    axes: Sequence[SheetAxis],
    run_of_row: np.ndarray,
    params: Sequence[str],
) -> list[str]:
    """Return one name a run: its folder's without the time, and what only says which run it is.

    `params` is every row's JSON of sampling parameters. Two runs at two temperatures are "cold ·
    temperature 0.3" and "hot · temperature 0.8".
    """
    names = [_TIMESTAMP.sub("", name) or name for name in folders]
    known = {axis.name for axis in axes}
    parsed = {text: json.loads(text) for text in set(params)}
    further = dict.fromkeys(name for values in parsed.values() for name in values)
    from_params = [
        make_axis(name, [parsed[text].get(name) for text in params], ())
        for name in further
        if name not in known
    ]
    telling = [
        axis
        for axis in (*axes, *from_params)
        if axis.name != "seed" and _tells_run(axis, run_of_row)
    ]
    for number in range(len(names)):
        (rows,) = np.nonzero(run_of_row == number)
        if len(rows) == 0:
            continue
        for axis in telling:
            value = axis.values[axis.codes[rows[0]]]
            if value not in (DEFAULT, ABSENT):  # what only other runs have says nothing of this one
                names[number] += f" · {axis.name} {value}" if _has_numbers(axis) else f" · {value}"
    if len(set(names)) < len(names):
        names = list(folders)
    return [f"{n} ({i + 1})" if names.count(n) > 1 else n for i, n in enumerate(names)]


def _has_numbers(axis: SheetAxis) -> bool:
    """Tell whether an axis has numbers alone, besides rows that do without it."""
    return all(text in (DEFAULT, ABSENT) or _reads_as_number(text) for text in axis.values)


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _tells_run(axis: SheetAxis, run_of_row: np.ndarray) -> bool:
    """Tell whether an axis has one value in each run, and not the same one in all."""
    by_run = [np.unique(axis.codes[run_of_row == run]) for run in np.unique(run_of_row)]
    return all(len(codes) == 1 for codes in by_run) and len({int(c[0]) for c in by_run}) > 1
