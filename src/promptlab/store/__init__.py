"""The store: takes finished images, gives run folders of PNG files and Parquet and reads them.

The record of truth: knows no model, no page and no MLflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.exports import load_lazily

if TYPE_CHECKING:
    from promptlab.store.index import Counts
    from promptlab.store.reader import Run, read_run
    from promptlab.store.runs import find_image, list_runs, newest_run
    from promptlab.store.todo import StoreOptions, Survey, survey
    from promptlab.store.writer import Store, open_store

__all__ = [
    "Counts",
    "Run",
    "Store",
    "StoreOptions",
    "Survey",
    "find_image",
    "list_runs",
    "newest_run",
    "open_store",
    "read_run",
    "survey",
]

__getattr__ = load_lazily(
    __name__,
    {
        "Counts": "index",
        "Run": "reader",
        "Store": "writer",
        "StoreOptions": "todo",
        "Survey": "todo",
        "find_image": "runs",
        "list_runs": "runs",
        "newest_run": "runs",
        "open_store": "writer",
        "read_run": "reader",
        "survey": "todo",
    },
)
