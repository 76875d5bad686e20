"""The store: run folders of PNG files and Parquet, the record of truth.

The names here are the store's whole API; each is loaded when first used, so that a verb which
only reads does not wait for what writing needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptlab.store.index import Counts
    from promptlab.store.reader import Run, find_image, list_runs, newest_run, read_run
    from promptlab.store.todo import StoreOptions, Survey, survey
    from promptlab.store.writer import Store, open_store

_MODULE_FROM_NAME = {
    "Counts": "index",
    "Run": "reader",
    "Store": "writer",
    "StoreOptions": "todo",
    "Survey": "todo",
    "find_image": "reader",
    "list_runs": "reader",
    "newest_run": "reader",
    "open_store": "writer",
    "read_run": "reader",
    "survey": "todo",
}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULE_FROM_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULE_FROM_NAME[name]}")
    return getattr(module, name)
