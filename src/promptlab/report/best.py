"""The best image of every cell: what a sheet shows when there is room for one.

Takes SheetData and an arrangement, returns a table of data rows. The page orders candidates by the
same rule (layout.js, `orderStack`): images before failures, what people like, the chosen score,
the model's default values, the order of the sweep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptlab.report.arrangement import Arrangement
from promptlab.report.axes import DEFAULT, SheetAxis
from promptlab.report.data import SheetData
from promptlab.verdicts.picks import Pick

MAX_WALL_COLUMNS = 12


@dataclass(frozen=True)
class BestTable:
    """One data row a cell; -1 where nothing was drawn."""

    row_labels: tuple[str, ...]  # empty texts in a wall
    column_labels: tuple[str, ...]
    best: np.ndarray  # int32 [row label, column label]: a row of SheetData, or -1
    captions: tuple[str, ...] = ()  # of a wall: one an image, in reading order

    @property
    def is_wall(self) -> bool:
        """Whether images have captions instead of rows and columns having labels."""
        return bool(self.captions)

    def label(self, row: int, column: int) -> str:
        """Return what one cell is called."""
        if self.is_wall:
            return self.captions[row * len(self.column_labels) + column]
        return " ".join(filter(None, (self.row_labels[row], self.column_labels[column])))


def best_of_cells(
    data: SheetData, arrangement: Arrangement, among: np.ndarray | None = None
) -> BestTable:
    """Return the best image of every cell that holds one; `among` (bool [row]) leaves out rows."""
    shown = data.has_image if among is None else data.has_image & among
    rows = np.flatnonzero(shown)
    inner = [] if arrangement.is_wall else list(arrangement.inner)
    row_lines = _lines(data, [arrangement.rows] if arrangement.rows else [], rows)
    column_lines = _lines(data, [n for n in (arrangement.columns, *inner) if n], rows)
    best = np.full((len(row_lines.labels), len(column_lines.labels)), -1, np.int32)
    place = {row: i for i, row in enumerate(rows.tolist())}
    # the last one written wins, so the best are written last
    for row in reversed(order_by_liking(data, rows)):
        i = place[row]
        best[row_lines.codes[i], column_lines.codes[i]] = row
    table = BestTable(row_lines.labels, column_lines.labels, best)
    return _wrapped(table) if arrangement.is_wall else table


@dataclass(frozen=True)
class _Lines:
    labels: tuple[str, ...]
    codes: np.ndarray  # int [row]: which label each row has


def _lines(data: SheetData, names: Sequence[str], rows: np.ndarray) -> _Lines:
    """Return the combinations of some axes that occur in these rows, in the sheet's order."""
    axes = [data.axis(name) for name in names]
    if not axes or len(rows) == 0:
        return _Lines(("",) * min(1, len(rows)), np.zeros(len(rows), np.intp))
    codes = np.stack([axis.codes[rows] for axis in axes], axis=1)
    combinations, inverse = np.unique(codes, axis=0, return_inverse=True)
    labels = tuple(
        " · ".join(axis_label(axis, code) for axis, code in zip(axes, combination, strict=True))
        for combination in combinations
    )
    return _Lines(labels, inverse.reshape(-1))


def axis_label(axis: SheetAxis, code: int) -> str:
    """Return a value with what it needs to be understood: numbers name their axis."""
    value = axis.values[code]
    return f"{axis.name} {value}" if axis.is_numeric or value == DEFAULT else value


def _wrapped(table: BestTable) -> BestTable:
    """Return a table of one line as several lines, each image with a caption of its own."""
    labels = table.row_labels
    count = len(labels)
    num_columns = max(1, min(MAX_WALL_COLUMNS, math.ceil(math.sqrt(1.6 * count))))
    num_rows = math.ceil(count / num_columns)
    best = np.full((num_rows, num_columns), -1, np.int32)
    best.flat[:count] = table.best[:, 0] if count else ()
    captions = (*labels, *[""] * (best.size - count))
    return BestTable(("",) * num_rows, ("",) * num_columns, best, captions)


def order_by_liking(data: SheetData, rows: Sequence[int] | np.ndarray) -> list[int]:
    """Return data rows, the best first."""
    pick_from_id = {pick.image_id: pick for pick in data.picks}
    score = data.sorting_score

    def badness(row: int) -> tuple[bool, int, float, int, int]:
        image = int(data.image_of_row[row])
        return (
            not data.has_image[row],
            -liking(pick_from_id.get(data.image_ids[image])),
            score.badness(image) if score is not None else 0.0,
            int(data.num_from_default[row]),
            row,
        )

    return sorted((int(row) for row in rows), key=badness)


def liking(pick: Pick | None) -> int:
    """Return how much people like an image, as the page orders candidates."""
    if pick is None:
        return 0
    if pick.is_reject:
        return -10
    return 10 * pick.is_favourite + (pick.rating or 0)
