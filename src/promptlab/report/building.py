"""What one sheet is built from, runs, their data and thumbnails, and the files of its page.

Takes opened runs, options and a folder; writes the page as one file, or as a file and a folder of
scripts, each in one step and the page last. Knows neither how runs are named nor where a sheet
belongs.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import logging
import os
import sys
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.atomic import replacing
from promptlab.report import page
from promptlab.report.chunks import PACK_SIZE, ThumbnailShape, whole_chunk
from promptlab.report.options import ReportOptions, SheetFiles

if TYPE_CHECKING:
    from promptlab.report.data import SheetData
    from promptlab.report.thumbnails import Thumbnail
    from promptlab.store import Run

log = logging.getLogger(__name__)

FULL_PX = 1024  # longest side of whole images inside a single file
MIN_WHOLE_BYTES = 4_000  # no image larger than its thumbnail is smaller than this
KEPT_AT_ONCE = 2_048  # thumbnails a part of the cache: a stopped build loses at most these
MIN_FOR_PROGRESS = 500
FOLDER = "sheet"  # beside index.html when the page is more than one file


class Builder:
    """The runs of one sheet, their data and their thumbnails."""

    def __init__(self, runs: Sequence[Run], options: ReportOptions) -> None:
        from promptlab.report.data import collect
        from promptlab.report.thumbnails import require_pillow

        require_pillow()
        self.runs = runs
        self.options = options
        self.home: Path | None = None  # stands for the first run's folder, which is elsewhere
        self.data: SheetData = collect(runs, options.sort)
        self.arrangement = self.data.arrangement(options.rows, options.columns)
        self.made_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.thumbnails = self._load_thumbnails()
        self.data = self._with_looks()

    def _numbers(self, run_number: int, among: Collection[int] | None = None) -> list[int]:
        """Return the numbers of the images that one run's folder holds."""
        from promptlab.report.pixels import numbers_with_pixels

        numbers = numbers_with_pixels(self.data) if among is None else sorted(among)
        return [number for number in numbers if self.data.image_run[number] == run_number]

    def _load_thumbnails(self) -> dict[int, Thumbnail]:
        """Return the thumbnails by image number: kept ones, and new ones made now."""
        from promptlab.report.pixels import locate_images
        from promptlab.report.thumbnails import Source, ThumbnailCache, make_thumbnails

        data = self.data
        found: dict[int, Thumbnail] = {}
        for run_number, run in enumerate(self.runs):
            cache = ThumbnailCache(run.paths.root, self.options.thumbnail_px)
            kept = cache.read()
            wanted = {
                (data.image_ids[number], data.image_sha256[number] or ""): number
                for number in self._numbers(run_number)
            }
            found |= {number: kept[key] for key, number in wanted.items() if key in kept}
            missing = {key: number for key, number in wanted.items() if key not in kept}
            sources = (
                Source(data.image_ids[number], data.image_sha256[number] or "", place)
                for number, place in locate_images(run, data, missing.values())
            )
            made = make_thumbnails(
                sources, len(missing), self.options.thumbnail_px, self.options.num_processes
            )
            for batch in _batches(_with_progress(made, len(missing)), KEPT_AT_ONCE):
                cache.add(batch)
                found |= {missing[t.image_id, t.sha256]: t for t in batch}
        return found

    def _with_looks(self) -> SheetData:
        """Return the data with the candidates of each cell ordered by look."""
        from promptlab.report.looks import order_by_look

        looks = {number: t.look for number, t in self.thumbnails.items()}
        look, twin = order_by_look(self.data.cell_of_row, self.data.image_of_row, looks)
        return dataclasses.replace(self.data, look=look, twin=twin)

    def write_page(self, output: Path) -> Path:
        """Write the page as one file, or as a file and a folder; return its path."""
        num_bytes = sum(len(t.webp) for t in self.thumbnails.values())
        bases = [
            "" if output == self.home and number == 0 else _relative_url(output, run.paths.root)
            for number, run in enumerate(self.runs)
        ]
        index = output / "index.html"
        if num_bytes <= self.options.single_file_mb * 2**20:
            document = self._document(bases, output=output)
            parts = page.page_parts(self.data.title, document, self._packs())
            _write(index, parts)
            return index
        folder = output / FOLDER
        folder.mkdir(exist_ok=True)
        names = []
        for number, pack in enumerate(self._packs()):
            text = page.pack_script(number, pack)
            names.append(f"{FOLDER}/pack-{number:05d}-{page.short_hash(text)}.js")
            _write(output / names[-1], [text])
        data_text = page.data_script(self._document(bases, names, output))
        data_name = f"{FOLDER}/data-{page.short_hash(data_text)}.js"
        _write(output / data_name, [data_text])
        _write(index, page.page_parts(self.data.title, None, (), data_name))
        _remove_all_but(folder, {data_name, *names})
        return index

    def write_standalone(self, path: Path, max_bytes: int) -> str | None:
        """Write one file with everything inside; None if it would exceed `max_bytes`."""
        title, document = self.data.title, self._document([None] * len(self.runs))
        size = sum(len(part.encode()) for part in page.page_parts(title, document, self._packs()))
        if size > max_bytes:
            log.warning(
                "No single-file contact sheet: %d images need %.0f MB, more than %.0f MB. "
                "Share the run folder instead.",
                self.data.num_images,
                size / 2**20,
                max_bytes / 2**20,
            )
            return None
        whole = self._whole_images((max_bytes - size) * 3 // 4)
        _write(path, page.page_parts(title, document, self._packs(whole)))
        return str(path)

    def _whole_images(self, max_bytes: int) -> dict[int, bytes]:
        """Return every image that is larger than its thumbnail as WebP, or none if not all fit."""
        from promptlab.report.pixels import locate_images
        from promptlab.report.thumbnails import Source, make_thumbnail

        data = self.data
        wanted = {number for number, t in self.thumbnails.items() if not t.is_native}
        if MIN_WHOLE_BYTES * len(wanted) > max_bytes:
            return {}
        whole: dict[int, bytes] = {}
        for run_number, run in enumerate(self.runs):
            for number, place in locate_images(run, data, self._numbers(run_number, wanted)):
                copy = make_thumbnail(Source(data.image_ids[number], "", place), FULL_PX)
                if copy is not None:
                    whole[number] = copy.webp
                    max_bytes -= len(copy.webp)
                if max_bytes < 0:
                    return {}
        return whole

    def _packs(self, whole: Mapping[int, bytes] | None = None) -> Iterator[str]:
        """Yield the packs in order, as JSON."""
        for start in range(0, self.data.num_images, PACK_SIZE):
            numbers = range(start, min(start + PACK_SIZE, self.data.num_images))
            thumbnails = [self.thumbnails.get(number) for number in numbers]
            yield page.Pack(
                thumbnails=[None if t is None else t.webp for t in thumbnails],
                commands=[self._command(number) for number in numbers],
                full=[(whole or {}).get(number) for number in numbers],
            ).to_json()

    def _command(self, number: int) -> str:
        """Return the line for a shell that draws an image again."""
        from promptlab.planning.redraw import recorded_model, redraw_command

        row = self.data.redraw_rows[number]
        record = self.runs[self.data.image_run[number]].record
        return redraw_command(row, recorded_model(record, row))

    def _document(
        self,
        bases: Sequence[str | None],
        names: Sequence[str] = (),
        output: Path | None = None,  # None: a page that links to nothing
    ) -> str:
        from promptlab.report.relatives import Relatives, find_relatives
        from promptlab.report.shares import find_shares

        relatives = Relatives()
        if output is not None:
            relatives = find_relatives(self.data, self.runs, output)
        shapes = {i: ThumbnailShape.of(t) for i, t in self.thumbnails.items()}
        chunk = whole_chunk(self.data, shapes, names)
        return page.script_json(
            page.sheet_document(
                self.data,
                chunk,
                bases,
                self.arrangement,
                self.made_at,
                relatives,
                find_shares(self.runs),
            )
        )

    def files(self, index: str, output: Path) -> SheetFiles:
        """Write the pictures that the options ask for beside a written page; return all paths."""
        from promptlab.report.pictures import PNG_NAME, write_pictures

        paths = write_pictures(self.data, self.thumbnails, self.runs, output, self.options)
        return SheetFiles(
            index_html=index,
            num_images=int(self.data.has_image.sum()),
            contact_sheet_png=next((p for p in paths if p.endswith(PNG_NAME)), None),
            others=tuple(p for p in paths if not p.endswith(PNG_NAME)),
        )


def _relative_url(output: Path, run_root: str) -> str | None:
    """Return a run folder's URL as the page sees it: "" beside it, None if out of reach."""
    if "://" in run_root:
        return None
    relative = os.path.relpath(Path(run_root).resolve(), output.resolve())
    return "" if relative == "." else urllib.parse.quote(Path(relative).as_posix()) + "/"


def _write(path: Path, parts: Iterable[str]) -> None:
    """Write a text file in one step: a reader sees the old one or the new one."""
    with (
        replacing(str(path), is_durable=False) as aside,
        open(aside, "w", encoding="utf-8", newline="\n") as file,
    ):
        file.writelines(parts)


def _remove_all_but(folder: Path, names: set[str]) -> None:
    """Remove the scripts of earlier pages."""
    for pattern in ("pack-*.js", "data-*.js"):
        for path in folder.glob(pattern):
            if f"{folder.name}/{path.name}" not in names:
                path.unlink(missing_ok=True)


def _batches(items: Iterable[Thumbnail], size: int) -> Iterator[list[Thumbnail]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def _with_progress(thumbnails: Iterable[Thumbnail], total: int) -> Iterable[Thumbnail]:
    """Show a progress bar on a terminal when there is something to wait for."""
    if total < MIN_FOR_PROGRESS or not sys.stderr.isatty():
        return thumbnails
    from tqdm import tqdm

    return tqdm(thumbnails, total=total, desc="thumbnails", unit="image", leave=False)
