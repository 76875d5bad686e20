"""The plan: which cells a sweep holds, which axes span them, which models draw them.

Plain data and its queries. `expand` makes a plan from configs; the store knows which of its images
exist already. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promptlab import identity
from promptlab.models.complete import complete
from promptlab.models.protocol import CompleteModel, Model
from promptlab.planning.requests import make_request
from promptlab.records import Cell, Numerics, Request, Scalar


@dataclass(frozen=True, slots=True)
class Axis:
    """A config key whose value varies in a sweep, with its values in order of appearance."""

    name: str
    values: tuple[Scalar, ...]


def sweep_id_of(name: str, cells: Iterable[Cell]) -> str:
    """Return the id of a sweep: a hash of its name and of the cells that the command asks for.

    Cells and seeds that a later round adds to the plan do not count, so that the same command
    finds its run.
    """
    content = [
        [cell.cell_id, list(cell.seeds), *([list(cell.parent_ids)] if cell.parent_ids else [])]
        for cell in cells
    ]
    return identity.hash_id({"name": name, "cells": content})


@dataclass(frozen=True)
class PlannedModel:
    """A model of a plan: the config that it is opened from, and how its images are computed."""

    option: str  # of the config group `model`, as in model=OPTION
    node: Mapping[str, Any] | None  # its config, resolved
    model: CompleteModel
    numerics: Numerics  # of the process that draws

    @classmethod
    def of(
        cls,
        model: Model,
        option: str | None = None,
        node: Mapping[str, Any] | None = None,
        numerics: Numerics | None = None,
    ) -> PlannedModel:
        """Return a planned model; without numerics, this process draws with it."""
        completed = complete(model)
        return cls(option or completed.name, node, completed, numerics or completed.describe())


@dataclass(frozen=True)
class Plan:
    """All that one sweep asks for."""

    sweep: str  # the sweep's name: MLflow's experiment
    sweep_id: str  # see sweep_id_of: the same command again has the same id
    axes: tuple[Axis, ...]  # those that vary; "seed" among them when cells hold several
    cells: tuple[Cell, ...]
    models: Mapping[str, PlannedModel]  # by Cell.model_key, in order of first use
    samples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # axis -> values drawn
    subject_axes: tuple[str, ...] = ()  # axes that are parts of the subject: columns, but no arms
    notes: tuple[str, ...] = ()  # what rules, zips and samples left out, for people

    @property
    def num_images(self) -> int:
        """Number of rows that the finished sweep holds."""
        return sum(len(cell.seeds) for cell in self.cells)

    @property
    def has_ids(self) -> bool:
        """Whether ids are known: the fingerprint of a model comes with its download."""
        return all(planned.model.fingerprint for planned in self.models.values())

    def requests(self, model_key: str) -> Iterator[tuple[Cell, Request]]:
        """Yield every (cell, request) of one model, cell by cell, seeds in order."""
        for cell in self.cells:
            if cell.model_key == model_key:
                for seed in cell.seeds:
                    yield cell, self.request(cell, seed)

    def request(self, cell: Cell, seed: int) -> Request:
        """Return the request of one cell and seed."""
        planned = self.models[cell.model_key]
        return make_request(
            planned.model, planned.numerics, cell.prompt, seed, cell.params, cell.source
        )


def axes_of_cells(cells: Sequence[Cell], first: Iterable[str] = ()) -> tuple[Axis, ...]:
    """Return the axes that vary over cells: `first` those named, the seed last."""
    values: dict[str, dict[Scalar, None]] = {name: {} for name in first}
    for cell in cells:
        for name in ("subject", "style", "template", "model"):
            values.setdefault(name, {})[getattr(cell, name)] = None
        for name, value in cell.axes.items():
            values.setdefault(name, {})[value] = None
    axes = [
        Axis(name, tuple(value for value in found if value is not None))
        for name, found in values.items()
        if len(found) > 1  # None counts: a cell whose prompt does not have the axis
    ]
    seeds = dict.fromkeys(seed for cell in cells for seed in cell.seeds)
    if len(seeds) > 1:
        axes.append(Axis("seed", tuple(seeds)))
    return tuple(axes)
