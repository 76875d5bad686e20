"""Files of picks that a page saved: where the browser put one, and which runs it is about.

Takes a file's name or its text, returns a path or run folders. Writes nothing and knows no verdict.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from promptlab.errors import ReportError, StoreError

ANY_NAME = "picks_*.json"


def find_picks_file(name: str) -> Path:
    """Return the file of picks that is meant: as named, else the newest of that name downloaded.

    A browser that has the file already saves "picks_run (1).json". Without a name, the newest
    file of picks among the downloads. Raises ReportError if there is none.
    """
    path = Path(name)
    if name and path.is_file():
        return path
    folder = downloads_folder()
    found: list[Path] = []
    if not name or path.parent == Path():
        found = sorted(_downloaded(folder, name), key=lambda p: p.stat().st_mtime)
    if not found:
        what = repr(name) if name else f"No {ANY_NAME}"
        raise ReportError(
            f"{what} is neither here nor in {folder}. Save the verdicts on the contact sheet, and "
            "give the path of the file: promptlab pick --import PATH."
            if name
            else f"{what} is in {folder}. Save the verdicts on the contact sheet, or give the path "
            "of the file: promptlab pick --import PATH."
        )
    return found[-1]


def downloads_folder() -> Path:
    """Return where browsers save files: XDG_DOWNLOAD_DIR, else ~/Downloads."""
    return Path(os.environ.get("XDG_DOWNLOAD_DIR") or Path.home() / "Downloads")


def _downloaded(folder: Path, name: str) -> Iterator[Path]:
    if not folder.is_dir():
        return
    if not name:
        yield from folder.glob(ANY_NAME)
        return
    stem, suffix = re.escape(Path(name).stem), re.escape(Path(name).suffix)
    pattern = re.compile(rf"{stem}( ?\(\d+\))?{suffix}")
    yield from (path for path in folder.iterdir() if pattern.fullmatch(path.name))


def runs_of_picks(text: str, image_ids: Collection[str], runs_dir: str) -> list[str]:
    """Return the run folders that a file of picks is about.

    They are the ones that the file names, where they are or where `runs_dir` has them now; else
    those below `runs_dir` that hold the images. Raises ReportError if there is none.
    """
    from promptlab.store import list_runs, read_run

    roots: list[str] = []
    named = _named_runs(text)
    folders = list_runs(runs_dir)
    for root, run_id in named:
        places = [root, *folders] if root else folders
        roots += [place for place in places if run_id and _run_id(place) == run_id][:1]
    if roots:
        return list(dict.fromkeys(roots))
    for folder in folders:
        held = set(read_run(folder).table(["image_id"])["image_id"].to_pylist())
        if not held.isdisjoint(image_ids):
            roots.append(folder)
    if not roots:
        raise ReportError(
            f"None of the {len(image_ids)} picked images is in a run below {runs_dir}: name the "
            "run that the contact sheet shows (promptlab pick --import picks.json RUN)."
        )
    return roots


def _named_runs(text: str) -> list[tuple[str, str]]:
    """Return (folder, run_id) of the runs that a file names; old files name none."""
    runs = json.loads(text.removeprefix("\ufeff")).get("runs")
    if not isinstance(runs, list):
        return []
    return [
        (str(run.get("root") or ""), str(run.get("run_id") or ""))
        for run in runs
        if isinstance(run, dict)
    ]


def _run_id(root: str) -> str:
    from promptlab.store import read_run

    try:
        run = read_run(root)
    except (OSError, StoreError):
        return ""
    return run.record.run_id or run.paths.name
