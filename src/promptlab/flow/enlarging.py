"""Enlarging the images of a sweep as they are drawn: a second pass over the run's own rows.

Takes the sweep's settings and the rows of its plan, returns the plan of the second pass: one image
for each that was drawn, in its parent's words. Draws and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from promptlab.configs.settings import Settings
from promptlab.configs.vocabulary import find_options, read_option
from promptlab.errors import ConfigError
from promptlab.flow.sources import Sources, parent_of_row
from promptlab.flow.summary import count
from promptlab.models.protocol import Model, normalize_params
from promptlab.planning.parents import cell_of_parent
from promptlab.planning.plan import Plan, PlannedModel
from promptlab.records import Cell, Numerics, Scalar
from promptlab.store import Run


@dataclass(frozen=True)
class Enlarging:
    """The upscaler of a sweep and its parameters."""

    planned: PlannedModel
    params: Mapping[str, Scalar]
    per_cell: int | None = None  # images of a cell, the first that were drawn; None: all

    def count(self, plan: Plan) -> int:
        """Return how many images of a plan it enlarges at most."""
        most = self.per_cell or plan.num_images
        return sum(min(most, len(cell.seeds)) for cell in plan.cells)

    def describe(self, num_images: int) -> str:
        """Return in words what it will do with some images."""
        which = {None: "", 1: ", the first of each cell"}.get(
            self.per_cell, f", the first {self.per_cell} of each cell"
        )
        by = f"{self.params['scale']}× by {self.planned.model.name}"
        return f"{count(num_images, 'image')} to enlarge {by}{which}"


def open_upscaler(
    settings: Settings,
    open_model: Callable[[Mapping[str, Any] | None], Model],
    describe: Callable[[Mapping[str, Any] | None], Numerics] | None = None,
) -> Enlarging | None:
    """Return the upscaler that `upscale=` names, None without one; ConfigError if it is none."""
    asked = settings.upscale
    if asked is None:
        return None
    options = find_options("model")
    content = read_option(options[asked.model]) if asked.model in options else {}
    node = content.get("model")
    model = open_model(node) if isinstance(node, Mapping) else None
    planned = None
    if model is not None:
        numerics = None if describe is None else describe(node)
        planned = PlannedModel.of(model, asked.model, node, numerics)
    if planned is None or not planned.model.needs_source:
        raise ConfigError(
            f"upscale={asked.model}: expected the name of an upscaler, such as animevideov3 or "
            "lanczos. `promptlab models` lists them."
        )
    params = normalize_params(planned.model.name, planned.model.parameters, asked.params)
    return Enlarging(planned, params, asked.per_cell)


def enlarged(plan: Plan, run: Run, sources: Sources, enlarging: Enlarging) -> Plan:
    """Return the plan of the enlarged images of all that a plan has drawn."""
    planned = enlarging.planned
    key = planned.model.name
    if key in plan.models and plan.models[key].node != planned.node:
        key = f"{key}-upscale"
    rows = {(row["cell_id"], row["seed"]): row for row in run.rows() if row["sha256"] is not None}
    cells: list[Cell] = []
    parents = []
    for cell in plan.cells:
        drawn = [row for seed in cell.seeds if (row := rows.get((cell.cell_id, seed)))]
        for row in drawn[: enlarging.per_cell]:
            parent = parent_of_row(run, row)
            parents.append(parent)
            cells.append(
                cell_of_parent(parent, planned, key, enlarging.params, job_id=row["job_id"])
            )
    sources.hold(run, parents)
    return Plan(plan.sweep, plan.sweep_id, plan.axes, tuple(cells), {key: planned})
