"""Enlarged images on a sheet: each stands in the place of the image that it enlarges.

Takes rows of runs, tells rows of their own from those that are another row's picture enlarged.
Knows no pixels and no page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptlab.store import Run

Row = Mapping[str, Any]
Key = tuple[str, str | None]  # image_id, sha256 of its pixels


def key_of(row: Row) -> Key:
    """Return what two rows of one image share."""
    return row["image_id"], row["sha256"]


def set_apart_enlarged(
    runs: Sequence[Run], tables: Sequence[Sequence[Row]]
) -> tuple[list[list[Row]], list[tuple[int, Row]]]:
    """Return each run's own rows, and (run number, row) of what stands in the place of a parent.

    An image whose parent is not on the sheet has its own place, and so has each further enlargement
    of the same parent: upscalers can be compared.
    """
    shown = {key_of(row) for table in tables for row in table if row["sha256"] is not None}
    upscalers = {
        model.fingerprint
        for run in runs
        for model in run.record.models.values()
        if model.needs_source
    }
    own: list[list[Row]] = []
    enlarged: dict[Key, tuple[int, Row]] = {}
    for number, table in enumerate(tables):
        own.append([])
        for row in table:
            parent = (row["source_id"] or "", row["source_sha256"])
            is_enlarged = row["model_fingerprint"] in upscalers and row["sha256"] is not None
            known = enlarged.get(parent)
            if is_enlarged and parent in shown and known in (None, (number, row)):
                enlarged[parent] = number, row
            elif known is None or key_of(known[1]) != key_of(row):
                own[-1].append(row)
    return own, list(enlarged.values())
