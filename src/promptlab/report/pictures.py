"""Pictures to share: the sheet as PNG, PDF and animation, and the best image of each cell.

Takes SheetData and thumbnails, writes files beside the page. A picture shows one image a cell;
the page shows all of them.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from promptlab.atomic import replacing
from promptlab.errors import ReportError
from promptlab.paths import slugify
from promptlab.report.arrangement import Arrangement, arrange
from promptlab.report.best import BestTable, best_of_cells
from promptlab.report.canvas import (
    LIGHT,
    Measures,
    Table,
    draw_table,
    load_font,
    printable,
    wrap,
)
from promptlab.report.options import ReportOptions
from promptlab.report.pixels import read_images

if TYPE_CHECKING:
    from PIL import Image

    from promptlab.report.data import SheetData
    from promptlab.report.thumbnails import Thumbnail
    from promptlab.store import Run

PNG_NAME = "contact_sheet.png"
MAX_PNG_PIXELS = 16_000_000  # what every viewer opens; cells shrink first, then rows are left out
ENLARGED_CELL_PX = 240  # of a sheet with enlarged images: sharp at twice a page's pixels
MAX_HEAD_LINES = 3  # of a column's label
CELL_PX = (160, 128, 96, 64, 48, 32, 24)
PDF_PAGE_PX = (1754, 1240)  # A4 across at 150 dpi
PDF_DPI = 150
PDF_COLUMNS = 8
PDF_MAX_CELL_PX = 300
MAX_PDF_PAGES = 400
MAX_FRAMES = 120
FRAME_MS = 700
MAX_FRAME_LINES = 12  # rows and columns of an animation


@dataclass(frozen=True)
class _Source:
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


def write_pictures(
    data: SheetData,
    thumbnails: Mapping[int, Thumbnail],
    runs: Sequence[Run],
    output: Path,
    options: ReportOptions,
) -> list[str]:
    """Write what the options ask for; return the paths."""
    source = _Source(data, thumbnails, runs)
    arrangement = data.arrangement(options.rows, options.columns)
    tabs = list(_tabs(data, arrangement))
    paths: list[str] = []
    if not tabs:
        return paths  # all failed: the page says so
    if options.png:
        paths.append(_write_png(source, tabs, output / PNG_NAME))
    if options.pdf:
        paths.append(_write_pdf(source, tabs, output / "contact_sheet.pdf"))
    if options.best:
        paths += _write_best(source, tabs, output / "best")
    if options.animate is not None:
        paths += _write_animation(source, options, options.animate, output)
    return paths


@dataclass(frozen=True)
class _Tab:
    """One table of a picture: all of it, or the part with one value of the axis of tabs."""

    title: str  # "" where there is one table
    table: BestTable


def _tabs(data: SheetData, arrangement: Arrangement) -> Iterator[_Tab]:
    """Yield the tables of a sheet, the one with the model's default value first."""
    if not arrangement.tabs:
        table = best_of_cells(data, arrangement)
        if table.best.size:
            yield _Tab("", table)
        return
    axis = data.axis(arrangement.tabs[0])
    codes = sorted(range(len(axis.values)), key=lambda code: code != axis.default)
    for code in codes:
        table = best_of_cells(data, arrangement, axis.codes == code)
        if table.best.size:
            yield _Tab(f"{axis.name} {axis.values[code]}", table)


def _table(source: _Source, table: BestTable, rows: slice, columns: slice, footer: str) -> Table:
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


def _write_png(source: _Source, tabs: Sequence[_Tab], path: Path) -> str:
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
    for cell in _cell_sizes(source, num_shown):
        measures = _measures(cell, first.table)
        width, height = measures.size(num_rows, num_columns)
        if width * height <= MAX_PNG_PIXELS:
            break
    else:
        num_columns = min(num_columns, (MAX_PNG_PIXELS // 4000) // (cell + measures.gap))
        row_px = measures.size(1, num_columns)[0] * measures.step_y
        num_rows = max(1, min(num_rows, MAX_PNG_PIXELS // row_px - 4))
        footer.append(f"the first {num_rows} × {num_columns} cells; the page has all")
    part = _table(source, first.table, slice(num_rows), slice(num_columns), " · ".join(footer))
    picture = draw_table(part, measures)
    with replacing(str(path), is_durable=False) as aside:
        picture.save(aside, "PNG", optimize=picture.width * picture.height < 4_000_000)
    return str(path)


def _count(num_shown: int, num_images: int) -> str:
    """Return "12 images", or "the best 60 of 240 images" where a picture shows fewer."""
    noun = "image" if num_images == 1 else "images"
    return (
        f"{num_images:,} {noun}"
        if num_shown == num_images
        else (f"the best {num_shown:,} of {num_images:,} {noun}")
    )


def _cell_sizes(source: _Source, num_shown: int) -> tuple[int, ...]:
    """Return the sizes of cells to try, in px; a sheet of few images shows them large."""
    if (source.data.enlarged >= 0).any():
        return (ENLARGED_CELL_PX, *CELL_PX)
    native = max((t.width for t in source.thumbnails.values()), default=CELL_PX[0])
    return (max(CELL_PX[0], min(512, 3 * native)), *CELL_PX) if num_shown <= 2 else CELL_PX


def _measures(cell: int, table: BestTable) -> Measures:
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


def _write_pdf(source: _Source, tabs: Sequence[_Tab], path: Path) -> str:
    measures = _pdf_measures(tabs[0].table)
    pages = [(tab, *place) for tab in tabs for place in _pdf_pages(tab.table, measures)]
    if len(pages) > MAX_PDF_PAGES:
        raise ReportError(
            f"contact_sheet.pdf would have {len(pages)} pages; at most {MAX_PDF_PAGES} are made. "
            "Choose other axes with --rows and --columns, or share the page itself."
        )

    def draw_pages() -> Iterator[Image.Image]:
        for number, (tab, rows, columns) in enumerate(pages, start=1):
            footer = " · ".join(filter(None, (tab.title, f"{number} of {len(pages)}")))
            part = _table(source, tab.table, rows, columns, footer)
            part = dataclasses.replace(part, caption=_prompts(source, tab.table, rows, columns))
            yield _on_page(draw_table(part, measures))

    drawn = draw_pages()
    with replacing(str(path), is_durable=False) as aside:
        next(drawn).save(
            aside,
            "PDF",
            resolution=PDF_DPI,
            save_all=True,
            append_images=drawn,
            title=printable(source.data.title),
            producer="promptlab",
        )
    return str(path)


def _prompts(
    source: _Source, table: BestTable, rows: slice, columns: slice
) -> Callable[[int, int], str]:
    """Return what gives the prompt of each image of a page."""
    part = table.best[rows, columns]
    prompts = source.data.texts["prompt"]
    return lambda row, column: str(prompts.values[prompts.codes[part[row, column]]])


def _pdf_measures(table: BestTable) -> Measures:
    num_columns = len(table.column_labels)
    margin, gap = 60, 12
    row_head = 200 if any(table.row_labels) else 0
    free = PDF_PAGE_PX[0] - 2 * margin - row_head
    return Measures(
        cell=min(PDF_MAX_CELL_PX, free // min(num_columns, PDF_COLUMNS) - gap),
        gap=gap,
        margin=margin,
        font=20,
        title_font=28,
        row_head=row_head,
        num_head_lines=2 if any(table.column_labels) else 0,
        caption_lines=2,
        theme=LIGHT,
    )


def _pdf_pages(table: BestTable, measures: Measures) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of each page; every page has headers of its own."""
    free = PDF_PAGE_PX[1] - measures.size(0, 1)[1]
    num_rows = max(1, free // measures.step_y)
    total_rows, total_columns = table.best.shape
    for row in range(0, total_rows, num_rows):
        for column in range(0, total_columns, PDF_COLUMNS):
            yield slice(row, row + num_rows), slice(column, column + PDF_COLUMNS)


def _on_page(picture: Image.Image) -> Image.Image:
    from PIL import Image

    page = Image.new("RGB", PDF_PAGE_PX, LIGHT.ground)
    page.paste(picture, (0, 0))
    return page


def _write_best(source: _Source, tabs: Sequence[_Tab], folder: Path) -> list[str]:
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


def _write_animation(
    source: _Source, options: ReportOptions, along: str, output: Path
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
    measures = _measures(_cell_sizes(source, whole.best.size)[0], whole)
    frames = []
    for code, value in enumerate(axis.values):
        table = _same_cells(data, arrangement, whole, axis.codes == code)
        part = _table(source, table, slice(num_rows), slice(num_columns), f"{along}: {value}")
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
