"""Relatives: images of other runs that the sheet's images descend from, and that descend from them.

Takes SheetData and the sheet's runs, returns links to the pictures and pages of other runs. Looks
beside the first run only; what is not there stays an id.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptlab.report.data import SheetData
    from promptlab.store import Run

COLUMNS = ("image_id", "path", "source_id", "parent_ids")


@dataclass(frozen=True)
class Relatives:
    """Images of other runs."""

    # image_id -> {"run", "page", "image"}: URLs as the page sees them
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # image_id on the sheet -> image_ids of its descendants
    offspring: Mapping[str, Sequence[str]] = field(default_factory=dict)


def find_relatives(data: SheetData, runs: Sequence[Run], output: Path) -> Relatives:
    """Return the parents and the descendants of a sheet's images that other runs hold."""
    root = runs[0].paths.root
    if "://" in root:
        return Relatives()
    from promptlab.store import list_runs, read_run

    here = set(data.image_ids)
    wanted = {i for ids in data.parents.values() for i in ids} - here
    shown = {os.path.abspath(run.paths.root) for run in runs}
    links: dict[str, Mapping[str, str]] = {}
    offspring: dict[str, dict[str, None]] = {}
    for folder in list_runs(os.path.dirname(os.path.abspath(root))):
        if os.path.abspath(folder) in shown:
            continue
        for row in read_run(folder).rows(columns=COLUMNS):
            image_id, path = row["image_id"], row["path"]
            if not path or image_id in here:
                continue
            parents = here.intersection([row["source_id"], *(row["parent_ids"] or ())])
            for parent in parents:
                offspring.setdefault(parent, {})[image_id] = None
            if (parents or image_id in wanted) and image_id not in links:
                links[image_id] = {
                    "run": Path(folder).name,
                    "page": f"{_url(output, folder, 'index.html')}#at={image_id}",
                    "image": _url(output, folder, path),
                }
    return Relatives(links, {parent: list(ids) for parent, ids in offspring.items()})


def _url(output: Path, folder: str, path: str) -> str:
    relative = os.path.relpath(Path(folder, path).resolve(), output.resolve())
    return urllib.parse.quote(Path(relative).as_posix())
