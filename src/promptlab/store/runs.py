"""The run folders below a folder: by age, the newest with images, the one that holds an image.

Takes the folder's path or URL; returns run folders, a run and a row. Reads nothing of a run but
through the reader, and writes nothing.
"""

from __future__ import annotations

from typing import Any

from promptlab.errors import StoreError
from promptlab.paths import RunPaths
from promptlab.store.reader import Run, read_run
from promptlab.store.storage import open_storage


def list_runs(runs_dir: str = "runs") -> list[str]:
    """Return the run folders below a folder, the one written last first."""
    storage = open_storage(runs_dir)
    runs_dir = runs_dir.rstrip("/")
    aged = []
    for name in storage.list_folders(runs_dir):
        paths = RunPaths(f"{runs_dir}/{name}")
        modified_at = storage.modified_at(paths.sweep_yaml)
        if modified_at is not None:
            aged.append((modified_at, name, paths.root))
    return [root for _, _, root in sorted(aged, reverse=True)]


def newest_run(runs_dir: str = "runs") -> str:
    """Return the run folder with images that was written last; StoreError if there is none.

    A run whose model could not be loaded holds none.
    """
    storage = open_storage(runs_dir)
    for root in list_runs(runs_dir):
        if storage.list_sizes(RunPaths(root).images_parquet):
            return root
    raise StoreError(
        f"There is no run with images in {runs_dir}. Make one (promptlab sweep …) or name a run "
        "folder."
    )


def find_image(image_id: str, runs_dir: str = "runs") -> tuple[Run, dict[str, Any]]:
    """Return the newest run that holds an image, and its row; the id may be shortened.

    Raises StoreError if no run holds it, or if several images begin so.
    """
    found: dict[str, tuple[Run, dict[str, Any]]] = {}
    for root in list_runs(runs_dir):
        run = read_run(root)
        ids = run.table(["image_id"])["image_id"].to_pylist()
        matches = {other for other in ids if other.startswith(image_id)} - found.keys()
        for match in matches if image_id else ():
            row = ids.index(match)
            found[match] = (run, run.table().slice(row, 1).to_pylist()[0])
        if image_id in found:
            return found[image_id]
    if not found:
        raise StoreError(
            f"No run below {runs_dir} holds an image {image_id!r}. Expected an image_id of 16 hex "
            "digits, or its beginning, as in the PNG's file name."
        )
    if len(found) > 1:
        raise StoreError(
            f"{image_id!r} is the beginning of {len(found):,} images' ids: "
            f"{', '.join(sorted(found)[:5])}{', …' if len(found) > 5 else ''}. Add digits."
        )
    return next(iter(found.values()))
