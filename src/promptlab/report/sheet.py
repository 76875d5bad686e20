"""Build a contact sheet: runs in; page, pictures and thumbnails out.

Takes run folders or the store's runs, chooses the folder of the page, returns what was written.
Everything is written aside and renamed, the page last, so that an opened page never points at
something half-written.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from promptlab.errors import ReportError
from promptlab.paths import RunPaths, is_portable, slugify
from promptlab.report import page
from promptlab.report.building import Builder
from promptlab.report.options import ReportOptions, SheetFiles

if TYPE_CHECKING:
    from promptlab.store import Run

    RunLike: TypeAlias = Run | RunPaths | str | os.PathLike[str]
    Runs: TypeAlias = RunLike | Sequence[RunLike]

STANDALONE_BYTES = 48 * 2**20  # below MLflow's limit of 50 MiB for an artifact that it shows
COMPARISONS_DIR = "reports"  # pages of several runs, each in a folder of its own


def write_contact_sheet(runs: Runs, options: ReportOptions | None = None) -> SheetFiles:
    """Write index.html and the pictures asked for; return what was written.

    Without `options.output` the page of one run goes into its folder, that of several into one of
    their own below reports/. Up to `options.single_file_mb` of thumbnails the page is one file;
    above, `sheet/` beside it holds the data and the thumbnails. Raises ReportError for runs
    without a row, an unknown axis, or a folder that cannot be written.
    """
    options = options or ReportOptions()
    builder = Builder(open_runs(runs), options)
    root = builder.runs[0].paths.root
    if options.output is None and "://" in root and len(builder.runs) == 1:
        return _write_remote(builder, root)
    output = Path(options.output or _default_folder(builder.runs))
    try:
        output.mkdir(parents=True, exist_ok=True)
        return builder.files(str(builder.write_page(output)), output)
    except OSError as error:
        raise ReportError(f"The contact sheet cannot be written to {output}: {error}") from error


def _default_folder(runs: Sequence[Run]) -> str:
    """Return where a sheet goes by itself: a run's own folder, or one for several runs together."""
    if len(runs) == 1:
        return runs[0].paths.root
    names = " ".join(run.paths.name for run in runs)
    return f"{COMPARISONS_DIR}/{slugify(names, 100)}-{page.short_hash(names)[:6]}"


def _write_remote(builder: Builder, root: str) -> SheetFiles:
    """Write the page and its pictures into a run folder on a remote store."""
    from promptlab.store.storage import open_storage

    storage = open_storage(root)
    with tempfile.TemporaryDirectory(prefix="promptlab-") as folder:
        output = Path(folder)
        builder.home = output  # the page's own folder is the first run's
        files = builder.files(str(builder.write_page(output)), output)
        written = [path for path in sorted(output.rglob("*")) if path.is_file()]
        written.sort(key=lambda path: path.name == "index.html")  # the page last
        for path in written:
            remote = f"{root}/{path.relative_to(output).as_posix()}"
            storage.write_files({remote: path.read_bytes()})
    return dataclasses.replace(
        files,
        index_html=f"{root}/index.html",
        contact_sheet_png=files.contact_sheet_png and f"{root}/contact_sheet.png",
        others=tuple(
            f"{root}/{Path(path).relative_to(output).as_posix()}" for path in files.others
        ),
    )


def write_standalone(
    runs: Runs,
    path: str | os.PathLike[str],
    options: ReportOptions | None = None,
    max_mb: float = STANDALONE_BYTES / 2**20,
) -> str | None:
    """Write one HTML file that needs nothing beside it, for MLflow's viewer or a friend.

    Whole images are inside while they fit. Returns None, and writes nothing, when even the
    thumbnails exceed `max_mb`.
    """
    builder = Builder(open_runs(runs), options or ReportOptions())
    try:
        return builder.write_standalone(Path(path), int(max_mb * 2**20))
    except OSError as error:
        raise ReportError(f"The page cannot be written to {path}: {error}") from error


def publish(
    runs: Runs, name: str, options: ReportOptions | None = None, reports_dir: str = "reports"
) -> SheetFiles:
    """Write a sheet to show others: `reports/NAME/` with one self-contained page and its PNG.

    A sheet too large for one file becomes a page with a folder beside it.
    """
    if not is_portable(name):
        raise ReportError(f"--publish {name!r}: expected a plain folder name.")
    options = options or ReportOptions()
    builder = Builder(open_runs(runs), options)
    output = Path(options.output or reports_dir) / name
    try:
        output.mkdir(parents=True, exist_ok=True)
        index = builder.write_standalone(output / "index.html", STANDALONE_BYTES)
        return builder.files(index or str(builder.write_page(output)), output)
    except OSError as error:
        raise ReportError(f"The contact sheet cannot be written to {output}: {error}") from error


def open_runs(runs: Runs) -> list[Run]:
    """Return runs, whichever way they were named."""
    from promptlab.store import Run, read_run

    named = [runs] if isinstance(runs, Run | RunPaths | str | os.PathLike) else runs
    opened: list[Run] = []
    for run in named:
        if isinstance(run, Run):
            opened.append(run)
        else:
            opened.append(read_run(run if isinstance(run, RunPaths) else os.fspath(run)))
    if not opened:
        raise ReportError("Name at least one run folder.")
    return opened
