"""Frames: what all cells of one job share, its model, parameters, seeds and parent among it.

Takes a job as plain values, returns its frame. Opens each distinct model once, without weights, and
refuses parameters that it would refuse. Knows neither prompts nor cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from promptlab.configs.settings import OWN_COLUMN_KEYS, RESERVED_KEYS, SWEEP_KEYS, Job
from promptlab.errors import ConfigError
from promptlab.identity import canonical_json, hash_id
from promptlab.models.protocol import CompleteModel, Model, normalize_params
from promptlab.planning.parents import Parent
from promptlab.planning.plan import PlannedModel
from promptlab.planning.seeds import parse_seeds
from promptlab.records import Numerics, Scalar

NO_STYLE = "none"


@dataclass
class Models:
    """Opens each distinct model configuration once, and knows the cells' parameters."""

    open_model: Callable[[Mapping[str, Any] | None], Model]
    describe: Callable[[Mapping[str, Any] | None], Numerics] | None = None
    opened: dict[str, PlannedModel] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)
    _last: tuple[Any, str] | None = None
    _params: dict[tuple[Any, ...], Params] = field(default_factory=dict)

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

    def params(self, model_key: str, given: Mapping[str, Any], has_source: bool) -> Params:
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
        params = Params(asked, dict(model.settle(asked)))
        if key:
            self._params[key] = params
        return params


@dataclass
class Parents:
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
class Params:
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
class Frame:
    """What all cells of one job share."""

    job: Job
    planned: PlannedModel
    model_key: str
    params: Params
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


def make_frame(job: Job, models: Models, parents: Parents) -> Frame:
    """Return the frame of a job; raises ConfigError for what its model cannot draw."""
    config = job.config
    model_key = models.key(config.get("model"), job.choices.get("model"))
    planned = models.opened[model_key]
    model = planned.model
    given = {k: v for k, v in config.items() if k in model.parameters and k not in RESERVED_KEYS}
    parent = parents.of_job(job, model)
    return Frame(
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


def _scalar(value: Any) -> Scalar:
    return value if isinstance(value, str | int | float | bool | None) else canonical_json(value)
