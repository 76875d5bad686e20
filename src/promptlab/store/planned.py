"""What the store takes from a plan: columns of rows, labels of PNG files, the record of its models.

Takes plans, cells and requests; returns the plain records that the writer puts on disk. Knows no
file, no index and no thread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from promptlab.identity import canonical_json
from promptlab.planning.plan import Plan, PlannedModel
from promptlab.records import Cell, CellColumns, Request, Scalar
from promptlab.run_record import ModelRecord, RunRecord
from promptlab.store.png import Label
from promptlab.version import __version__


def cell_columns(plan: Plan, cell: Cell, seed: int) -> CellColumns:
    """Return the columns of a row that come from its cell and seed."""
    return CellColumns(
        cell_id=cell.cell_id,
        sweep=plan.sweep,
        job_id=cell.job_id,
        subject=cell.subject,
        style=cell.style,
        template=cell.template,
        prompt=cell.prompt,
        seed=seed,
        model=cell.model,
        model_fingerprint=plan.models[cell.model_key].model.fingerprint,
        arm_id=cell.arm_id,
        axes=cell.axes,
        params=canonical_json(dict(cell.params)),
        parent_ids=cell.parent_ids,
    )


def make_label(plan: Plan, cell: Cell, request: Request) -> Label:
    """Return what the PNG of a cell's image says: nothing that differs when drawn again."""
    planned = plan.models[cell.model_key]
    facts = {
        "promptlab_version": __version__,
        "image_id": request.image_id,
        "prompt": request.prompt,
        "seed": request.seed,
        "params": dict(request.params),
        "model": planned.model.name,
        "model_fingerprint": planned.model.fingerprint,
        "dtype": planned.numerics.dtype,
        "subject": cell.subject,
        "style": cell.style,
        "template": cell.template,
        "axes": dict(cell.axes),
    }
    if request.source is not None:
        facts["source_id"] = request.source.image_id
        facts["source_sha256"] = request.source.sha256
        facts["is_source_repeatable"] = request.source.is_repeatable
    return Label(facts, planned.model.a1111(request.params))


def axis_values(cells: Iterable[Cell]) -> dict[str, dict[Scalar, None]]:
    """Return the distinct values of every further axis, in order of appearance."""
    values: defaultdict[str, dict[Scalar, None]] = defaultdict(dict)
    for cell in cells:
        for name, value in cell.axes.items():
            values[name][value] = None
    return values


def join_cells(
    known: Sequence[Cell], asked: Sequence[Cell]
) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """Return all cells, each once with all its seeds, and those asked for with new seeds alone."""
    joined = {cell.cell_id: cell for cell in known}
    new = []
    for cell in asked:
        old = joined.get(cell.cell_id)
        seeds = dict.fromkeys([*(old.seeds if old else ()), *cell.seeds])
        added = tuple(seeds)[len(old.seeds) if old else 0 :]
        joined[cell.cell_id] = replace(old or cell, seeds=tuple(seeds))
        if added:
            new.append(replace(cell, seeds=added))
    return tuple(joined.values()), tuple(new)


def describe_plan(plan: Plan, record: RunRecord) -> RunRecord:
    """Return the record with what the plan says."""
    return replace(
        record,
        sweep=plan.sweep,
        sweep_id=plan.sweep_id,
        num_cells=len(plan.cells),
        num_images=plan.num_images,
        axes={axis.name: axis.values for axis in plan.axes},
        models={key: describe_model(planned) for key, planned in plan.models.items()},
    )


def describe_model(planned: PlannedModel) -> ModelRecord:
    """Return what sweep.yaml says of a model."""
    return ModelRecord(
        option=planned.option,
        name=planned.model.name,
        fingerprint=planned.model.fingerprint,
        dtype=planned.numerics.dtype,
        device=planned.numerics.device,
        image_size=tuple(planned.model.image_size),
        is_deterministic=planned.model.is_deterministic,
        needs_source=planned.model.needs_source,
        padded_batch=planned.numerics.padded_batch,
        defaults={name: p.default for name, p in planned.model.parameters.items()},
    )
