"""Pictures to share: the sheet as PNG, PDF and animation, and the best image of each cell.

Takes SheetData and thumbnails, writes what the options ask for beside the page. A picture shows
one image a cell; the page shows all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from promptlab.atomic import replacing
from promptlab.paths import slugify
from promptlab.report.animation import write_animation
from promptlab.report.canvas import draw_table
from promptlab.report.options import ReportOptions
from promptlab.report.pdf import write_pdf
from promptlab.report.pixels import read_images
from promptlab.report.tables import (
    PictureSource,
    Tab,
    cell_sizes,
    measures_of,
    table_part,
    tabs_of,
)

if TYPE_CHECKING:
    from promptlab.report.data import SheetData
    from promptlab.report.thumbnails import Thumbnail
    from promptlab.store import Run

PNG_NAME = "contact_sheet.png"
MAX_PNG_PIXELS = 16_000_000  # what every viewer opens; cells shrink first, then rows are left out


def write_pictures(
    data: SheetData,
    thumbnails: Mapping[int, Thumbnail],
    runs: Sequence[Run],
    output: Path,
    options: ReportOptions,
) -> list[str]:
    """Write what the options ask for; return the paths."""
    source = PictureSource(data, thumbnails, runs)
    arrangement = data.arrangement(options.rows, options.columns)
    tabs = list(tabs_of(data, arrangement))
    paths: list[str] = []
    if not tabs:
        return paths  # all failed: the page says so
    if options.png:
        paths.append(_write_png(source, tabs, output / PNG_NAME))
    if options.pdf:
        paths.append(write_pdf(source, tabs, output / "contact_sheet.pdf"))
    if options.best:
        paths += _write_best(source, tabs, output / "best")
    if options.animate is not None:
        paths += write_animation(source, options, options.animate, output)
    return paths


def _write_png(source: PictureSource, tabs: Sequence[Tab], path: Path) -> str:
    first = tabs[0]
    num_rows, num_columns = first.table.best.shape
    num_shown = int((first.table.best >= 0).sum())
    num_images = int(source.data.has_image.sum())
    footer = [_count(num_shown, num_images), "promptlab"]
    if num_enlarged := int((source.data.enlarged >= 0).sum()):
        footer.insert(1, f"{num_enlarged:,} enlarged")
    if num_failed := int((~source.data.has_image).sum()):
        footer.insert(1, f"{num_failed:,} failed")
    if first.title:
        footer.insert(0, f"{first.title}; the page has the other {len(tabs) - 1}")
    for cell in cell_sizes(source, num_shown):
        measures = measures_of(cell, first.table)
        width, height = measures.size(num_rows, num_columns)
        if width * height <= MAX_PNG_PIXELS:
            break
    else:
        num_columns = min(num_columns, (MAX_PNG_PIXELS // 4000) // (cell + measures.gap))
        row_px = measures.size(1, num_columns)[0] * measures.step_y
        num_rows = max(1, min(num_rows, MAX_PNG_PIXELS // row_px - 4))
        footer.append(f"the first {num_rows} × {num_columns} cells; the page has all")
    part = table_part(source, first.table, slice(num_rows), slice(num_columns), " · ".join(footer))
    picture = draw_table(part, measures)
    with replacing(str(path), is_durable=False) as aside:
        picture.save(aside, "PNG")
    return str(path)


def _count(num_shown: int, num_images: int) -> str:
    """Return "12 images", or "the best 60 of 240 images" where a picture shows fewer."""
    noun = "image" if num_images == 1 else "images"
    return (
        f"{num_images:,} {noun}"
        if num_shown == num_images
        else (f"the best {num_shown:,} of {num_images:,} {noun}")
    )


def _write_best(source: PictureSource, tabs: Sequence[Tab], folder: Path) -> list[str]:
    """Copy the best image of each cell, bytes and metadata as they are."""
    folder.mkdir(exist_ok=True)
    data = source.data
    paths = []
    for tab in tabs:
        for row, column in np.argwhere(tab.table.best >= 0):
            number = source.shown(int(tab.table.best[row, column]))
            run = source.runs[data.image_run[number]]
            labels = [tab.title, tab.table.label(row, column)]
            if not tab.table.is_wall:
                labels = [tab.title, tab.table.row_labels[row], tab.table.column_labels[column]]
            slugs = [slugify(label, 40) for label in labels if label]
            name = "_".join([*slugs, f"{data.image_ids[number]}.png"])
            for _, content in read_images(run, data, [number]):
                with replacing(str(folder / name), is_durable=False) as aside:
                    Path(aside).write_bytes(content)
                paths.append(str(folder / name))
    return paths
