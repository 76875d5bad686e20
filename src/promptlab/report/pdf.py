"""The sheet as a PDF: pages of A4, each with headers of its own and a prompt below every image.

Takes the tables of a sheet, writes one file. Knows neither the page nor the other pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.atomic import replacing
from promptlab.errors import ReportError
from promptlab.report.best import BestTable
from promptlab.report.canvas import LIGHT, Measures, draw_table, printable
from promptlab.report.tables import PictureSource, Tab, table_part

if TYPE_CHECKING:
    from PIL import Image

PDF_PAGE_PX = (1754, 1240)  # A4 across at 150 dpi
PDF_DPI = 150
PDF_COLUMNS = 8
PDF_MAX_CELL_PX = 300
MAX_PDF_PAGES = 400


def write_pdf(source: PictureSource, tabs: Sequence[Tab], path: Path) -> str:
    """Write all tables of a sheet; raises ReportError for more than MAX_PDF_PAGES pages."""
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
            part = table_part(source, tab.table, rows, columns, footer)
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
    source: PictureSource, table: BestTable, rows: slice, columns: slice
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
