"""Images that earlier runs hold: found by image_id, read with their bytes.

Takes image_ids and run folders; says where each image lies and yields it. Knows no plan and
writes nothing. An image_id stands for everything that determines the image, so whatever run
holds it, it is the same image.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from promptlab.errors import StoreError
from promptlab.paths import RunPaths
from promptlab.records import FACT_COLUMNS, ImageFacts
from promptlab.store.parts import Part, is_corruption, iter_row_groups, list_parts, read_part
from promptlab.store.schema import facts_from_columns
from promptlab.store.storage import Storage, open_storage

log = logging.getLogger(__name__)

_COLUMNS = ("image_id", *FACT_COLUMNS, "parent_ids", "image")


@dataclass(frozen=True, slots=True)
class FoundPart:
    """A part of some run that holds wanted images."""

    storage: Storage
    paths: RunPaths
    part: Part
    image_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image of an earlier run: its facts, its PNG, and the picks that it descends from."""

    image_id: str
    facts: ImageFacts
    png: bytes
    parent_ids: tuple[str, ...]


def find_images(image_ids: Iterable[str], run_folders: Iterable[str]) -> list[FoundPart]:
    """Return the parts that hold finished images among the wanted, each image once."""
    open_ids = set(image_ids)
    found: list[FoundPart] = []
    for folder in run_folders:
        if not open_ids:
            break
        paths = RunPaths(folder)
        storage = open_storage(folder)
        try:
            parts = list_parts(storage, paths.images_parquet).parts
        except (OSError, StoreError) as error:
            log.warning("Cannot look for earlier images in %s: %s", folder, error)
            continue
        for part in parts:
            here = _finished_ids(storage, part) & open_ids
            if here:
                open_ids -= here
                found.append(FoundPart(storage, paths, part, frozenset(here)))
    return found


def _finished_ids(storage: Storage, part: Part) -> set[str]:
    try:
        table = read_part(storage, part, (), ["image_id", "status"])
    except (pa.ArrowException, OSError, ValueError) as error:
        if is_corruption(error) or isinstance(error, FileNotFoundError):
            return set()
        raise
    pairs = zip(table["image_id"].to_pylist(), table["status"].to_pylist(), strict=True)
    return {image_id for image_id, status in pairs if status != "failed"}


def read_images(found: FoundPart) -> Iterator[FoundImage]:
    """Yield the wanted images of a part, row group by row group.

    An image is left out if its bytes are neither in Parquet nor in a PNG file.
    """
    open_ids = set(found.image_ids)
    try:
        groups = iter_row_groups(found.storage, found.part, (), _COLUMNS)
        for group in groups:
            for row, image_id in enumerate(group["image_id"].to_pylist()):
                if image_id not in open_ids:
                    continue
                columns = group.slice(row, 1).to_pylist()[0]
                png = _png_of(found, columns["image"])
                if png is not None:  # else it failed, or its file is gone
                    open_ids.discard(image_id)
                    parent_ids = tuple(columns["parent_ids"] or ())
                    yield FoundImage(image_id, facts_from_columns(columns), png, parent_ids)
            if not open_ids:
                return
    except (pa.ArrowException, OSError, ValueError) as error:
        log.warning("Cannot reuse all images of %s: %s", found.part.path, error)


def _png_of(found: FoundPart, image: Mapping[str, Any] | None) -> bytes | None:
    if image is None or image["bytes"] is not None:
        return None if image is None else image["bytes"]
    try:
        return found.storage.read_bytes(found.paths.join(image["path"]))
    except FileNotFoundError:
        return None
