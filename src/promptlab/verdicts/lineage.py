"""Picks as input: which cells of an earlier run were picked, and which new cells descend from them.

Takes plans and picked image_ids, returns plans. Does not know Hydra, files or how images are
picked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from promptlab.configs.settings import Job
from promptlab.errors import ConfigError
from promptlab.planning.expand import narrow
from promptlab.planning.plan import Plan
from promptlab.records import Cell, Scalar


@dataclass(frozen=True, slots=True)
class Parent:
    """A picked cell: the job that asked for it, where it stands in that job, its picked images."""

    overrides: tuple[str, ...]  # of its job
    coordinates: Mapping[str, Scalar]
    image_ids: tuple[str, ...]
    seeds: tuple[int, ...] = ()  # that the run has drawn of it


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a sweep from picks descends from."""

    parents: tuple[Parent, ...]
    changed_keys: frozenset[str]  # override keys that this command sets anew

    @property
    def bases(self) -> tuple[tuple[str, ...], ...]:
        """The distinct jobs of the parents, in the order of the picks."""
        return tuple(dict.fromkeys(parent.overrides for parent in self.parents))


def find_parents(
    plan: Plan,
    jobs: Sequence[Job],
    picked: Sequence[tuple[str, str]],
    seeds: Mapping[str, Sequence[int]],
    run_folder: str,
) -> tuple[Parent, ...]:
    """Return the picked cells of a run.

    `picked` holds (cell_id, image_id) as they were picked, `seeds` those that the run has drawn
    of each cell.
    """
    image_ids: dict[str, list[str]] = {}
    for cell_id, image_id in picked:
        image_ids.setdefault(cell_id, []).append(image_id)
    cells = {cell.cell_id: cell for cell in plan.cells}
    missing = [cell_id for cell_id in image_ids if cell_id not in cells]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(image_ids)} picked cells of {run_folder} cannot be found "
            "again: its configs or its model's weights have changed since. `promptlab show "
            "IMAGE_ID` prints the command that draws one of them."
        )
    overrides = {job.number: job.overrides for job in jobs}
    return tuple(
        Parent(
            overrides[cells[cell_id].job_id],
            coordinates(cells[cell_id]),
            tuple(ids),
            tuple(seeds.get(cell_id, ())),
        )
        for cell_id, ids in image_ids.items()
    )


def coordinates(cell: Cell) -> dict[str, Scalar]:
    """Return where a cell stands: its value on every axis but the seed."""
    named = {"subject": cell.subject, "style": cell.style, "template": cell.template}
    return {**named, "model": cell.model, **cell.axes}


def keep_descendants(plan: Plan, jobs: Sequence[Job], lineage: Lineage) -> Plan:
    """Return the plan with only the cells that descend from a picked one, each knowing it.

    The jobs of the parents are drawn again with new overrides; a job may hold more cells than the
    picked ones (alternatives in its prompt), so keys that are not overridden have to agree. Jobs
    of several parents that differ in changed keys alone make one cell: it descends from all of
    them. A new number of seeds of the same cell means fresh ones: those after the last that its run
    has drawn.
    """
    changed = lineage.changed_keys
    asked = {job.number: _unchanged(job.overrides, changed) for job in jobs}
    wants_fresh = {
        job.number
        for job in jobs
        if "seeds" in changed and isinstance(job.config.get("seeds"), int)
    }
    kept = []
    for cell in plan.cells:
        parents = [
            parent
            for parent in lineage.parents
            if asked[cell.job_id] == _unchanged(parent.overrides, changed)
            and _agree(coordinates(cell), parent.coordinates, changed)
        ]
        if parents:
            ids = dict.fromkeys(image_id for parent in parents for image_id in parent.image_ids)
            if cell.job_id in wants_fresh:
                cell = replace(cell, seeds=_fresh_seeds(plan, cell, parents))
            kept.append(replace(cell, parent_ids=tuple(ids)))
    if not kept:
        raise ConfigError(
            "No cell descends from a picked one: the overrides leave nothing of them."
        )
    return narrow(plan, jobs, tuple(kept))


def _fresh_seeds(plan: Plan, cell: Cell, parents: Sequence[Parent]) -> tuple[int, ...]:
    """Return as many seeds as the cell has, after the last one that its parents have drawn of it.

    A parent is the same cell if it drew the same images; a changed cell keeps its seeds.
    """
    same = [
        parent
        for parent in parents
        if any(plan.request(cell, seed).image_id in parent.image_ids for seed in parent.seeds)
    ]
    if not same:
        return cell.seeds
    first = 1 + max(seed for parent in same for seed in parent.seeds)
    return tuple(range(first, first + len(cell.seeds)))


def _unchanged(overrides: Sequence[str], changed_keys: Collection[str]) -> list[str]:
    return [o for o in overrides if o.lstrip("+~").partition("=")[0] not in changed_keys]


def _agree(
    ours: Mapping[str, Scalar], theirs: Mapping[str, Scalar], changed_keys: Collection[str]
) -> bool:
    keys = (ours.keys() & theirs.keys()) - set(changed_keys)
    return all(ours[key] == theirs[key] for key in keys)
