"""From composed jobs to the plan: every cell with its prompt, parameters and ids.

Takes jobs as plain values, returns a Plan. Refuses here, before any weights are loaded, what
could not be drawn: unknown keys, unfilled slots, parameters out of range, empty prompts, too many
images. Does not know Hydra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from promptlab.config import RESERVED_KEYS, Job, Settings
from promptlab.errors import ConfigError, PlanTooLargeError, PromptError
from promptlab.identity import canonical_json, hash_id
from promptlab.language import Pattern
from promptlab.models.protocol import Model, normalize_params
from promptlab.models.registry import open_model
from promptlab.plan import Axis, Plan
from promptlab.prompts import check_prompt, fill_prompt, read_pattern, slot_names
from promptlab.records import Cell, Scalar
from promptlab.seeds import parse_seeds

NO_STYLE = "none"
_OWN_COLUMNS = frozenset({"subject", "style", "template", "model", "seeds"})


def expand(
    jobs: Sequence[Job],
    settings: Settings,
    open_model: Callable[[Mapping[str, Any] | None], Model] = open_model,
) -> Plan:
    """Return the plan of a sweep; jobs that differ in their seeds alone become one cell."""
    models = _Models(open_model)
    further_axes = varying_keys(jobs) - _OWN_COLUMNS
    cells: dict[str, Cell] = {}
    for job in jobs:
        cell = _cell(job, models, further_axes)
        known = cells.get(cell.cell_id)
        if known is not None:
            seeds = tuple(dict.fromkeys(known.seeds + cell.seeds))
            cell = replace(known, seeds=seeds)
        cells[cell.cell_id] = cell
    return make_plan(jobs, settings, tuple(cells.values()), models.opened)


def make_plan(
    jobs: Sequence[Job], settings: Settings, cells: tuple[Cell, ...], models: Mapping[str, Model]
) -> Plan:
    """Return the plan of the given cells, refused if it holds more images than the limit."""
    num_images = sum(len(cell.seeds) for cell in cells)
    if num_images > settings.limit:
        raise PlanTooLargeError(
            f"The sweep holds {num_images:,} images ({len(cells):,} cells), more than its limit of "
            f"{settings.limit:,}. To draw them all add limit={num_images}; --plan shows them."
        )
    content = [[cell.cell_id, list(cell.seeds)] for cell in cells]
    return Plan(
        sweep=settings.name,
        sweep_id=hash_id({"name": settings.name, "cells": content}),
        axes=_axes(jobs, cells),
        cells=cells,
        models={key: models[key] for key in dict.fromkeys(cell.model_key for cell in cells)},
    )


def varying_keys(jobs: Sequence[Job]) -> set[str]:
    """Return the override keys that have more than one value over the jobs."""
    seen: dict[str, Any] = {}
    varying: set[str] = set()
    for job in jobs:
        for key, value in job.values.items():
            if key not in varying and seen.setdefault(key, value) != value:
                varying.add(key)
    return varying


@dataclass
class _Models:
    """Opens each distinct model configuration once, and knows the cells' parameters."""

    open_model: Callable[[Mapping[str, Any] | None], Model]
    opened: dict[str, Model] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)
    _last: tuple[Any, str] | None = None
    _params: dict[tuple[Any, ...], dict[str, Scalar]] = field(default_factory=dict)

    def key(self, node: Any) -> str:
        """Return the model_key of a config node, opening the model at its first use."""
        if self._last is not None and self._last[0] == node:
            return self._last[1]
        text = canonical_json(node)
        if text not in self._keys:
            model = self.open_model(node)
            key = model.name if model.name not in self.opened else f"{model.name}-{hash_id(node)}"
            self.opened[key] = model
            self._keys[text] = key
        self._last = (node, self._keys[text])
        return self._keys[text]

    def params(self, model_key: str, given: Mapping[str, Any]) -> dict[str, Scalar]:
        """Return all sampling parameters in the model's own kinds, defaults filled in."""
        key = (model_key, *((name, type(value), value) for name, value in given.items()))
        try:
            return self._params[key]
        except KeyError:
            pass
        except TypeError:  # an unhashable value: a list where a number is expected
            key = ()
        model = self.opened[model_key]
        params = normalize_params(model.name, model.parameters, given)
        if key:
            self._params[key] = params
        return params


def _cell(job: Job, models: _Models, further_axes: Iterable[str]) -> Cell:
    config = job.config
    model_key = models.key(config.get("model"))
    model = models.opened[model_key]
    template, style = _pattern(job, "template"), _pattern(job, "style")
    free = {key: value for key, value in config.items() if key not in RESERVED_KEYS}
    texts = {
        key: _text(key, value) for key, value in {"subject": config.get("subject"), **free}.items()
    }
    values = {key: read_pattern(text, key) for key, text in texts.items() if text is not None}
    slots = slot_names(template, style, values)
    unknown = [
        key
        for key, value in free.items()
        if key not in model.parameters and key not in slots and value is not None
    ]
    if unknown:
        raise _unknown_keys_error(unknown, model, slots, job)
    unfilled = [slot for slot in slots if slot not in values]
    if unfilled:
        raise _unfilled_slot_error(unfilled[0], slots, job)
    params = models.params(model_key, {k: v for k, v in free.items() if k in model.parameters})
    slot_values = {slot: str(values[slot]) for slot in slots if slot != "subject"}
    prompt = fill_prompt(template, style, values).text
    check_prompt(prompt, f"job {job.number}: {' '.join(job.overrides) or 'no overrides'}")
    subject = texts["subject"] or ""
    style_name = str(job.choices.get("style") or NO_STYLE)
    template_name = str(job.choices.get("template") or "plain")
    axes = {key: _axis_value(key, job, params) for key in further_axes_in_order(job, further_axes)}
    arm = {
        "style": style_name,
        "template": template_name,
        "model": [model.name, model.fingerprint, model.dtype],
        "params": params,
        "slots": slot_values,
        "axes": {k: v for k, v in axes.items() if k not in params and k not in slot_values},
    }
    return Cell(
        cell_id=hash_id({**arm, "subject": subject, "prompt": prompt}),
        arm_id=hash_id(arm),
        job_id=job.number,
        subject=subject,
        style=style_name,
        template=template_name,
        prompt=prompt,
        model=model.name,
        model_key=model_key,
        params=params,
        axes=axes,
        seeds=parse_seeds(config.get("seeds", 1)),
    )


def further_axes_in_order(job: Job, further_axes: Iterable[str]) -> list[str]:
    """Return the further axes in the order of the command line."""
    wanted = set(further_axes)
    return [key for key in job.values if key in wanted]


def _pattern(job: Job, group: str) -> Pattern:
    """Return the pattern of the chosen template or style; without one, what it is put around."""
    node = job.config.get(group)
    inner = "{subject}" if group == "template" else "{prompt}"
    text = inner if node is None else node.get("pattern") if isinstance(node, Mapping) else None
    if not isinstance(text, str):
        raise ConfigError(
            f"The {group} {job.choices.get(group)} has no pattern: expected "
            f"`pattern: … {inner} …` in conf/{group}, got {node!r}."
        )
    pattern = read_pattern(text, f"{group} {job.choices.get(group)}")
    if group == "style" and "prompt" not in pattern.slots:
        raise PromptError(
            f"The style {job.choices.get(group)} has no {{prompt}} in its pattern {text!r}: "
            "it would draw the same picture for every subject."
        )
    return pattern


def _text(key: str, value: Any) -> str | None:
    if value is None or value == "???":
        return None
    if isinstance(value, Mapping | list):
        raise ConfigError(
            f"{key}={value!r}: expected one text or number. To sweep write {key}=a,b."
        )
    return value if isinstance(value, str) else canonical_json(value)


def _unfilled_slot_error(slot: str, slots: Sequence[str], job: Job) -> PromptError:
    known = ", ".join(f"{{{name}}}" for name in slots)
    example = "subject='a fox'" if slot == "subject" else f"+{slot}='…'"
    return PromptError(
        f"The slot {{{slot}}} is not filled. Template {job.choices.get('template')} and style "
        f"{job.choices.get('style')} have the slots {known}. Give it a value: {example}"
    )


def _axis_value(key: str, job: Job, params: Mapping[str, Scalar]) -> Scalar:
    if key in params:
        return params[key]
    value = job.values[key]
    return value if isinstance(value, str | int | float | bool | None) else canonical_json(value)


def _unknown_keys_error(
    unknown: Sequence[str], model: Model, slots: Sequence[str], job: Job
) -> ConfigError:
    accepted = ", ".join(model.parameters) or "none"
    known = ", ".join(slots) or "none"
    return ConfigError(
        f"Unknown key {', '.join(unknown)}: neither a parameter of the model {model.name} "
        f"({accepted}) nor a slot of template {job.choices.get('template')} and style "
        f"{job.choices.get('style')} ({known})."
    )


def _axes(jobs: Sequence[Job], cells: Sequence[Cell]) -> tuple[Axis, ...]:
    """Return the axes that vary, in the order of the command line, the seed last."""
    values: dict[str, dict[Scalar, None]] = {key: {} for key in jobs[0].values}
    fixed: dict[str, Callable[[Cell], Scalar]] = {
        "subject": lambda cell: cell.subject,
        "style": lambda cell: cell.style,
        "template": lambda cell: cell.template,
        "model": lambda cell: cell.model,
    }
    for cell in cells:
        for name, value_of in fixed.items():
            values.setdefault(name, {})[value_of(cell)] = None
        for name, value in cell.axes.items():
            values.setdefault(name, {})[value] = None
    axes = [Axis(name, tuple(found)) for name, found in values.items() if len(found) > 1]
    seeds = dict.fromkeys(seed for cell in cells for seed in cell.seeds)
    if len(seeds) > 1:
        axes.append(Axis("seed", tuple(seeds)))
    return tuple(axes)
