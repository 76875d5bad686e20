"""From jobs to the grid of their prompts: templates, styles, slots and their values.

Takes composed jobs and the models they name, returns the language's grid over them. Refuses keys
and slots that nothing asks for or fills. Knows neither Hydra nor seeds; the grammar of a pattern,
counting and expanding are the sweep language's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from promptlab.configs.explain import close_names
from promptlab.configs.settings import RESERVED_KEYS, Job
from promptlab.errors import ConfigError, PromptError
from promptlab.identity import canonical_json
from promptlab.models.protocol import CompleteModel, Model
from promptlab.models.registry import packaged_words
from promptlab.planning.carried import check_not_carried
from promptlab.planning.language import (
    Grid,
    GridOptions,
    JobPattern,
    Pattern,
    Wildcards,
    check_no_flags,
    parse_pattern,
    read_value,
)
from promptlab.records import ROW_COLUMNS, Scalar

RESERVED_NAMES = frozenset(
    {*RESERVED_KEYS, *ROW_COLUMNS, "axes", "image", "path"} - {"subject"}
)  # a prompt's own axes may not be called so: these columns and keys are taken


def read_grid(
    jobs: Sequence[Job],
    models: Sequence[CompleteModel],
    fixed: Sequence[Mapping[str, Scalar]],
    prompts: Sequence[str | None],
    recorded_samples: Mapping[str, Sequence[str]] | None = None,
    project: str = ".",
) -> Grid:
    """Return the grid over all jobs' prompts.

    `models` and `fixed` hold, job by job, the model and the axes that the job has one value of;
    `prompts` the prompts of jobs that take the words of an image, as they stand;
    `recorded_samples` are the values that a resumed run chose when it began.
    """
    config = jobs[0].config  # its options are equal over all jobs, see `settings_from_jobs`
    options = GridOptions.parse(
        **{key: config.get(key) for key in ("sample", "zip", "only", "exclude")}
    )
    check_not_carried(options, config)
    reader = _Reader(project)
    patterns = [
        reader.job_pattern(job, model, axes, prompt)
        for job, model, axes, prompt in zip(jobs, models, fixed, prompts, strict=True)
    ]
    wildcards = config.get("wildcards") or ()
    folders = (wildcards,) if isinstance(wildcards, str) else tuple(map(str, wildcards))
    distinct = list({id(model): model for model in models}.values())
    parameters = {name for model in distinct for name in model.parameters}
    words = packaged_words()
    for model in distinct:
        words.update({name: file for name, file in model.words.items() if file.suffix == ".txt"})
    return Grid(
        patterns,
        options,
        Wildcards.of_project(project, *folders, files=words),
        RESERVED_NAMES | parameters,
        recorded_samples,
    )


@lru_cache(maxsize=65536)
def read_pattern(text: str, source: str) -> Pattern:
    """Return the pattern of a text; a sweep names the same few thousand texts again and again."""
    check_no_flags(text, source)
    return parse_pattern(text, source)


@dataclass
class _Reader:
    """Reads each distinct value once, so that equal jobs share their patterns."""

    project: str
    _files: dict[tuple[str, str], Pattern | None] = field(default_factory=dict)

    def job_pattern(
        self, job: Job, model: Model, fixed: Mapping[str, Scalar], prompt: str | None = None
    ) -> JobPattern:
        """Return one job's pattern and the values of its slots."""
        config = job.config
        template = _pattern(job, "template") if prompt is None else Pattern.literal(prompt)
        style = _pattern(job, "style")
        free = {key: value for key, value in config.items() if key not in RESERVED_KEYS}
        given = {"subject": config.get("subject"), **free}
        values: dict[str, Pattern] = {}
        slots = self._fill_in(values, given, template, style)
        unknown = [
            key
            for key, value in free.items()
            if value is not None and key not in model.parameters and key not in slots
        ]
        if unknown:
            raise _unknown_keys_error(unknown, model, slots, job)
        axes = {name for p in (template, style, *values.values()) for name in p.axis_names}
        unfilled = [slot for slot in slots if slot not in values and slot not in axes]
        if unfilled:
            raise _unfilled_slot_error(unfilled[0], slots, job)
        return JobPattern(style, {**values, "prompt": template}, fixed)

    def _fill_in(
        self,
        values: dict[str, Pattern],
        given: Mapping[str, Any],
        template: Pattern,
        style: Pattern,
    ) -> tuple[str, ...]:
        """Read the values that slots ask for, those inside other values included."""
        slots: dict[str, None] = {}
        open_names = [*template.slots, *(name for name in style.slots if name != "prompt")]
        while open_names:
            name = open_names.pop(0)
            if name in slots:
                continue
            slots[name] = None
            value = self.read(name, given.get(name))
            if value is not None:
                values[name] = value
                open_names.extend(value.slots)
        return tuple(slots)

    def read(self, key: str, value: Any) -> Pattern | None:
        """Return the pattern of a config value; files are read once a sweep."""
        if isinstance(value, str) and value != "???" and not value.startswith("@"):
            return read_pattern(value, key)
        known = (key, canonical_json(value))
        if known not in self._files:
            self._files[known] = read_value(key, value, self.project)
        return self._files[known]


def _pattern(job: Job, group: str) -> Pattern:
    """Return the pattern of the chosen template or style; without one, {subject} or {prompt}."""
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


def _unfilled_slot_error(slot: str, slots: Sequence[str], job: Job) -> PromptError:
    known = ", ".join(f"{{{name}}}" for name in slots)
    example = "subject='a fox'" if slot == "subject" else f"{slot}='…'"
    return PromptError(
        f"The slot {{{slot}}} is not filled. Template {job.choices.get('template')} and style "
        f"{job.choices.get('style')} have the slots {known}. Give it a value: {example}"
    )


def _unknown_keys_error(
    unknown: Sequence[str], model: Model, slots: Sequence[str], job: Job
) -> ConfigError:
    accepted = ", ".join(model.parameters) or "none"
    known = ", ".join(slots) or "none"
    close = close_names(unknown[0], [*RESERVED_KEYS, *model.parameters, *slots])
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return ConfigError(
        f"Unknown key {', '.join(unknown)}.{hint} It is neither a parameter of the model "
        f"{model.name} ({accepted}) nor a slot of template {job.choices.get('template')} and style "
        f"{job.choices.get('style')} ({known})."
    )


def check_prompt(prompt: str, where: str) -> None:
    """Refuse what no store could hold: an empty prompt, NUL, bytes that are not UTF-8."""
    if not prompt.strip():
        raise PromptError(f"The prompt is empty ({where}). Give a subject: subject='a fox'.")
    if "\0" in prompt:
        raise PromptError(
            f"The prompt holds a NUL character at position {prompt.index(chr(0))} ({where}). "
            "Remove it: neither PNG metadata nor MLflow can hold one."
        )
    check_text(prompt, where)


def check_text(text: str, where: str) -> None:
    """Refuse lone surrogates: names of files that are not UTF-8, and escapes in YAML, give them."""
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"{text!r} is not UTF-8 at position {error.start} ({where}). Expected text, or a "
            "file's name, in UTF-8."
        ) from None
