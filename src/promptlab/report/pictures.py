"""Pictures to share: the sheet as PNG, PDF and animation, and the best image of each cell.

Takes SheetData and thumbnails, writes files beside the page. A picture shows one image a cell;
the page shows all of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from promptlab.atomic import replacing
from promptlab.errors import ReportError
from promptlab.paths import slugify
from promptlab.report.best import BestTable, best_of_cells, wrapped
from promptlab.report.canvas import LIGHT, Measures, Table, draw_table, printable
from promptlab.report.options import ReportOptions
from promptlab.report.pixels import read_images

if TYPE_CHECKING:
    from PIL import Image

    from promptlab.report.data import SheetData
    from promptlab.report.thumbnails import Thumbnail
    from promptlab.store import Run

PNG_NAME = "contact_sheet.png"
MAX_PNG_PIXELS = 16_000_000  # what every viewer opens; cells shrink first, then rows are left out
CELL_PX = (160, 128, 96, 64, 48, 32, 24)
PDF_PAGE_PX = (1754, 1240)  # A4 across at 150 dpi
PDF_DPI = 150
PDF_COLUMNS = 8
PDF_MAX_CELL_PX = 300
MAX_PDF_PAGES = 400
WRAPPED_COLUMNS = 8
MAX_FRAMES = 120
FRAME_MS = 700


@dataclass(frozen=True)
class _Source:
    """What pictures are drawn from."""

    data: SheetData
    thumbnails: Mapping[int, Thumbnail]
    runs: Sequence[Run]

    def picture(self, row: int, px: int) -> Image.Image | None:
        """Return a data row's image, fitted into px × px; None for -1."""
        if row < 0:
            return None
        from PIL import Image

        number = int(self.data.image_of_row[row])
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
    rows, columns = data.default_rows_and_columns(options.rows, options.columns)
    if options.columns is None and data.num_cells(rows, columns) == 1:
        columns = "seed" if rows != "seed" else columns  # one cell: a picture of its candidates
    paths: list[str] = []
    table = wrapped(best_of_cells(data, rows, columns), WRAPPED_COLUMNS)
    if not table.row_labels:
        return paths  # all failed: the page says so
    if options.png:
        paths.append(_write_png(source, table, output / PNG_NAME))
    if options.pdf:
        paths.append(_write_pdf(source, table, output / "contact_sheet.pdf"))
    if options.best:
        paths += _write_best(source, table, output / "best")
    if options.animate is not None:
        paths += _write_animation(source, rows, columns, options.animate, output)
    return paths


def _table(source: _Source, table: BestTable, rows: slice, columns: slice, footer: str) -> Table:
    part = table.best[rows, columns]
    prompts = source.data.texts["prompt"]
    return Table(
        title=source.data.title,
        row_labels=table.row_labels[rows],
        column_labels=table.column_labels[columns],
        picture=lambda row, column, px: source.picture(int(part[row, column]), px),
        caption=lambda row, column: str(prompts.values[prompts.codes[part[row, column]]]),
        footer=footer,
    )


def _write_png(source: _Source, table: BestTable, path: Path) -> str:
    num_rows, num_columns = table.best.shape
    footer = f"{int(source.data.has_image.sum()):,} images · promptlab"
    for cell in CELL_PX:
        measures = _measures(cell, num_columns)
        width, height = measures.size(num_rows, num_columns)
        if width * height <= MAX_PNG_PIXELS:
            break
    else:
        num_columns = min(num_columns, (MAX_PNG_PIXELS // 4000) // (cell + measures.gap))
        row_px = measures.size(1, num_columns)[0] * measures.step_y
        num_rows = max(1, min(num_rows, MAX_PNG_PIXELS // row_px - 4))
        footer += f" · the first {num_rows} × {num_columns} cells; the page has all"
    part = _table(source, table, slice(num_rows), slice(num_columns), footer)
    picture = draw_table(part, measures)
    with replacing(str(path), is_durable=False) as aside:
        picture.save(aside, "PNG", optimize=picture.width * picture.height < 4_000_000)
    return str(path)


def _measures(cell: int, num_columns: int) -> Measures:
    font = 15 if cell >= 96 else 12
    row_head = 150 if num_columns > 2 else 220
    return Measures(cell=cell, gap=6 if cell >= 64 else 3, font=font, row_head=row_head)


def _write_pdf(source: _Source, table: BestTable, path: Path) -> str:
    measures = _pdf_measures(len(table.column_labels))
    pages = list(_pdf_pages(table, measures))
    if len(pages) > MAX_PDF_PAGES:
        raise ReportError(
            f"contact_sheet.pdf would have {len(pages)} pages; at most {MAX_PDF_PAGES} are made. "
            "Choose other axes with --rows and --columns, or share the page itself."
        )

    def draw_pages() -> Iterator[Image.Image]:
        for number, (rows, columns) in enumerate(pages, start=1):
            part = _table(source, table, rows, columns, f"{number} of {len(pages)}")
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


def _pdf_measures(num_columns: int) -> Measures:
    margin, row_head, gap = 60, 200, 12
    free = PDF_PAGE_PX[0] - 2 * margin - row_head
    return Measures(
        cell=min(PDF_MAX_CELL_PX, free // min(num_columns, PDF_COLUMNS) - gap),
        gap=gap,
        margin=margin,
        font=20,
        title_font=28,
        row_head=row_head,
        caption_lines=2,
        theme=LIGHT,
    )


def _pdf_pages(table: BestTable, measures: Measures) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of each page; every page has headers of its own."""
    free = PDF_PAGE_PX[1] - measures.size(0, 1)[1]
    num_rows = max(1, free // measures.step_y)
    for row in range(0, len(table.row_labels), num_rows):
        for column in range(0, len(table.column_labels), PDF_COLUMNS):
            yield slice(row, row + num_rows), slice(column, column + PDF_COLUMNS)


def _on_page(picture: Image.Image) -> Image.Image:
    from PIL import Image

    page = Image.new("RGB", PDF_PAGE_PX, LIGHT.ground)
    page.paste(picture, (0, 0))
    return page


def _write_best(source: _Source, table: BestTable, folder: Path) -> list[str]:
    """Copy the best image of each cell, bytes and metadata as they are."""
    folder.mkdir(exist_ok=True)
    data = source.data
    paths = []
    for row, column in np.argwhere(table.best >= 0):
        number = int(data.image_of_row[table.best[row, column]])
        run = source.runs[data.image_run[number]]
        name = "_".join(
            (
                slugify(table.row_labels[row], 40),
                slugify(table.column_labels[column] or table.columns, 40),
                f"{data.image_ids[number]}.png",
            )
        )
        for _, content in read_images(run, data, [number]):
            with replacing(str(folder / name), is_durable=False) as aside:
                Path(aside).write_bytes(content)
            paths.append(str(folder / name))
    return paths


def _write_animation(
    source: _Source, rows: str, columns: str, along: str, output: Path
) -> list[str]:
    """Write the sheet as an animation: one frame a value of the axis `along`."""
    data = source.data
    axis = data.axis(along)
    rest = [name for name in ("subject", "style", "template", "model", "seed") if name != along]
    rows, columns = (name if name != along else "" for name in (rows, columns))
    rows = rows or next(name for name in rest if name != columns)
    columns = columns or next(name for name in rest if name != rows)
    if not 2 <= len(axis.values) <= MAX_FRAMES:
        raise ReportError(
            f"An animation along {along!r} needs 2 to {MAX_FRAMES} values, got {len(axis.values)}."
        )
    whole = best_of_cells(data, rows, columns)
    num_rows, num_columns = min(len(whole.row_labels), 12), min(len(whole.column_labels), 12)
    frames = []
    for code, value in enumerate(axis.values):
        table = _same_cells(data, whole, axis.codes == code)
        part = _table(source, table, slice(num_rows), slice(num_columns), f"{along}: {value}")
        frames.append(draw_table(part, _measures(128, num_columns)))
    paths = []
    for suffix, options in ((".webp", {"quality": 82, "method": 4}), (".gif", {"optimize": True})):
        path = output / f"contact_sheet{suffix}"
        with replacing(str(path), is_durable=False) as aside:
            frames[0].save(
                aside,
                suffix[1:].upper(),
                save_all=True,
                append_images=frames[1:],
                duration=FRAME_MS,
                loop=0,
                **options,
            )
        paths.append(str(path))
    return paths


def _same_cells(data: SheetData, whole: BestTable, among: np.ndarray) -> BestTable:
    """Return the best of some rows in the cells of a larger table, so that frames line up."""
    part = best_of_cells(data, whole.rows, whole.columns, among)
    best = np.full(whole.best.shape, -1, np.int32)
    rows = [whole.row_labels.index(label) for label in part.row_labels]
    columns = [whole.column_labels.index(label) for label in part.column_labels]
    best[np.ix_(rows, columns)] = part.best
    return BestTable(whole.rows, whole.columns, whole.row_labels, whole.column_labels, best)
