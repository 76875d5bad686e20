"""Thumbnails: one small WebP an image, made in parallel and kept by image_id.

Takes image bytes, returns Thumbnails. The run folder's `.thumbnails/` keeps them for the next page;
without it they are made again. Knows nothing of axes or pages.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sqlite3
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from promptlab.errors import ReportError
from promptlab.report.looks import describe_look

log = logging.getLogger(__name__)

FOLDER = ".thumbnails"
QUALITY = 80  # of a picture made smaller
NATIVE_QUALITY = 90  # of one that is small already: the page may have no other copy
METHOD = 2  # WebP's effort: 4 is twice as slow for 5 % fewer bytes
MIN_FOR_PROCESSES = 400  # below, starting processes takes longer than they save
TASK_SIZE = 32  # images handed to a process at once
_SAFE_PATH = "PYTHONSAFEPATH"  # Python's own variable: -P for processes whose command is not ours


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One image made small."""

    image_id: str
    sha256: str  # of the pixels it was made from, "" if unknown
    width: int  # px
    height: int  # px
    tint: int  # mean color, 0xRRGGBB: shown until the picture is loaded
    webp: bytes
    is_native: bool  # as large as the image itself
    look: bytes = b""  # descriptor, see looks.py: uint8 [192]


@dataclass(frozen=True, slots=True)
class Source:
    """Where an image's pixels are: a file, or the bytes themselves."""

    image_id: str
    sha256: str
    place: Path | bytes


def make_thumbnail(source: Source, max_px: int) -> Thumbnail | None:
    """Return an image made small; None, with a warning, for bytes that are no image."""
    from PIL import Image

    try:
        data = source.place if isinstance(source.place, bytes) else source.place.read_bytes()
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        log.warning("No thumbnail of image %s: %s", source.image_id, error)
        return None
    is_native = max(image.size) <= max_px
    if not is_native:
        image.thumbnail((max_px, max_px), Image.Resampling.BICUBIC, reducing_gap=2.0)
    red, green, blue = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=NATIVE_QUALITY if is_native else QUALITY, method=METHOD)
    return Thumbnail(
        image_id=source.image_id,
        sha256=source.sha256,
        width=image.width,
        height=image.height,
        tint=red << 16 | green << 8 | blue,
        webp=buffer.getvalue(),
        is_native=is_native,
        look=describe_look(image),
    )


def _make_many(sources: Sequence[Source], max_px: int) -> list[Thumbnail | None]:
    return [make_thumbnail(source, max_px) for source in sources]


def make_thumbnails(
    sources: Iterable[Source], num_sources: int, max_px: int, num_processes: int
) -> Iterator[Thumbnail]:
    """Yield a thumbnail of every readable source, in order, using several processes when worth it.

    Processes are spawned, never forked: the caller may hold threads and locks of pyarrow or MLflow.
    """
    if num_processes == 1 or num_sources < MIN_FOR_PROCESSES:
        made: Iterator[Thumbnail | None] = (make_thumbnail(s, max_px) for s in sources)
        yield from (thumbnail for thumbnail in made if thumbnail is not None)
        return
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with _without_users_modules():  # a pool begins with a process that tracks its semaphores
        pool = ProcessPoolExecutor(num_processes, mp_context=context)
    with pool:
        tasks = _windowed_map(pool, sources, max_px, window=4 * num_processes)
        yield from (thumbnail for task in tasks for thumbnail in task if thumbnail is not None)


def _windowed_map(
    pool: ProcessPoolExecutor, sources: Iterable[Source], max_px: int, window: int
) -> Iterator[list[Thumbnail | None]]:
    """Map in order with at most `window` tasks under way, so that bytes never pile up."""
    import collections
    import itertools

    remaining = iter(sources)
    running: collections.deque = collections.deque()
    while task := list(itertools.islice(remaining, TASK_SIZE)):
        with _without_users_modules():
            running.append(pool.submit(_make_many, task, max_px))
        if len(running) >= window:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


@contextlib.contextmanager
def _without_users_modules() -> Iterator[None]:
    """Let processes that start here run nothing of the user's.

    A spawned process looks into the working directory first, before it takes over our own path;
    and it would run the main program once more: a script that draws a sweep.
    """
    given, main = os.environ.get(_SAFE_PATH), sys.modules["__main__"]
    os.environ[_SAFE_PATH] = "1"
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if given is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = given


class ThumbnailCache:
    """The thumbnails of one size that a run folder keeps: one SQLite file."""

    def __init__(self, run_root: str, max_px: int) -> None:
        self.path = Path(run_root, FOLDER, f"{max_px}px.sqlite")

    def read(self, image_ids: Sequence[str] | None = None) -> dict[tuple[str, str], Thumbnail]:
        """Return what is kept, all or some, by (image_id, sha256).

        What cannot be read is made again.
        """
        if not self.path.is_file():
            return {}
        query, values = f"select {_COLUMNS} from thumbnails", list(image_ids or ())
        if image_ids is not None:
            query += f" where image_id in ({', '.join('?' * len(values))})"
        try:
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                rows = connection.execute(query, values).fetchall()
                return {(row[0], row[1]): Thumbnail(*row) for row in rows}
        except (sqlite3.Error, TypeError) as error:
            log.warning("Making the thumbnails of %s again: %s", self.path, error)
            with contextlib.suppress(OSError):
                self.path.unlink()
            return {}

    def add(self, thumbnails: Sequence[Thumbnail]) -> None:
        """Keep new thumbnails; a folder that cannot be written or is a URL keeps none."""
        if not thumbnails or not self.path.parent.parent.is_dir():
            return
        rows = ([getattr(t, name) for name in Thumbnail.__slots__] for t in thumbnails)
        marks = ", ".join("?" * len(Thumbnail.__slots__))
        try:
            self.path.parent.mkdir(exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
                connection.execute(
                    f"create table if not exists thumbnails ({_COLUMNS}, "
                    "primary key (image_id, sha256))"
                )
                connection.executemany(
                    f"insert or replace into thumbnails ({_COLUMNS}) values ({marks})", rows
                )
        except (OSError, sqlite3.Error) as error:
            log.info("Thumbnails are not kept for the next page: %s", error)


_COLUMNS = ", ".join(Thumbnail.__slots__)


def require_pillow() -> None:
    """Raise ReportError when Pillow cannot write WebP."""
    from PIL import features

    if not features.check("webp"):
        raise ReportError("Pillow on this machine cannot write WebP: pip install --upgrade pillow.")
