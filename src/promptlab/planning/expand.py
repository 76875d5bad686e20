"""From composed jobs to the plan: every cell with its prompt, parameters and ids.

Takes jobs as plain values, returns a Plan. Refuses here, before any weights are loaded, what
could not be drawn: unknown keys, unfilled slots, parameters out of range, empty prompts, too many
images. Does not know Hydra.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from promptlab.configs.settings import OWN_COLUMN_KEYS, RESERVED_KEYS, SWEEP_KEYS, Job, Settings
from promptlab.errors import ConfigError, PlanTooLargeError
from promptlab.identity import canonical_json, hash_id
from promptlab.models.protocol import CompleteModel, Model, normalize_params
from promptlab.models.registry import open_model
from promptlab.planning.carried import Carried, carried_columns
from promptlab.planning.language import Grid, GridCount, Point, format_count
from promptlab.planning.parents import Parent, cell_of_parent
from promptlab.planning.plan import Plan, PlannedModel, axes_of_cells, sweep_id_of
from promptlab.planning.prompts import RESERVED_NAMES, check_prompt, check_text, read_grid
from promptlab.planning.seeds import parse_seeds
from promptlab.records import Cell, Numerics, Scalar

NO_STYLE = "none"

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
    models = _Models(open_model, describe)
    parents = _Parents(find_parent)
    frames = [_frame(job, models, parents) for job in jobs]
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
    carried = carried_columns(jobs, {*RESERVED_NAMES, *parameters, *further})
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


def check_size(frames: Sequence[_Frame], grid: Grid, count: GridCount, limit: int) -> None:
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


def _count_folded(frames: Sequence[_Frame], count: GridCount) -> tuple[int, int]:
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


@dataclass
class _Models:
    """Opens each distinct model configuration once, and knows the cells' parameters."""

    open_model: Callable[[Mapping[str, Any] | None], Model]
    describe: Callable[[Mapping[str, Any] | None], Numerics] | None = None
    opened: dict[str, PlannedModel] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)
    _last: tuple[Any, str] | None = None
    _params: dict[tuple[Any, ...], _Params] = field(default_factory=dict)

    def key(self, node: Any, option: str | None) -> str:
        """Return the model_key of a config node, opening the model at its first use."""
        if self._last is not None and self._last[0] == node:
            return self._last[1]
        text = canonical_json(node)
        if text not in self._keys:
            numerics = None if self.describe is None else self.describe(node)
            planned = PlannedModel.of(self.open_model(node), option, node, numerics)
            name = planned.model.name
            key = name if name not in self.opened else f"{name}-{hash_id(node)}"
            self.opened[key] = planned
            self._keys[text] = key
        self._last = (node, self._keys[text])
        return self._keys[text]

    def params(self, model_key: str, given: Mapping[str, Any], has_source: bool) -> _Params:
        """Return all sampling parameters in the model's own kinds, defaults filled in.

        Those for a source are left out without one: they would count in ids and change nothing.
        """
        key = (
            model_key,
            has_source,
            *((name, type(value), value) for name, value in given.items()),
        )
        try:
            return self._params[key]
        except KeyError:
            pass
        except TypeError:  # an unhashable value: a list where a number is expected
            key = ()
        model = self.opened[model_key].model
        accepted = dict(model.parameters)
        for name in [n for n, p in accepted.items() if p.is_for_source and not has_source]:
            del accepted[name]
            if given.get(name) is not None:
                raise ConfigError(
                    f"{name}={given[name]}: acts only on an image that is drawn from another one. "
                    f"Add parent=IMAGE_ID, or leave {name} out."
                )
        given = {name: value for name, value in given.items() if name in accepted}
        asked = normalize_params(model.name, accepted, given)
        params = _Params(asked, dict(model.settle(asked)))
        if key:
            self._params[key] = params
        return params


@dataclass
class _Parents:
    """Finds each image that cells are drawn from once."""

    find: Callable[[str], Parent] | None
    _found: dict[str, Parent] = field(default_factory=dict)

    def of_job(self, job: Job, model: CompleteModel) -> Parent | None:
        """Return the image that a job's `parent` names, None without one."""
        parent = job.config.get("parent")
        if parent is None and model.needs_source:
            raise ConfigError(
                f"model={job.choices.get('model')}: it draws from an image, and none is given. Add "
                "parent=IMAGE_ID, or use:  promptlab upscale RUN"
            )
        if parent is None:
            return None
        if not isinstance(parent, str):
            raise ConfigError(
                f"parent={parent!r}: expected an image_id. Hydra reads one of digits as a number: "
                """write it with quotes, parent="'0123456789012345'"."""
            )
        if not model.takes_source:
            raise ConfigError(
                f"parent={parent}: the model {model.name} draws from no image. Choose a model "
                "that does, or leave parent out."
            )
        if self.find is None:
            raise ConfigError(f"parent={parent}: no earlier runs are given to find it in.")
        if parent not in self._found:
            self._found[parent] = self.find(parent)
        return self._found[parent]


@dataclass(frozen=True, eq=False)
class _Params:
    """The sampling parameters of a job."""

    asked: Mapping[str, Scalar]  # what axes and rules go by
    acting: Mapping[str, Scalar]  # what determines the image: one that has no effect is settled

    @property
    def without_effect(self) -> dict[str, Scalar]:
        """The parameters that were asked for and act as others."""
        others = {k: v for k, v in self.asked.items() if self.acting[k] != v}
        return {name: value for name, value in others.items() if value is not None}

    @property
    def counting(self) -> dict[str, Scalar]:
        """The parameters that tell cells apart: all but those whose value the model chose.

        So that a cell stays the same where the machine lets a model choose otherwise.
        """
        return {k: v for k, v in self.acting.items() if v is None or self.asked[k] is not None}


@dataclass(frozen=True, eq=False)
class _Frame:
    """What all cells of one job share."""

    job: Job
    planned: PlannedModel
    model_key: str
    params: _Params
    template: str
    style: str
    seeds: tuple[int, ...]
    others: Mapping[str, Scalar]  # override keys that are neither parameters nor slots
    parent: Parent | None  # what its images are drawn from

    @property
    def has_own_words(self) -> bool:
        """Whether the job says what to draw; one with a parent alone has the parent's words."""
        config = self.job.config
        patterns = [(config.get(group) or {}).get("pattern") for group in ("template", "style")]
        is_bare = config.get("subject") is None and patterns == ["{subject}", "{prompt}"]
        return self.parent is None or not is_bare

    @property
    def parents_prompt(self) -> str | None:
        """The prompt of a job without words of its own."""
        parent = self.parent
        return None if parent is None or self.has_own_words else parent.row["prompt"]

    @property
    def fixed(self) -> dict[str, Scalar]:
        """The axes that rules and zips may name, but for those of the prompt."""
        return {
            **self.others,
            **self.params.asked,
            "model": self.planned.model.name,
            "template": self.template,
            "style": self.style,
        }

    @property
    def content(self) -> str:
        """All that the job's cells depend on: everything but its seeds."""
        config = {key: value for key, value in self.job.config.items() if key != "seeds"}
        return canonical_json([config, self.template, self.style, self.others])


def _frame(job: Job, models: _Models, parents: _Parents) -> _Frame:
    config = job.config
    model_key = models.key(config.get("model"), job.choices.get("model"))
    planned = models.opened[model_key]
    model = planned.model
    given = {k: v for k, v in config.items() if k in model.parameters and k not in RESERVED_KEYS}
    parent = parents.of_job(job, model)
    return _Frame(
        job=job,
        planned=planned,
        model_key=model_key,
        params=models.params(model_key, given, parent is not None),
        template=str(job.choices.get("template") or "plain"),
        style=str(job.choices.get("style") or NO_STYLE),
        seeds=parse_seeds(config.get("seeds", 1)),
        others={
            key: _scalar(value)
            for key, value in job.values.items()
            if key not in OWN_COLUMN_KEYS
            and key not in model.parameters
            and key.split(".")[0] not in SWEEP_KEYS
        },
        parent=parent,
    )


def _cell(frame: _Frame, point: Point, further_axes: Sequence[str], carried: Carried) -> Cell:
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


def _scalar(value: Any) -> Scalar:
    return value if isinstance(value, str | int | float | bool | None) else canonical_json(value)
