"""What all pictures of a sheet share: its tables, the pixels in their cells, the sizes of cells.

Takes SheetData, thumbnails and runs; returns tables that a canvas draws, with measures that suit
them. Writes no file and knows no format.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptlab.report.arrangement import Arrangement
from promptlab.report.best import BestTable, best_of_cells
from promptlab.report.canvas import Measures, Table, load_font, wrap
from promptlab.report.pixels import read_images

if TYPE_CHECKING:
    from PIL import Image

    from promptlab.report.data import SheetData
    from promptlab.report.thumbnails import Thumbnail
    from promptlab.store import Run

ENLARGED_CELL_PX = 240  # of a sheet with enlarged images: sharp at twice a page's pixels
MAX_HEAD_LINES = 3  # of a column's label
CELL_PX = (160, 128, 96, 64, 48, 32, 24)


@dataclass(frozen=True)
class PictureSource:
    """What pictures are drawn from."""

    data: SheetData
    thumbnails: Mapping[int, Thumbnail]
    runs: Sequence[Run]

    def shown(self, row: int) -> int:
        """Return the number of the image that stands in a data row's place."""
        number = int(self.data.image_of_row[row])
        enlarged = int(self.data.enlarged[number])
        return number if enlarged < 0 else enlarged

    def picture(self, row: int, px: int) -> Image.Image | None:
        """Return a data row's image, fitted into px × px; None for -1."""
        if row < 0:
            return None
        from PIL import Image

        number = self.shown(row)
        thumbnail = self.thumbnails.get(number)
        if thumbnail is None:
            return None
        content = thumbnail.webp
        if px > 1.25 * max(thumbnail.width, thumbnail.height) and not thumbnail.is_native:
            run = self.runs[self.data.image_run[number]]
            content = next((c for _, c in read_images(run, self.data, [number])), content)
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.convert("RGB")
        scale = px / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(
            size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
        )


@dataclass(frozen=True)
class Tab:
    """One table of a picture: all of it, or the part with one value of the axis of tabs."""

    title: str  # "" where there is one table
    table: BestTable


def tabs_of(data: SheetData, arrangement: Arrangement) -> Iterator[Tab]:
    """Yield the tables of a sheet, the one with the model's default value first."""
    if not arrangement.tabs:
        table = best_of_cells(data, arrangement)
        if table.best.size:
            yield Tab("", table)
        return
    axis = data.axis(arrangement.tabs[0])
    codes = sorted(range(len(axis.values)), key=lambda code: code != axis.default)
    for code in codes:
        table = best_of_cells(data, arrangement, axis.codes == code)
        if table.best.size:
            yield Tab(f"{axis.name} {axis.values[code]}", table)


def table_part(
    source: PictureSource, table: BestTable, rows: slice, columns: slice, footer: str
) -> Table:
    """Return some rows and columns of a table, ready to be drawn."""
    part = table.best[rows, columns]
    first_row, first_column = rows.start or 0, columns.start or 0

    def caption(row: int, column: int) -> str:
        return table.label(first_row + row, first_column + column)

    return Table(
        title=source.data.title,
        row_labels=table.row_labels[rows],
        column_labels=table.column_labels[columns],
        picture=lambda row, column, px: source.picture(int(part[row, column]), px),
        caption=caption if table.is_wall else None,
        footer=footer,
    )


def cell_sizes(source: PictureSource, num_shown: int) -> tuple[int, ...]:
    """Return the sizes of cells to try, in px; a sheet of few images shows them large."""
    if (source.data.enlarged >= 0).any():
        return (ENLARGED_CELL_PX, *CELL_PX)
    native = max((t.width for t in source.thumbnails.values()), default=CELL_PX[0])
    return (max(CELL_PX[0], min(512, 3 * native)), *CELL_PX) if num_shown <= 2 else CELL_PX


def measures_of(cell: int, table: BestTable) -> Measures:
    """Return the measures of a table whose cells are `cell` px wide and high."""
    num_columns = len(table.column_labels)
    has_row_labels = any(table.row_labels)
    font = 22 if cell >= ENLARGED_CELL_PX else 15 if cell >= 96 else 12
    heads = (wrap(text, load_font(font), cell, MAX_HEAD_LINES) for text in table.column_labels)
    return Measures(
        cell=cell,
        gap=6 if cell >= 64 else 3,
        font=font,
        row_head=0 if not has_row_labels else 150 if num_columns > 2 and cell < 200 else 220,
        num_head_lines=max(map(len, heads), default=0),
        caption_lines=2 if table.is_wall and cell >= 64 else 0,
    )
