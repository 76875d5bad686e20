"""Enlarged images in MLflow: each belongs to the run of the image that it enlarges.

Takes rows of a run folder, returns them as the layout wants them. Knows no MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from promptlab.run_record import RunRecord
from promptlab.store import Run

ENLARGED = "is_enlarged"  # in a row that was moved to its parent's arm
_OF_THE_PARENT = ("arm_id", "model", "params")

Row = dict[str, Any]


def upscalers_of(record: RunRecord) -> frozenset[str]:
    """Return the models that enlarge what other models of the same sweep have drawn."""
    names = frozenset(model.name for model in record.models.values() if model.needs_source)
    draws = any(not model.needs_source for model in record.models.values())
    return names if draws else frozenset()


class Parents:
    """The images of a run that others enlarge."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._row_from_id: dict[str, Row] = {}

    def adopt(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows, each enlarged one with the arm of its parent; others as they are."""
        upscalers = upscalers_of(self._run.record)
        wanted = {row["source_id"] for row in rows if row["model"] in upscalers}
        if wanted - self._row_from_id.keys():
            found = self._run.rows(["image_id", *_OF_THE_PARENT])
            self._row_from_id = {row["image_id"]: row for row in found}
        return [self._adopted(row) if row["model"] in upscalers else row for row in rows]

    def _adopted(self, row: Row) -> Row:
        parent = self._row_from_id.get(row["source_id"])
        if parent is None:  # it was drawn in another run
            return row
        return {**row, **{name: parent[name] for name in _OF_THE_PARENT}, ENLARGED: True}
