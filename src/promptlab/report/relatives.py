"""Relatives: images that the sheet's images descend from and that other runs hold.

Takes SheetData and the sheet's runs, returns links to the pictures and pages of other runs. Looks
beside the first run only; what is not there stays an id.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptlab.report.data import SheetData
    from promptlab.store import Run


def find_relatives(data: SheetData, runs: Sequence[Run], output: Path) -> dict[str, dict[str, str]]:
    """Return {image_id: {"run", "page", "image"}} of parents elsewhere; URLs seen from `output`."""
    wanted = {i for ids in data.parents.values() for i in ids} - set(data.image_ids)
    root = runs[0].paths.root
    if not wanted or "://" in root:
        return {}
    from promptlab.store import list_runs, read_run

    found: dict[str, dict[str, str]] = {}
    shown = {os.path.abspath(run.paths.root) for run in runs}
    for folder in list_runs(os.path.dirname(os.path.abspath(root))):
        if len(found) == len(wanted):
            break
        if os.path.abspath(folder) in shown:
            continue
        for row in read_run(folder).rows(columns=["image_id", "path"]):
            if row["image_id"] in wanted - found.keys() and row["path"]:
                found[row["image_id"]] = {
                    "run": Path(folder).name,
                    "page": f"{_url(output, folder, 'index.html')}#at={row['image_id']}",
                    "image": _url(output, folder, row["path"]),
                }
    return found


def _url(output: Path, folder: str, path: str) -> str:
    relative = os.path.relpath(Path(folder, path).resolve(), output.resolve())
    return urllib.parse.quote(Path(relative).as_posix())
