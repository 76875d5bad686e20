"""From composed jobs to the plan: every cell with its prompt, parameters and ids.

Takes jobs as plain values, returns a Plan. Refuses here, before any weights are loaded, what
could not be drawn: unknown keys, unfilled slots, parameters out of range, empty prompts, too many
images. Does not know Hydra.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from promptlab.configs.settings import OWN_COLUMN_KEYS, Job, Settings
from promptlab.errors import ConfigError, PlanTooLargeError
from promptlab.identity import hash_id
from promptlab.models.protocol import Model
from promptlab.models.registry import open_model
from promptlab.planning.carried import Carried, carried_columns
from promptlab.planning.frames import Frame, Models, Parents, make_frame
from promptlab.planning.language import Grid, GridCount, Point, format_count
from promptlab.planning.parents import Parent, cell_of_parent
from promptlab.planning.plan import Plan, PlannedModel, axes_of_cells, sweep_id_of
from promptlab.planning.prompts import RESERVED_NAMES, check_prompt, check_text, read_grid
from promptlab.records import Cell, Numerics, Scalar

log = logging.getLogger(__name__)


def expand(
    jobs: Sequence[Job],
    settings: Settings,
    open_model: Callable[[Mapping[str, Any] | None], Model] = open_model,
    recorded_samples: Mapping[str, Sequence[str]] | None = None,
    find_parent: Callable[[str], Parent] | None = None,
    describe: Callable[[Mapping[str, Any] | None], Numerics] | None = None,
) -> Plan:
    """Return the plan of a sweep; jobs that differ in their seeds alone share their cells.

    `recorded_samples` are the values that a resumed run chose when it began; `find_parent` returns
    the image with an image_id, for cells that are drawn from one. `describe` returns the
    numerics of whoever will draw with a model's config: ids count them. Without it, that is this
    process.
    """
    check_text(settings.name, "name")
    models = Models(open_model, describe)
    parents = Parents(find_parent)
    frames = [make_frame(job, models, parents) for job in jobs]
    grid = read_grid(
        jobs,
        [frame.planned.model for frame in frames],
        [frame.fixed for frame in frames],
        [frame.parents_prompt for frame in frames],
        recorded_samples,
    )
    count = grid.count()
    check_size(frames, grid, count, settings.limit)
    parameters = {name for frame in frames for name in frame.planned.model.parameters}
    further = _further_axes(jobs, grid)
    if all(frame.planned.model.needs_source for frame in frames):  # each stands at its parent's
        further = tuple(name for name in further if name != "parent")
    carried = carried_columns(jobs, {*RESERVED_NAMES, "subject", *parameters, *further})
    cells: dict[str, Cell] = {}
    of_subject: set[str] = set()
    of_others: set[str] = set()
    for point in grid.points():
        of_subject |= point.subject_parts
        of_others |= point.coordinates.keys() - point.subject_parts
        cell = _cell(frames[point.job_index], point, further, carried)
        known = cells.get(cell.cell_id)
        if known is not None:
            cell = replace(known, seeds=tuple(dict.fromkeys(known.seeds + cell.seeds)))
        cells[cell.cell_id] = cell
    for warning in count.warnings:
        log.warning("%s", warning)
    plan = _make_plan(jobs, settings, tuple(cells.values()), models.opened, grid, count)
    parts = (name for name in further if name in of_subject and name not in of_others)
    return replace(plan, subject_axes=(*parts, *carried.of_subject))


def check_size(frames: Sequence[Frame], grid: Grid, count: GridCount, limit: int) -> None:
    """Refuse a plan that is too large or empty, by its counts alone: nothing is built."""
    num_cells = count.num_points
    num_images = sum(n * len(f.seeds) for f, n in zip(frames, count.per_job, strict=True))
    if num_images > limit:
        num_cells, num_images = _count_folded(frames, count)
    if num_cells == 0:
        raise ConfigError(
            "Nothing is left to draw: zip, sample and the rules leave out all "
            f"{format_count(count.num_removed)} combinations. {_describe_removed(count)}"
        )
    if num_images > limit:
        axes = ", ".join(f"{n} {format_count(c)}" for n, c in grid.axis_counts().items() if c > 1)
        raise PlanTooLargeError(
            f"The sweep holds {format_count(num_images)} images ({format_count(num_cells)} "
            f"{'cell' if num_cells == 1 else 'cells'}"
            f"{f'; in the prompts: {axes}' if axes else ''}), more than its limit of {limit:,}. "
            + (f"To draw them all add limit={num_images}; " if num_images < 10**9 else "")
            + "to draw fewer use sample, only or exclude."
        )


def _count_folded(frames: Sequence[Frame], count: GridCount) -> tuple[int, int]:
    """Count cells and images; jobs that differ in their seeds alone share their cells."""
    seeds: dict[str, set[int]] = {}
    num_points: dict[str, int] = {}
    for frame, number in zip(frames, count.per_job, strict=True):
        seeds.setdefault(frame.content, set()).update(frame.seeds)
        num_points[frame.content] = number
    num_images = sum(number * len(seeds[content]) for content, number in num_points.items())
    return sum(num_points.values()), num_images


def _make_plan(
    jobs: Sequence[Job],
    settings: Settings,
    cells: tuple[Cell, ...],
    models: Mapping[str, PlannedModel],
    grid: Grid,
    count: GridCount,
) -> Plan:
    return Plan(
        sweep=settings.name,
        sweep_id=sweep_id_of(settings.name, cells),
        axes=axes_of_cells(cells, jobs[0].values),
        cells=cells,
        models={key: models[key] for key in dict.fromkeys(cell.model_key for cell in cells)},
        samples=grid.samples,
        notes=_notes(grid, count, len(cells)),
    )


def check_limit(plan: Plan, limit: int) -> None:
    """Refuse a plan that holds more images than its limit."""
    if plan.num_images > limit:
        raise PlanTooLargeError(
            f"The sweep holds {plan.num_images:,} images ({_cells(len(plan.cells))}), more than "
            f"its limit of {limit:,}. To draw them all add limit={plan.num_images}."
        )


def narrow(plan: Plan, jobs: Sequence[Job], cells: tuple[Cell, ...]) -> Plan:
    """Return the plan with other cells of the same jobs and models: fewer, or with lineage."""
    keys = dict.fromkeys(cell.model_key for cell in cells)
    return replace(
        plan,
        sweep_id=sweep_id_of(plan.sweep, cells),
        axes=axes_of_cells(cells, jobs[0].values),
        cells=cells,
        models={key: plan.models[key] for key in keys},
    )


def _notes(grid: Grid, count: GridCount, num_cells: int) -> tuple[str, ...]:
    """Return notes on samples, links and rules: which values and cells they leave."""
    notes = [f"sample: {len(values):,} values of {axis}" for axis, values in grid.samples.items()]
    notes += [f"zip: {', '.join(axes)} side by side" for axes in grid.options.zips]
    notes += [f"{rule}: {_cells(number)} left out" for rule, number in count.removed.items()]
    if count.num_points > num_cells:
        repeats = count.num_points - num_cells
        noun = "duplicate cell" if repeats == 1 else "duplicate cells"
        notes.append(f"{repeats:,} {noun} (same prompt and parameters); each is drawn once")
    return tuple(notes)


def _cells(number: int) -> str:
    return f"{number:,} cell" if number == 1 else f"{number:,} cells"


def _describe_removed(count: GridCount) -> str:
    return " ".join(f"{rule}: {number:,}." for rule, number in count.removed.items())


def varying_keys(jobs: Sequence[Job]) -> set[str]:
    """Return the override keys that have more than one value over the jobs."""
    seen: dict[str, Any] = {}
    varying: set[str] = set()
    for job in jobs:
        for key, value in job.values.items():
            if key not in varying and seen.setdefault(key, value) != value:
                varying.add(key)
    return varying


def _further_axes(jobs: Sequence[Job], grid: Grid) -> tuple[str, ...]:
    """Return the columns of further axes: keys that vary and the prompts' own axes, in order."""
    varying = varying_keys(jobs)
    keys = dict.fromkeys(key for job in jobs for key in job.values if key in varying)
    config = jobs[0].config
    for name, number in grid.axis_counts().items():
        # A slot with one value everywhere is no axis; an axis that a prompt itself spans always is.
        if number > 1 or name not in config:
            keys[name] = None
    return tuple(key for key in keys if key not in OWN_COLUMN_KEYS)


def _cell(frame: Frame, point: Point, further_axes: Sequence[str], carried: Carried) -> Cell:
    job, model = frame.job, frame.planned.model
    where = f"job {job.number}: {' '.join(job.overrides) or 'no overrides'}"
    check_prompt(point.prompt, where)
    subject = point.coordinates.get("subject")
    if subject is None:  # a template that shows no subject
        subject = str(job.config.get("subject") or "")
    if frame.parent is not None and not frame.has_own_words:
        asked = {**frame.others, **frame.params.asked}
        return cell_of_parent(
            frame.parent,
            frame.planned,
            frame.model_key,
            frame.params.acting,
            job_id=job.number,
            seeds=frame.seeds,
            axes={name: asked.get(name) for name in further_axes},
        )
    slots = {
        name: text
        for name, text in point.coordinates.items()
        if name != "subject" and name not in point.subject_parts
    }
    axes: dict[str, Scalar] = {}
    for name in further_axes:
        value = frame.params.asked.get(name, frame.others.get(name))
        axes[name] = point.coordinates.get(name, value)
    beside = carried.beside(point.coordinates)
    axes.update((name, beside.get(name)) for name in carried.names)
    numerics, without_effect = frame.planned.numerics, frame.params.without_effect
    batch = [] if numerics.padded_batch is None else [numerics.padded_batch]
    arm = {
        **({"asked": without_effect} if without_effect else {}),
        "style": frame.style,
        "template": frame.template,
        "model": [model.name, model.fingerprint, numerics.dtype, *batch],
        "params": frame.params.counting,
        "slots": slots,
        "axes": {k: v for k, v in axes.items() if k in frame.others and k not in point.coordinates},
    }
    for text in (subject, frame.style, frame.template, model.name, *map(str, axes.values())):
        check_text(text, where)
    source = None if frame.parent is None else frame.parent.source
    drawn_from = {} if source is None else {"source": source.sha256}
    return Cell(
        cell_id=hash_id({**arm, **drawn_from, "subject": subject, "prompt": point.prompt}),
        arm_id=hash_id(arm),
        job_id=job.number,
        subject=subject,
        style=frame.style,
        template=frame.template,
        prompt=point.prompt,
        model=model.name,
        model_key=frame.model_key,
        params=frame.params.acting,
        axes=axes,
        seeds=frame.seeds,
        source=source,
    )
