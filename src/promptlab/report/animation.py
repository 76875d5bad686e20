"""The sheet as an animation: one frame a value of an axis, as WebP and GIF.

Takes the source of pictures and the axis, writes two files. All frames have the same cells in the
same places. Knows neither the page nor the other pictures.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from promptlab.atomic import replacing
from promptlab.errors import ReportError
from promptlab.report.arrangement import Arrangement, arrange
from promptlab.report.best import BestTable, best_of_cells
from promptlab.report.canvas import draw_table
from promptlab.report.options import ReportOptions
from promptlab.report.tables import PictureSource, cell_sizes, measures_of, table_part

if TYPE_CHECKING:
    from promptlab.report.data import SheetData

MAX_FRAMES = 120
FRAME_MS = 700
MAX_FRAME_LINES = 12  # rows and columns of an animation


def write_animation(
    source: PictureSource, options: ReportOptions, along: str, output: Path
) -> list[str]:
    """Write the sheet as an animation: one frame a value of the axis `along`."""
    data = source.data
    axis = data.axis(along)
    if not 2 <= len(axis.values) <= MAX_FRAMES:
        raise ReportError(
            f"An animation along {along!r} needs 2 to {MAX_FRAMES} values, got {len(axis.values)}."
        )
    still = [each for each in data.axes if each.name != along or along == "seed"]
    rows, columns = (name if name != along else None for name in (options.rows, options.columns))
    arrangement = arrange(still, rows, columns)
    if along == arrangement.rows:  # of one prompt's seeds: one image a frame
        arrangement = Arrangement(None, None)
    whole = best_of_cells(data, arrangement)
    num_rows, num_columns = (min(count, MAX_FRAME_LINES) for count in whole.best.shape)
    measures = measures_of(cell_sizes(source, whole.best.size)[0], whole)
    frames = []
    for code, value in enumerate(axis.values):
        table = _same_cells(data, arrangement, whole, axis.codes == code)
        part = table_part(source, table, slice(num_rows), slice(num_columns), f"{along}: {value}")
        frames.append(draw_table(part, measures))
    paths = []
    for suffix, how in ((".webp", {"quality": 82, "method": 4}), (".gif", {"optimize": True})):
        path = output / f"contact_sheet{suffix}"
        with replacing(str(path), is_durable=False) as aside:
            frames[0].save(
                aside,
                suffix[1:].upper(),
                save_all=True,
                append_images=frames[1:],
                duration=FRAME_MS,
                loop=0,
                **how,
            )
        paths.append(str(path))
    return paths


def _same_cells(
    data: SheetData, arrangement: Arrangement, whole: BestTable, among: np.ndarray
) -> BestTable:
    """Return the best of some rows in the cells of a larger table, so that frames line up."""
    part = best_of_cells(data, arrangement, among)
    best = np.full(whole.best.shape, -1, np.int32)
    if whole.is_wall:
        # The first of each: empty captions fill the last line up, and may be that of an only cell.
        place = {whole.captions[i]: i for i in reversed(range(len(whole.captions)))}
        for caption, row in zip(part.captions, part.best.flat, strict=True):
            if row >= 0:
                best.flat[place[caption]] = row
    else:
        rows = [whole.row_labels.index(label) for label in part.row_labels]
        columns = [whole.column_labels.index(label) for label in part.column_labels]
        best[np.ix_(rows, columns)] = part.best
    return dataclasses.replace(whole, best=best)
