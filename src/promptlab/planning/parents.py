"""Cells that take their words from the image that they are drawn from.

Takes the row of a parent, returns the cell of an image drawn from it: an enlarged image stands
where its parent stands, and a variation without words of its own has the parent's. Knows no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptlab.identity import hash_id
from promptlab.planning.plan import PlannedModel
from promptlab.records import Cell, Scalar, Source


@dataclass(frozen=True, slots=True)
class Parent:
    """An image of an earlier run, to draw from."""

    source: Source
    row: Mapping[str, Any]  # of images.parquet
    axes: Mapping[str, Scalar]  # its values of its run's further axes


def cell_of_parent(
    parent: Parent,
    planned: PlannedModel,
    model_key: str,
    params: Mapping[str, Scalar],
    *,
    job_id: int = 0,
    seeds: tuple[int, ...] = (),
    axes: Mapping[str, Scalar] | None = None,
) -> Cell:
    """Return the cell of images drawn from a parent, in its words.

    `seeds` are for models that sample; of a model that needs a source, the seed changes nothing,
    and the image keeps its parent's. `axes` are the cell's own further axes.
    """
    model, numerics, row = planned.model, planned.numerics, parent.row
    own_axes = axes or {}
    batch = [] if numerics.padded_batch is None else [numerics.padded_batch]
    arm = {
        "parent_arm": row["arm_id"],
        "model": [model.name, model.fingerprint, numerics.dtype, *batch],
        "params": dict(params),
        "axes": dict(own_axes),
    }
    return Cell(
        cell_id=hash_id({**arm, "parent_cell": row["cell_id"], "source": parent.source.sha256}),
        arm_id=hash_id(arm),
        job_id=job_id,
        subject=row["subject"],
        style=row["style"],
        template=row["template"],
        prompt=row["prompt"],
        model=model.name,
        model_key=model_key,
        params=params,
        axes={**parent.axes, **own_axes},
        seeds=(row["seed"],) if model.needs_source else seeds,
        source=parent.source,
    )
