"""Options of a contact sheet, and the paths of the files written.

Plain records, checked on construction. Knows nothing of runs or pages.
"""

from __future__ import annotations

from dataclasses import dataclass

from promptlab.errors import ReportError
from promptlab.machine import usable_cores

MAX_THUMBNAIL_PX = 512


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """How a contact sheet is built."""

    output: str | None = None  # folder; None: the first run's own
    single_file_mb: float = 24.0  # one file with thumbnails inside up to here, a folder above
    thumbnail_px: int = 160  # longest side
    processes: int | None = None  # None: as many as this process has CPUs
    png: bool = True  # contact_sheet.png
    pdf: bool = False  # contact_sheet.pdf
    best: bool = False  # best/: the best image of each cell
    animate: str | None = None  # axis: contact_sheet.webp and .gif along it
    rows: str | None = None  # axis; None: chosen from the axes
    columns: str | None = None  # axis; None: chosen from the axes
    sort: str | None = None  # score that puts the best candidate first; None: the first score

    def __post_init__(self) -> None:
        if not 16 <= self.thumbnail_px <= MAX_THUMBNAIL_PX:
            raise ReportError(
                f"thumbnail_px={self.thumbnail_px}: expected 16 to {MAX_THUMBNAIL_PX} px."
            )
        if self.processes is not None and self.processes < 1:
            raise ReportError(f"processes={self.processes}: expected at least 1.")
        if self.rows is not None and self.rows == self.columns:
            raise ReportError(f"Rows and columns both show {self.rows!r}: choose two axes.")

    @property
    def num_processes(self) -> int:
        """Number of processes to use."""
        return usable_cores() if self.processes is None else self.processes


@dataclass(frozen=True, slots=True)
class SheetFiles:
    """Paths of the files that make up a contact sheet."""

    index_html: str
    num_images: int
    contact_sheet_png: str | None = None
    others: tuple[str, ...] = ()
